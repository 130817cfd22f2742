"""Transactions: bound to their tenant, undone when they fail, whatever has died in the pool."""

import asyncio
import random
import string

import psycopg
import pytest

from chassis.base.errors import UnavailableError
from chassis.base.postgres import migrate, open_database
from chassis.events.inbox import Inbox, forget_old

TENANT = "acme"
POOL = 3


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
            await tx.execute(
                "INSERT INTO inbox (tenant_id, consumer, event_id) VALUES ('acme', 'c', 'cut off')"
            )
            end_all(postgres)
            await tx.execute("SELECT 1")
    assert refusal.value.reason == "DATABASE_UNAVAILABLE"
    async with database.transaction(TENANT) as tx:
        found = await tx.execute("SELECT 1 FROM inbox WHERE event_id = 'cut off'")
        assert await found.fetchone() is None


async def test_a_body_that_fails_leaves_nothing_and_a_connection_fit_for_the_next(database):
    for _ in range(POOL + 1):
        with pytest.raises(RuntimeError):
            async with database.transaction(TENANT) as tx:
                await tx.execute(
                    "INSERT INTO inbox (tenant_id, consumer, event_id) VALUES ('acme', 'c', 'x')"
                )
                raise RuntimeError
    async with database.transaction(TENANT) as tx:
        found = await tx.execute("SELECT 1 FROM inbox WHERE event_id = 'x'")
        assert await found.fetchone() is None


async def test_data_that_does_not_fit_is_no_absence(database):
    huge = "".join(random.Random(1).choices(string.printable, k=9_000))  # nothing to compress
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        async with database.transaction(TENANT) as tx:
            await tx.execute(
                "INSERT INTO inbox (tenant_id, consumer, event_id) VALUES ('acme', 'c', %s)", [huge]
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
            await tx.execute(
                "INSERT INTO inbox (tenant_id, consumer, event_id) VALUES ('acme', 'c', 'x')"
            )
    assert refusal.value.reason == "DATABASE_UNAVAILABLE"


async def test_old_inbox_rows_are_forgotten_and_young_ones_kept(database, postgres):
    postgres.truncate("query")
    for event_id in ("old", "young"):
        async with Inbox(database, "c").once(TENANT, event_id):
            pass
    async with database.transaction(TENANT) as tx:
        await tx.execute("UPDATE inbox SET handled_at = '2026-01-01' WHERE event_id = 'old'")
    assert await forget_old(database, 3_600) == 1
    async with database.transaction(TENANT) as tx:
        cursor = await tx.execute("SELECT event_id FROM inbox")
        assert [row["event_id"] for row in await cursor.fetchall()] == ["young"]


@pytest.mark.parametrize("statement", ["SELECT 1 FROM later", "SELECT later FROM inbox"])
async def test_a_schema_older_than_the_software_is_waited_out(database, statement):
    with pytest.raises(UnavailableError) as refusal:
        async with database.transaction(TENANT) as tx:
            await tx.execute(statement)
    assert refusal.value.reason == "SCHEMA_MISSING"
