"""What is read to find a few documents does not grow with their tenant."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sized

import psycopg
import pytest
from psycopg.rows import DictRow

from chassis.base.postgres import Database, Transaction
from ingest.checks import Check
from ingest.domain import Draft, Object, Origin, State
from ingest.labels import Labels
from ingest.store.checks import PostgresChecks
from ingest.store.deletions import PostgresDeletions
from ingest.store.documents import PostgresDocuments
from ingest.store.duplicates import PostgresDuplicates
from ingest.store.labels import PostgresLabels
from ingest.usecases.documents.duplicates import SAME_MAX
from ingest.usecases.rows import Addition
from services.ingest.tests.conftest import TENANT

# Of a small table the planner reads all.
DOCUMENTS = 4_000
WANTED = [f"collections/reports/documents/{number}" for number in range(1, 6)]

_FILL_DOCUMENTS = """
INSERT INTO ingest.documents (tenant_id, name, latest_version, upload_order)
SELECT %s, 'collections/reports/documents/' || number, 1, number
FROM generate_series(1, %s) AS number
"""
_FILL_VERSIONS = """
INSERT INTO ingest.versions (tenant_id, document, version, state, title, file_name,
    media_type_hint, metadata, size_bytes, sha256, object_key, source, upload_event_id,
    correlation_id, trace_id, step_due_at)
SELECT %s, 'collections/reports/documents/' || number, 1, 'PREPARED', '', '', '', '{}', 1,
    lpad(number::text, 64, '0'), '', '', '', '', '', clock_timestamp() + interval '1 hour'
FROM generate_series(1, %s) AS number
"""
_READ = """
SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) AS read
FROM pg_stat_xact_user_tables WHERE schemaname = 'ingest' AND relname IN ('documents', 'versions')
"""

Lookup = Callable[[Transaction], Awaitable[Sized]]
LOOKUPS: dict[str, Lookup] = {
    "newest": lambda tx: PostgresDocuments(tx, TENANT).list_newest(WANTED),
    "versions": lambda tx: PostgresDocuments(tx, TENANT).list_versions(dict.fromkeys(WANTED, 1)),
    "lock": lambda tx: PostgresDocuments(tx, TENANT).lock_versions([(name, 1) for name in WANTED]),
    "check": lambda tx: PostgresChecks(tx, TENANT).compare(
        [Check(name=name, sha256="f" * 64, metadata={}) for name in WANTED]
    ),
}


async def _add(tx: Transaction) -> None:
    """A second version of each."""
    additions = [
        Addition(
            draft=Draft(tenant=TENANT, name=name, metadata={}, origin=Origin()),
            number=2,
            stored=Object(key="", size_bytes=1, sha256="f" * 64),
            content=b"x",
            prepared=None,
            password=None,
            wait_s=60.0,
        )
        for name in WANTED
    ]
    assert len(await PostgresDocuments(tx, TENANT).add(additions)) == len(WANTED)


async def _index(tx: Transaction) -> None:
    documents = PostgresDocuments(tx, TENANT)
    versions = await documents.list_versions(dict.fromkeys(WANTED, 1))
    await documents.index(list(versions.values()))
    newest = await documents.list_newest(WANTED)
    found = {(view.entry.live_version, view.version.state) for view in newest}
    assert found == {(1, State.INDEXED)}


async def _hide(tx: Transaction) -> None:
    await PostgresDeletions(tx, TENANT).mark_hidden([(name, 1) for name in WANTED])
    newest = await PostgresDocuments(tx, TENANT).list_newest(WANTED)
    assert [view.entry.hidden_version for view in newest] == [1] * len(WANTED)


async def _confirm_labels(tx: Transaction) -> None:
    labels = Labels(names=(), order=0)
    await PostgresLabels(tx, TENANT).confirm([(name, labels) for name in WANTED])


CHANGES = {"add": _add, "index": _index, "hide": _hide, "confirm labels": _confirm_labels}


@pytest.fixture
async def tx(
    database: Database, everything: psycopg.Connection[DictRow]
) -> AsyncIterator[Transaction]:
    """A transaction of a tenant of which the planner has no statistics, with many documents."""
    # Rows that earlier tests deleted would count for the planner.
    everything.execute("TRUNCATE ingest.documents, ingest.versions CASCADE")
    for tenant in ("another", TENANT):
        everything.execute(_FILL_DOCUMENTS, [tenant, DOCUMENTS])
        everything.execute(_FILL_VERSIONS, [tenant, DOCUMENTS])
        if tenant != TENANT:
            everything.execute("ANALYZE ingest.documents, ingest.versions")
    async with database.transaction(TENANT) as tx:
        yield tx


@pytest.mark.parametrize("lookup", LOOKUPS)
async def test_a_few_documents_are_looked_up_by_their_keys(tx: Transaction, lookup: str):
    before = await _count_read(tx)
    found = await LOOKUPS[lookup](tx)
    assert len(found) == len(WANTED)
    assert await _count_read(tx) - before <= 4 * len(WANTED)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_few_documents_are_changed_by_their_keys(tx: Transaction, change: str):
    before = await _count_read(tx)
    await CHANGES[change](tx)
    assert await _count_read(tx) - before <= 8 * len(WANTED)


async def _count_read(tx: Transaction) -> int:
    """Rows of documents and versions that the transaction has read."""
    row = await (await tx.execute(_READ)).fetchone()
    assert row is not None
    return int(row["read"])


@pytest.mark.parametrize("copies", [0, DOCUMENTS])
@pytest.mark.parametrize("collection", ["minutes", "reports"])
async def test_documents_with_the_same_bytes_are_found_by_them(
    tx: Transaction, collection: str, copies: int
):
    digest, name = "a" * 64, f"collections/{collection}/documents/new"
    for statement in (_FILL_DOCUMENTS, _FILL_VERSIONS):
        copied = statement.replace("documents/'", "documents/copy'")
        await tx.execute(
            copied.replace("lpad(number::text, 64, '0')", f"'{digest}'"), [TENANT, copies]
        )
    await tx.execute(
        "INSERT INTO ingest.documents (tenant_id, name, latest_version, upload_order)"
        " VALUES (%s, %s, 1, 1)",
        [TENANT, name],
    )
    before = await _count_read(tx)
    found = await PostgresDuplicates(tx, TENANT).list_same({name: digest})
    assert len(found.get(name, ())) == min(copies, SAME_MAX)
    assert await _count_read(tx) - before <= 10 * SAME_MAX
