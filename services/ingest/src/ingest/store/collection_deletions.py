"""Deletions of collections of one tenant."""

from collections.abc import Sequence
from typing import Any, Final

from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.store import rows
from ingest.store.statements import SHARE_COLLECTIONS
from ingest.usecases.deletion.deletions import CollectionDeletions
from ingest.usecases.rows import CollectionDeletion, Cut, Tombstone

# Uploads hold the same lock shared until they commit, see `statements.SHARE_COLLECTIONS`.
_EXCLUDE_UPLOADS: Final = """
SELECT pg_advisory_xact_lock(hashtextextended(%(tenant)s || '/' || %(id)s, 0))
"""

_INCLUDES: Final = f"""
SELECT EXISTS (SELECT FROM documents d
    WHERE d.tenant_id = %(tenant)s AND d.name = %(document)s
        AND d.latest_version > d.tombstone_version AND d.upload_order <= {rows.CUT}) AS included
"""  # noqa: S608

# Unfinished uploads, and descriptions that were kept for uploads that never came.
_REMOVE_UNFINISHED: Final = """
WITH removed AS (
    DELETE FROM upload_sessions
    WHERE tenant_id = %(tenant)s AND document > %(after)s AND document < %(before)s
    RETURNING upload_id
), forgotten AS (
    UPDATE documents SET description = '{}'
    WHERE tenant_id = %(tenant)s AND name > %(after)s AND name < %(before)s
        AND latest_version = tombstone_version AND description <> '{}'
)
DELETE FROM upload_parts
WHERE tenant_id = %(tenant)s AND upload_id IN (SELECT upload_id FROM removed)
"""

# After everything that was uploaded, whose order may be ahead of the database's clock. A delete of
# a single document that is still going on belongs to it too.
_ADD: Final = f"""
WITH added AS (
    INSERT INTO collection_deletions (tenant_id, collection_id, number, upload_order)
    SELECT %(tenant)s, %(id)s,
        (SELECT coalesce(max(number), 0) + 1 FROM collection_deletions
         WHERE tenant_id = %(tenant)s AND collection_id = %(id)s),
        greatest({rows.NOW_NS}, (
            SELECT max(upload_order) FROM documents
            WHERE tenant_id = %(tenant)s AND name > %(after)s AND name < %(before)s))
    RETURNING number
)
UPDATE versions SET collection_deletion = added.number FROM added
WHERE tenant_id = %(tenant)s AND document > %(after)s AND document < %(before)s
    AND state = 'DELETING' AND step_due_at IS NOT NULL AND collection_deletion = 0
"""  # noqa: S608  (constants of this package)

_FIND_LAST: Final = """
WITH last AS (
    SELECT * FROM collection_deletions
    WHERE tenant_id = %(tenant)s AND collection_id = %(id)s ORDER BY number DESC LIMIT 1
)
SELECT last.*, CASE WHEN finished_at IS NULL THEN (
    SELECT count(*) FROM documents d
    WHERE d.tenant_id = %(tenant)s AND d.name > %(after)s AND d.name < %(before)s
        AND d.latest_version > d.tombstone_version AND d.upload_order <= last.upload_order
) ELSE 0 END AS unmarked, CASE WHEN finished_at IS NULL THEN (
    SELECT count(*) FROM versions v
    WHERE v.tenant_id = %(tenant)s AND v.document > %(after)s AND v.document < %(before)s
        AND v.state = 'DELETING' AND v.collection_deletion = last.number
) ELSE 0 END AS deleting, CASE WHEN finished_at IS NULL THEN (
    SELECT count(*) FROM versions v
    WHERE v.tenant_id = %(tenant)s AND v.document > %(after)s AND v.document < %(before)s
        AND v.collection_deletion > 0 AND v.collection_deletion = last.number
) ELSE documents END AS marked
FROM last
"""

# If it waits for a lock, it looks at the document again afterwards.
_LOCK_UNMARKED: Final = """
SELECT d.name, d.latest_version FROM documents d
WHERE d.tenant_id = %(tenant)s AND d.name > %(from)s AND d.name < %(before)s
    AND d.latest_version > d.tombstone_version AND d.upload_order <= %(upload_order)s
ORDER BY d.name LIMIT %(limit)s FOR UPDATE
"""

_LIST_SHOWN: Final = """
SELECT d.name, d.tombstone_version FROM documents d
WHERE d.tenant_id = %(tenant)s AND d.name > %(from)s AND d.name < %(before)s
    AND d.hidden_version < d.tombstone_version
ORDER BY d.name LIMIT %(limit)s
"""

_MARK_HIDDEN: Final = """
UPDATE collection_deletions SET hidden = true
WHERE tenant_id = %(tenant)s AND collection_id = %(id)s AND number = %(number)s
"""

# The receipt of a document is at the version that its last tombstone went up to.
_FINISH: Final = """
UPDATE collection_deletions AS d
SET finished_at = clock_timestamp(), documents = removed.documents, receipt = removed.receipt
FROM (
    SELECT count(*) AS documents, jsonb_build_object(
        'objects', coalesce(sum((r.receipt->>'objects')::bigint), 0),
        'chunks', coalesce(sum((r.receipt->>'chunks')::bigint), 0),
        'passages', coalesce(sum((r.receipt->>'passages')::bigint), 0),
        'points', coalesce(sum((r.receipt->>'points')::bigint), 0),
        'outbox_rows', coalesce(sum((r.receipt->>'outbox_rows')::bigint), 0),
        'dead_letters', coalesce(sum((r.receipt->>'dead_letters')::bigint), 0),
        'redacted_answers', coalesce(sum((r.receipt->>'redacted_answers')::bigint), 0),
        'signatures', coalesce(sum((r.receipt->>'signatures')::bigint), 0)) AS receipt
    FROM versions v CROSS JOIN LATERAL (
        SELECT receipt FROM versions
        WHERE tenant_id = v.tenant_id AND document = v.document AND version >= v.version
            AND receipt IS NOT NULL
        ORDER BY version LIMIT 1
    ) AS r
    WHERE v.tenant_id = %(tenant)s AND v.document > %(after)s AND v.document < %(before)s
        AND v.collection_deletion > 0 AND v.collection_deletion = %(number)s
) AS removed
WHERE d.tenant_id = %(tenant)s AND d.collection_id = %(id)s AND d.number = %(number)s
    AND d.hidden AND d.finished_at IS NULL
    AND NOT EXISTS (
        SELECT FROM versions v
        WHERE v.tenant_id = %(tenant)s AND v.document > %(after)s AND v.document < %(before)s
            AND v.state = 'DELETING' AND v.collection_deletion = %(number)s)
    AND NOT EXISTS (
        SELECT FROM collection_deletions e
        WHERE e.tenant_id = d.tenant_id AND e.collection_id = d.collection_id
            AND e.number < d.number AND e.finished_at IS NULL)
RETURNING d.*
"""


class PostgresCollectionDeletions(CollectionDeletions):
    """See `CollectionDeletions`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def exclude_uploads(self, collection_id: str) -> None:
        await self._execute(_EXCLUDE_UPLOADS, collection_id)

    @override
    async def share(self, document: str) -> None:
        names = {"tenant": self._tenant, "names": [document]}
        await self._tx.execute(SHARE_COLLECTIONS.encode(), names)

    @override
    async def includes(self, document: str) -> bool:
        names = {"tenant": self._tenant, "document": document}
        row = await (await self._tx.execute(_INCLUDES.encode(), names)).fetchone()
        assert row is not None, "EXISTS returns its row"
        return bool(row["included"])

    @override
    async def add(self, collection_id: str) -> CollectionDeletion:
        await self._execute(_ADD, collection_id)
        await self._execute(_REMOVE_UNFINISHED, collection_id)
        added = await self.find_last(collection_id)
        assert added is not None, "it was added in this transaction"
        return added

    @override
    async def find_last(self, collection_id: str) -> CollectionDeletion | None:
        row = await (await self._execute(_FIND_LAST, collection_id)).fetchone()
        if row is None:
            return None
        documents, remaining = row["marked"] + row["unmarked"], row["deleting"] + row["unmarked"]
        return read_deletion(row, documents=documents, remaining=remaining)

    @override
    async def lock_unmarked(
        self, deletion: CollectionDeletion, after: str, limit: int
    ) -> Sequence[Tombstone]:
        cut = Cut(deletion=deletion.number, upload_order=deletion.upload_order)
        cursor = await self._execute(
            _LOCK_UNMARKED,
            deletion.collection_id,
            after,
            upload_order=deletion.upload_order,
            limit=limit,
        )
        return [
            cut.make_tombstone(row["name"], row["latest_version"])
            for row in await cursor.fetchall()
        ]

    @override
    async def list_shown(
        self, collection_id: str, after: str, limit: int
    ) -> Sequence[tuple[str, int]]:
        cursor = await self._execute(_LIST_SHOWN, collection_id, after, limit=limit)
        return [(row["name"], row["tombstone_version"]) for row in await cursor.fetchall()]

    @override
    async def mark_hidden(self, deletion: CollectionDeletion) -> None:
        await self._execute(_MARK_HIDDEN, deletion.collection_id, number=deletion.number)

    @override
    async def finish(self, deletion: CollectionDeletion) -> CollectionDeletion | None:
        cursor = await self._execute(_FINISH, deletion.collection_id, number=deletion.number)
        row = await cursor.fetchone()
        return read_deletion(row, documents=row["documents"], remaining=0) if row else None

    async def _execute(
        self, statement: str, collection_id: str, start: str = "", **values: Any
    ) -> Any:
        # Names of its documents lie between its prefix and the same with `/` raised to `0`.
        prefix = f"collections/{collection_id}/documents"
        names = {"tenant": self._tenant, "id": collection_id, "before": f"{prefix}0"}
        places = {"after": f"{prefix}/", "from": max(start, f"{prefix}/")}
        return await self._tx.execute(statement.encode(), {**names, **places, **values})


def read_deletion(row: rows.Row, *, documents: int, remaining: int) -> CollectionDeletion:
    """A deletion from its row, with counts from elsewhere."""
    return CollectionDeletion(
        collection_id=row["collection_id"],
        number=row["number"],
        upload_order=row["upload_order"],
        hidden=row["hidden"],
        documents=documents,
        remaining=remaining,
        receipt=rows.receipt(row["receipt"]) if row["receipt"] else None,
        requested_at=row["requested_at"],
        finished_at=row["finished_at"],
    )
