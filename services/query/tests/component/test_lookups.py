"""What is read to change a few documents does not grow with their tenant."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.rows import DictRow

from chassis.base.postgres import Database, Transaction
from query.domain import Version
from query.labels import Labels
from query.store.rows import PostgresRows

from .conftest import TENANT

# Of a small table the planner reads all.
DOCUMENTS = 4_000
WANTED = [
    Version(document=f"collections/manuals/documents/{number}", number=1) for number in range(1, 6)
]

_FILL = """
INSERT INTO query.documents (tenant_id, document, collection)
SELECT %s, 'collections/manuals/documents/' || number, 'collections/manuals'
FROM generate_series(1, %s) AS number
"""
_READ = """
SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS read
FROM pg_stat_xact_user_tables WHERE schemaname = 'query' AND relname = 'documents'
"""


async def _go_live(rows: PostgresRows) -> None:
    await rows.go_live_first(WANTED)
    standings = await rows.lock_all(WANTED)
    assert {standing.live_version for standing in standings.values()} == {1}


async def _label(rows: PostgresRows) -> None:
    labels = Labels(names=("hr",), order=1)
    await rows.label([(version.document, labels) for version in WANTED])
    assert (await rows.share_attributes(WANTED[0].document)).labels == labels.names


CHANGES = {"go live": _go_live, "label": _label}


@pytest.fixture
async def tx(
    database: Database, everything: psycopg.Connection[DictRow]
) -> AsyncIterator[Transaction]:
    """A transaction of a tenant of which the planner has no statistics, with many documents."""
    everything.execute("TRUNCATE query.documents CASCADE")
    for tenant in ("another", TENANT):
        everything.execute(_FILL, [tenant, DOCUMENTS])
        if tenant != TENANT:
            everything.execute("ANALYZE query.documents")
    async with database.transaction(TENANT) as tx:
        yield tx


@pytest.mark.parametrize("change", CHANGES)
async def test_a_few_documents_are_changed_by_their_keys(tx: Transaction, change: str):
    before = await _count_read(tx)
    await CHANGES[change](PostgresRows(tx, TENANT))
    assert await _count_read(tx) - before <= 8 * len(WANTED)


async def _count_read(tx: Transaction) -> int:
    """Rows of documents that the transaction has read."""
    row = await (await tx.execute(_READ)).fetchone()
    assert row is not None
    return int(row["read"])
