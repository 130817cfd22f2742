"""The database itself keeps tenants apart, whatever the code above it does."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from chassis.base.postgres import Database, open_database
from testkit.servers import TestDatabase

TENANT_TABLES = (
    "tenants",
    "tenant_deletions",
    "keys",
    "revocations",
    "audit",
    "outbox",
    "inbox",
    "deleted_tenants",
)
TENANTS = ("acme", "globex")
WRITES = {
    "tenants": "UPDATE tenants SET display_name = 'x'",
    "keys": "UPDATE keys SET revoked_at = now()",
    "revocations": "UPDATE revocations SET revoked_at = now()",
    "outbox": "UPDATE outbox SET document = 'x'",
    "inbox": "UPDATE inbox SET handled_at = now()",
}
INSERTS = {
    "tenants": "INSERT INTO tenants VALUES ('{name}', 'x', now(), NULL)",
    "keys": "INSERT INTO keys VALUES ('{number}', '{name}', 'p', 'd', '{{ask}}',"
    " decode(repeat('00', 32), 'hex'), 1, NULL, now(), now() + interval '1 day', NULL)",
    "revocations": "INSERT INTO revocations VALUES ({number}, '{name}', NULL, now())",
    "audit": "INSERT INTO audit (tenant_id, acted_at, actor_tenant, actor_principal, actor_key_id,"
    " act, subject) VALUES ('{name}', now(), 'a', 'b', 'c', 'd', 'e')",
    "outbox": "INSERT INTO outbox (tenant_id, document, event, subject, headers, payload, place)"
    " VALUES ('{name}', '', 'e', 's', '{{}}', '', now())",
    "inbox": "INSERT INTO inbox (tenant_id, key) VALUES ('{name}', gen_random_uuid())",
    "tenant_deletions": "INSERT INTO tenant_deletions (tenant_id, sent_at, requested_at)"
    " VALUES ('{name}', now(), now())",
    "deleted_tenants": "INSERT INTO deleted_tenants (tenant_id) VALUES ('{name}')",
}


@pytest.fixture(scope="module")
def full(migrated: TestDatabase) -> TestDatabase:
    """A row of each tenant in every table; no test of this module leaves one more or less."""
    migrated.clear("auth")
    with psycopg.connect(migrated.superuser_dsn, options="-c search_path=auth") as connection:
        for number, name in enumerate(TENANTS):
            for statement in INSERTS.values():
                connection.execute(statement.format(name=name, number=number))
    return migrated


@pytest.fixture
async def database(full: TestDatabase) -> AsyncIterator[Database]:
    async with open_database(full.dsn("auth"), "auth", 2) as database:
        yield database


@pytest.fixture
def everything(full: TestDatabase) -> Iterator[psycopg.Connection[DictRow]]:
    with psycopg.connect(
        full.superuser_dsn, row_factory=dict_row, options="-c search_path=auth"
    ) as connection:
        yield connection


def count(connection: psycopg.Connection[DictRow], table: str) -> int:
    row = connection.execute(
        sql.SQL("SELECT count(*) AS rows FROM {}").format(sql.Identifier(table))
    ).fetchone()
    assert row is not None
    return int(row["rows"])


def test_every_tenant_table_forces_its_policies(everything: psycopg.Connection[DictRow]) -> None:
    rows = everything.execute(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
        " WHERE c.relnamespace = 'auth'::regnamespace AND c.relkind IN ('r', 'p')"
    ).fetchall()
    assert {row["relname"] for row in rows} == set(TENANT_TABLES)
    assert all(row["forced"] for row in rows)


def test_service_owns_nothing_and_bypasses_nothing(
    everything: psycopg.Connection[DictRow],
) -> None:
    roles = everything.execute(
        "SELECT rolname, rolsuper OR rolbypassrls AS mighty FROM pg_roles"
        " WHERE rolname IN ('auth', 'auth_sweeper')"
    ).fetchall()
    assert {row["rolname"] for row in roles} == {"auth", "auth_sweeper"}
    assert not any(row["mighty"] for row in roles)
    owners = everything.execute(
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'auth'"
    ).fetchall()
    assert [row["tableowner"] for row in owners] == ["auth_owner"]


@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_only_the_tenants_own_rows_are_there(database: Database, table: str) -> None:
    query = sql.SQL("SELECT DISTINCT tenant_id FROM {}").format(sql.Identifier(table))
    for tenant, seen in (("acme", ["acme"]), ("globex", ["globex"]), ("nobody", []), ("", [])):
        async with database.transaction(tenant) as tx:
            rows = await (await tx.execute(query)).fetchall()
        assert [row["tenant_id"] for row in rows] == seen


@pytest.mark.parametrize("table", TENANT_TABLES)
def test_without_a_tenant_there_are_no_rows(full: TestDatabase, table: str) -> None:
    with psycopg.connect(full.dsn("auth")) as connection:
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
        ).fetchone()
    assert row == (0,)


@pytest.mark.parametrize("table", WRITES)
async def test_writes_reach_the_tenants_own_rows_alone(database: Database, table: str) -> None:
    async with database.transaction("acme") as tx:
        assert (await tx.execute(WRITES[table])).rowcount == 1


@pytest.mark.parametrize("table", INSERTS)
async def test_nothing_is_written_for_another_tenant(database: Database, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        async with database.transaction("acme") as tx:
            await tx.execute(INSERTS[table].format(name="intruder", number=99))


@pytest.mark.parametrize("table", ["tenants", "keys", "revocations"])
async def test_sweep_reads_all_and_writes_nothing(
    database: Database, everything: psycopg.Connection[DictRow], table: str
) -> None:
    async with database.sweep() as tx:
        rows = await (
            await tx.execute(sql.SQL("SELECT tenant_id FROM {}").format(sql.Identifier(table)))
        ).fetchall()
        assert {row["tenant_id"] for row in rows} == set(TENANTS)
        assert (await tx.execute(WRITES[table])).rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with database.sweep() as tx:
            await tx.execute(INSERTS[table].format(name="intruder", number=99))
    assert count(everything, table) == len(TENANTS)


async def test_audit_is_only_ever_added_to(database: Database) -> None:
    for statement in ("UPDATE audit SET act = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with database.transaction("acme") as tx:
                await tx.execute(statement)
    async with database.sweep() as tx:
        assert await (await tx.execute("SELECT * FROM audit")).fetchall() == []


def test_without_asking_for_it_nobody_sweeps(full: TestDatabase) -> None:
    with psycopg.connect(full.dsn("auth")) as connection:
        connection.execute("SELECT set_config('app.tenant', 'acme', true)")
        rows = connection.execute("SELECT tenant_id FROM keys").fetchall()
        assert rows == [("acme",)]
        connection.execute("SET LOCAL ROLE auth_sweeper")
        assert len(connection.execute("SELECT tenant_id FROM keys").fetchall()) == len(TENANTS)
