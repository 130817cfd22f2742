"""Transactions: bound to their tenant, undone when they fail, whatever has died in the pool."""

import asyncio
import random
import string
import uuid

import psycopg
import pytest

from chassis.base.errors import UnavailableError
from chassis.base.labels import hold
from chassis.base.postgres import migrate, open_database
from chassis.base.tenants import TenantDeletedError
from chassis.events.inbox import forget_old

TENANT = "acme"
POOL = 3
KEY = uuid.uuid4()
NOTE = "INSERT INTO inbox (tenant_id, key) VALUES ('acme', %s)"


@pytest.fixture
async def database(postgres):
    migrate(postgres.dsn("query_owner"), "query", ["chassis"])
    async with open_database(postgres.dsn("query"), "query", POOL) as opened:
        yield opened


async def tenant_seen(database, tenant: str) -> str:
    async with database.transaction(tenant) as tx:
        row = await (await tx.execute("SELECT current_setting('app.tenant') AS seen")).fetchone()
    return row["seen"]


def end_all(postgres) -> int:
    """Ends every connection of the service, as a restart of the server does."""
    with psycopg.connect(postgres.superuser_dsn) as connection:
        return connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'aquifer-query'"
        ).rowcount


async def test_a_transaction_is_bound_to_its_tenant_and_to_nothing_before(database):
    for tenant in ("acme", "globex", "o'neill; DROP TABLE inbox"):
        assert await tenant_seen(database, tenant) == tenant
    async with database.sweep() as tx:
        row = await (await tx.execute("SELECT current_setting('app.tenant', true) AS t")).fetchone()
    assert not row["t"]


async def test_connections_that_died_in_the_pool_are_no_callers_business(database, postgres):
    async with database.transaction(TENANT), database.transaction(TENANT):
        pass
    assert end_all(postgres) >= 2
    for _ in range(POOL):
        assert await tenant_seen(database, TENANT) == TENANT


async def test_a_transaction_whose_connection_dies_has_no_effect(database, postgres):
    with pytest.raises(UnavailableError) as refusal:
        async with database.transaction(TENANT) as tx:
            await tx.execute(NOTE, [KEY])
            end_all(postgres)
            await tx.execute("SELECT 1")
    assert refusal.value.reason == "DATABASE_UNAVAILABLE"
    async with database.transaction(TENANT) as tx:
        found = await tx.execute("SELECT 1 FROM inbox WHERE key = %s", [KEY])
        assert await found.fetchone() is None


async def test_a_body_that_fails_leaves_nothing_and_a_connection_fit_for_the_next(database):
    for _ in range(POOL + 1):
        with pytest.raises(RuntimeError):
            async with database.transaction(TENANT) as tx:
                await tx.execute(NOTE, [KEY])
                raise RuntimeError
    async with database.transaction(TENANT) as tx:
        found = await tx.execute("SELECT 1 FROM inbox WHERE key = %s", [KEY])
        assert await found.fetchone() is None


async def test_data_that_does_not_fit_is_no_absence(database):
    huge = "".join(random.Random(1).choices(string.printable, k=9_000))  # nothing to compress
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        async with database.transaction(TENANT) as tx:
            await tx.execute(
                "INSERT INTO outbox (tenant_id, document, event, subject, headers, payload, place)"
                " VALUES ('acme', %s, '', '', '{}', '', now())",
                [huge],
            )


async def test_a_transaction_that_slept_too_long_is_an_absence(database):
    with pytest.raises(UnavailableError) as refusal:
        async with database.transaction(TENANT) as tx:
            await tx.execute("SET LOCAL idle_in_transaction_session_timeout = 50")
            await asyncio.sleep(0.5)
            await tx.execute("SELECT 1")
    assert refusal.value.reason == "DATABASE_UNAVAILABLE"


async def test_a_primary_that_is_one_no_more_is_an_absence(database):
    with pytest.raises(UnavailableError) as refusal:
        async with database.transaction(TENANT) as tx:
            await tx.execute("SET LOCAL transaction_read_only = on")
            await tx.execute(NOTE, [KEY])
    assert refusal.value.reason == "DATABASE_UNAVAILABLE"


async def test_old_inbox_rows_are_forgotten_and_young_ones_kept(database, postgres):
    postgres.clear("query")
    young, old = uuid.uuid4(), uuid.uuid4()
    async with database.transaction(TENANT) as tx:
        await tx.execute(NOTE, [young])
        await tx.execute(NOTE, [old])
        await tx.execute("UPDATE inbox SET handled_at = '2026-01-01' WHERE key = %s", [old])
    assert await forget_old(database, 3_600) == 1
    async with database.transaction(TENANT) as tx:
        cursor = await tx.execute("SELECT key FROM inbox")
        assert [row["key"] for row in await cursor.fetchall()] == [young]


@pytest.mark.parametrize("statement", ["SELECT 1 FROM later", "SELECT later FROM inbox"])
async def test_a_schema_older_than_the_software_is_waited_out(database, statement):
    with pytest.raises(UnavailableError) as refusal:
        async with database.transaction(TENANT) as tx:
            await tx.execute(statement)
    assert refusal.value.reason == "SCHEMA_MISSING"


async def delete_tenant(database, tenant: str) -> None:
    async with database.remove(tenant) as tx:
        await tx.execute("INSERT INTO deleted_tenants (tenant_id) VALUES (%s)", [tenant])


async def test_a_deleted_tenant_is_not_entered(database):
    async with database.enter("here"), database.enter("here"):
        pass
    await delete_tenant(database, "gone")
    for _ in range(POOL + 1):
        with pytest.raises(TenantDeletedError):
            async with database.enter("gone"):
                pytest.fail("entered")
    async with database.enter("here"), database.transaction("gone"), database.remove("gone"):
        pass


@pytest.mark.parametrize("begin", ["transaction", "enter"])
@pytest.mark.parametrize(
    ("held", "seen"), [(None, ""), (frozenset(), ","), (frozenset({"hr", "eng"}), ",eng,hr")]
)
async def test_a_transaction_of_a_call_has_the_labels_of_its_sender(database, begin, held, seen):
    hold(held)
    try:
        async with getattr(database, begin)("here") as tx:
            cursor = await tx.execute("SELECT current_setting('app.labels', true) AS labels")
            assert ((await cursor.fetchone())["labels"] or "") == seen
    finally:
        hold(None)


async def test_a_removal_is_alone_with_its_tenant(database):
    async with database.enter("left"):
        removal = asyncio.create_task(delete_tenant(database, "left"))
        await asyncio.sleep(0.2)
        assert not removal.done()
        async with database.enter("right"):
            pass
    await removal
    with pytest.raises(TenantDeletedError):
        async with database.enter("left"):
            pytest.fail("entered")
