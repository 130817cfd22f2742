"""The database itself keeps tenants apart, whatever the code above it does."""

import numpy as np
import psycopg
import pytest
from psycopg import sql

from query.conversation import Owner, Settings
from query.domain import Version
from query.prompt import Content
from query.usecases.send_message import NewMessage

TENANT_TABLES = (
    "documents",
    "progress",
    "passages",
    "passage_vectors",
    "descriptions",
    "removed_versions",
    "superseded_versions",
    "relabelled_documents",
    "purges",
    "answers",
    "answer_sources",
    "conversations",
    "messages",
    "prompts",
    "prompt_versions",
    "inbox",
    "outbox",
    "deleted_tenants",
)
SWEPT = (
    *("documents", "progress", "removed_versions", "superseded_versions", "relabelled_documents"),
    *("answers", "conversations"),
)
# Of which the sweep sees the tenants alone.
TENANTS_SWEPT = ("answers", "conversations")
HIDDEN_FROM_SWEEP = (
    "passages",
    "passage_vectors",
    "descriptions",
    "purges",
    "answer_sources",
    "messages",
    "prompts",
    "prompt_versions",
)


async def send_message(world, tenant: str) -> None:
    owner = Owner(tenant=tenant, principal="user:ada")
    made = await world.conversations.create(owner, Settings())
    message = NewMessage(
        owner=owner, held=None, conversation_id=made.conversation_id, question="impeller"
    )
    assert [step async for step in world.send.run(message, "1" * 32)]


@pytest.fixture
async def full(world):
    """Two tenants with a row at least in every table."""
    for tenant in ("acme", "globex"):
        await world.deliver(world.embedded("impeller old", tenant=tenant))
        await world.deliver(world.embedded("impeller new", version=2, tenant=tenant))
        await world.deliver(
            world.embedded("part", version=3, batch_count=2, chunk_count=2, tenant=tenant)
        )
        inquiry = world.inquiry("impeller", tenant=tenant)
        assert [step async for step in world.ask.run(inquiry, "1" * 32)]
        await send_message(world, tenant)
        await world.prompts.create(tenant, "support", Content(template="Be kind."), "user:ada")
        [[point_id, _], *_] = await world.ledger.list_passages(tenant, None, 1)
        async with world.begin(tenant) as work:
            await work.rows.put_vectors("another", {point_id: np.ones(2, np.float32)})
            await work.rows.begin_purge(
                Version(document="collections/manuals/documents/gone", number=1), 1
            )
    for tenant in ("acme", "globex"):
        world.everything.execute(
            "INSERT INTO deleted_tenants (tenant_id, finished_at) VALUES (%s, now())", [tenant]
        )
        world.everything.execute(
            "INSERT INTO relabelled_documents (tenant_id, document) VALUES (%s, 'one')", [tenant]
        )
        world.everything.execute(
            "INSERT INTO superseded_versions (tenant_id, document, version, superseded_at)"
            " VALUES (%s, 'one', 1, now())",
            [tenant],
        )
    return world


def test_every_tenant_table_forces_its_policies(everything):
    rows = everything.execute(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
        " WHERE c.relnamespace = 'query'::regnamespace AND c.relkind IN ('r', 'p')"
    ).fetchall()
    assert {row["relname"] for row in rows} == set(TENANT_TABLES)
    assert all(row["forced"] for row in rows)


async def test_a_tenant_sees_its_own_rows_alone(full):
    for table in TENANT_TABLES:
        query = sql.SQL("SELECT DISTINCT tenant_id FROM {}").format(sql.Identifier(table))
        for tenant, seen in (("acme", ["acme"]), ("globex", ["globex"]), ("", []), ("nobody", [])):
            async with full.database.transaction(tenant) as tx:
                rows = await (await tx.execute(query)).fetchall()
            assert [row["tenant_id"] for row in rows] == seen, table


async def test_without_a_tenant_there_are_no_rows(full, tables):
    with psycopg.connect(tables.dsn("query")) as connection:
        for table in TENANT_TABLES:
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
            assert connection.execute(query).fetchone() == (0,), table


async def test_nothing_is_written_for_another_tenant(full):
    for table in TENANT_TABLES:
        query = sql.SQL("UPDATE {} SET tenant_id = 'globex'").format(sql.Identifier(table))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            async with full.database.transaction("acme") as tx:
                await tx.execute(query)


async def test_a_sweep_finds_work_and_reads_no_text(full):
    async with full.database.sweep() as tx:
        for table in (*SWEPT, *HIDDEN_FROM_SWEEP):
            query = sql.SQL("SELECT DISTINCT tenant_id FROM {}").format(sql.Identifier(table))
            rows = await (await tx.execute(query)).fetchall()
            seen = {row["tenant_id"] for row in rows}
            assert seen == ({"acme", "globex"} if table in SWEPT else set()), table


@pytest.mark.parametrize("table", TENANTS_SWEPT)
@pytest.mark.parametrize("statement", ["SELECT * FROM {}", "DELETE FROM {}"])
async def test_a_sweep_sees_whose_they_are_and_nothing_else(full, table, statement):
    query = sql.SQL(statement).format(sql.Identifier(table))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with full.database.sweep() as tx:
            await tx.execute(query)


async def test_every_tenant_is_found_by_the_sweep(full):
    for number in range(5):
        await full.hide.run(
            f"tenant-{number}", Version(document="collections/c/documents/d", number=1)
        )
    assert sorted(await full.ledger.list_tenants()) == sorted(
        ["acme", "globex", *(f"tenant-{number}" for number in range(5))]
    )
