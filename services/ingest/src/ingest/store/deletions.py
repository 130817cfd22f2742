"""Deletion of documents: tombstones, removed rows and receipts."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from psycopg.types.json import Jsonb
from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.domain import Entry, Version
from ingest.store import rows
from ingest.usecases.deletion.deletions import Deletions
from ingest.usecases.rows import Purged, Receipt, Tombstone

# A description event that is later than the removal is for uploads after it that are handled later.
_RECORD_REMOVAL: Final = f"""
UPDATE documents SET tombstone_version = %(number)s,
    upload_order = CASE WHEN %(order)s > 0 THEN greatest(upload_order, %(order)s)
        ELSE greatest(upload_order + 1, {rows.NOW_NS}) END,
    description = CASE WHEN %(order)s > 0 AND description_order > %(order)s THEN description
        ELSE '{{}}' END
WHERE tenant_id = %(tenant)s AND name = %(document)s
"""  # noqa: S608

# Only the newest tombstone is pending, because its purge includes all older versions. `order` is as
# in `_RECORD_REMOVAL`: that of a collection is its cut, because uploads published since are not too
# late. A document that an open deletion of its collection has still to mark belongs to that one.
# ANY leaves few versions to compare with each of the given names, if all of the tenant are read.
_SET_TOMBSTONES: Final = f"""
WITH given AS (
    SELECT given.*, greatest(given.deletion, (
        SELECT max(c.number) FROM collection_deletions c JOIN documents d
            ON d.tenant_id = c.tenant_id AND d.upload_order <= c.upload_order
        WHERE c.tenant_id = %(tenant)s AND c.collection_id = split_part(given.name, '/', 2)
            AND c.finished_at IS NULL AND d.name = given.name)) AS of_collection
    FROM unnest(%(names)b::text[], %(numbers)b::bigint[], %(deletions)b::bigint[],
        %(orders)b::bigint[]) AS given(name, number, deletion, "order")
), marked AS (
    INSERT INTO documents AS d (tenant_id, name, tombstone_version, upload_order)
    SELECT %(tenant)s, name, number, "order" FROM given
    ON CONFLICT (tenant_id, name) DO UPDATE
    SET tombstone_version = excluded.tombstone_version, pinned = false,
        upload_order = CASE WHEN excluded.upload_order > 0
            THEN greatest(d.upload_order, excluded.upload_order)
            ELSE greatest(d.upload_order + 1, {rows.NOW_NS}) END,
        description = CASE
            WHEN excluded.upload_order > 0 AND d.description_order > excluded.upload_order
            THEN d.description ELSE '{{}}' END
), ended AS (
    UPDATE versions v SET state = 'DELETING', password = NULL, reason = '', reason_detail = '',
        attempt = 0, step_due_at = CASE WHEN v.version = given.number
            THEN clock_timestamp() + make_interval(secs => %(wait_s)s) END,
        collection_deletion = CASE WHEN v.version = given.number
            THEN given.of_collection ELSE v.collection_deletion END,
        description_due_at = NULL, kept = false, updated_at = clock_timestamp()
    FROM given
    WHERE v.tenant_id = %(tenant)s AND v.document = ANY(%(names)b::text[])
        AND v.document = given.name AND v.version <= given.number AND v.state <> 'DELETED'
    RETURNING v.version = given.number AS is_newest, {rows.VERSION}
)
SELECT * FROM ended WHERE is_newest ORDER BY document
"""  # noqa: S608

# Documents of a tenant that is deleted meanwhile have no rows any more.
_HIDDEN: Final = """
INSERT INTO documents AS d (tenant_id, name, hidden_version)
SELECT %(tenant)s, given.*
FROM unnest(%(names)b::text[], %(numbers)b::bigint[]) AS given(name, number)
CROSS JOIN LATERAL (
    SELECT FROM documents WHERE tenant_id = %(tenant)s AND name = given.name LIMIT 1
) AS known
ON CONFLICT (tenant_id, name) DO UPDATE
SET hidden_version = greatest(d.hidden_version, excluded.hidden_version),
    live_version = CASE WHEN d.live_version <= excluded.hidden_version THEN 0
        ELSE d.live_version END
"""

_DELETING: Final = f"""
SELECT {rows.VERSION} FROM versions v
WHERE v.tenant_id = %(tenant)s AND v.document = %(document)s AND v.version <= %(number)s
    AND v.state = 'DELETING'
ORDER BY v.version
"""  # noqa: S608

_BEGIN_PURGE: Final = """
UPDATE versions SET object_purged = true
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(number)s
    AND state = 'DELETING' AND object_key = ANY(%(keys)s)
"""

_DISCARDED: Final = """
UPDATE versions SET dead_letters_purged = dead_letters_purged + %(dead_letters)s
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(number)s
    AND state = 'DELETING'
"""

_NOTED: Final = """
SELECT count(*) FILTER (WHERE object_purged) AS objects,
    coalesce(sum(dead_letters_purged), 0)::bigint AS dead_letters
FROM versions
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(number)s
    AND state = 'DELETING'
"""

_CHUNKS: Final = """
DELETE FROM chunks
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(number)s
"""

_CONTENTS: Final = """
DELETE FROM contents
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(number)s
"""

_SIGNATURES: Final = """
WITH unsigned AS (
    DELETE FROM signatures
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(number)s
    RETURNING signature_id, bands
), unbanded AS (
    DELETE FROM signature_bands b USING unsigned
    WHERE b.tenant_id = %(tenant)s AND b.band = ANY(unsigned.bands)
        AND b.signature_id = unsigned.signature_id
)
SELECT FROM unsigned
"""

# Events of a newer version stay: it was accepted after the tombstone was written, and all events of
# older versions were stored before. Both times are the database's.
_OUTBOX: Final = """
DELETE FROM outbox
WHERE tenant_id = %(tenant)s AND document = %(document)s AND created_at < coalesce(
    (SELECT min(accepted_at) FROM versions
     WHERE tenant_id = %(tenant)s AND document = %(document)s AND version > %(number)s),
    'infinity')
"""

# Data from the owner is removed; ids, numbers and times stay, so that no late event brings the
# document back and the receipt can be explained.
_CLOSE: Final = """
WITH forgotten AS (
    UPDATE uploads SET sha256 = ''
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(number)s
)
UPDATE versions SET state = 'DELETED', title = '', text_title = '', file_name = '', media_type = '',
    media_type_hint = '', metadata = '{}', notes = '[]', sha256 = '', object_key = '', attempt = 0,
    step_due_at = NULL, updated_at = clock_timestamp(),
    receipt = CASE WHEN version = %(number)s THEN %(receipt)s END
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(number)s
    AND state = 'DELETING'
"""

_ADOPT: Final = f"""
WITH named AS (
    INSERT INTO documents AS d (tenant_id, name, latest_version, tombstone_version)
    VALUES (%(tenant)s, %(document)s, %(number)s, %(number)s)
    ON CONFLICT (tenant_id, name) DO UPDATE
        SET latest_version = excluded.latest_version, tombstone_version = excluded.tombstone_version
        WHERE d.latest_version = 0
    RETURNING d.name
)
INSERT INTO versions AS v (tenant_id, document, version, state, title, file_name, media_type_hint,
    metadata, size_bytes, sha256, object_key, source, upload_event_id, correlation_id, trace_id,
    step_due_at)
SELECT %(tenant)s, name, %(number)s, 'DELETING', '', '', '', '{{}}', 0, '', '', '', '', '', '',
    clock_timestamp() + make_interval(secs => %(wait_s)s)
FROM named
RETURNING {rows.VERSION}
"""  # noqa: S608

_RECEIPT: Final = """
SELECT version, receipt FROM versions
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version >= %(number)s
    AND receipt IS NOT NULL
ORDER BY version LIMIT 1
"""


class PostgresDeletions(Deletions):
    """See `Deletions`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def mark_deleting(
        self, tombstones: Sequence[Tombstone], wait_s: float
    ) -> Sequence[Version]:
        names = {
            "tenant": self._tenant,
            "names": [one.document for one in tombstones],
            "numbers": [one.number for one in tombstones],
            "deletions": [one.deletion for one in tombstones],
            "orders": [one.order_ns for one in tombstones],
            "wait_s": wait_s,
        }
        cursor = await self._tx.execute(_SET_TOMBSTONES.encode(), names)
        return [rows.version(row) for row in await cursor.fetchall()]

    @override
    async def record_removal(self, entry: Entry, order_ns: int) -> None:
        await self._run(_RECORD_REMOVAL, entry.name, entry.latest_version, order=order_ns)

    @override
    async def mark_hidden(self, versions: Sequence[tuple[str, int]]) -> None:
        names = {
            "tenant": self._tenant,
            "names": [document for document, _ in versions],
            "numbers": [number for _, number in versions],
        }
        await self._tx.execute(_HIDDEN, names)

    @override
    async def list_deleting(self, document: str, number: int) -> Sequence[Version]:
        cursor = await self._tx.execute(_DELETING.encode(), self._names(document, number))
        return [rows.version(row) for row in await cursor.fetchall()]

    @override
    async def begin_purge(self, document: str, number: int, keys: Sequence[str]) -> None:
        await self._run(_BEGIN_PURGE, document, number, keys=list(keys))

    @override
    async def mark_discarded(self, document: str, number: int, dead_letters: int) -> None:
        await self._run(_DISCARDED, document, number, dead_letters=dead_letters)

    @override
    async def purge(self, document: str, number: int) -> Purged:
        chunks = await self._run(_CHUNKS, document, number)
        contents = await self._run(_CONTENTS, document, number)
        signatures = await self._run(_SIGNATURES, document, number)
        outbox_rows = await self._run(_OUTBOX, document, number)
        noted = await self._read_counts(document, number)
        return Purged(
            objects=noted["objects"] + contents,
            dead_letters=noted["dead_letters"],
            chunks=chunks,
            outbox_rows=outbox_rows,
            signatures=signatures,
        )

    @override
    async def close(self, document: str, number: int, receipt: Receipt) -> None:
        await self.mark_hidden([(document, number)])
        await self._run(_CLOSE, document, number, receipt=Jsonb(asdict(receipt)))

    @override
    async def adopt(self, document: str, number: int, wait_s: float) -> Version | None:
        names = {**self._names(document, number), "wait_s": wait_s}
        row = await (await self._tx.execute(_ADOPT.encode(), names)).fetchone()
        return rows.version(row) if row else None

    @override
    async def find_receipt(self, document: str, number: int) -> tuple[int, Receipt] | None:
        cursor = await self._tx.execute(_RECEIPT, self._names(document, number))
        row = await cursor.fetchone()
        return (row["version"], rows.receipt(row["receipt"])) if row else None

    async def _read_counts(self, document: str, number: int) -> dict[str, int]:
        cursor = await self._tx.execute(_NOTED, self._names(document, number))
        row = await cursor.fetchone()
        assert row is not None, "an aggregate returns its row"
        return row

    def _names(self, document: str, number: int) -> dict[str, Any]:
        return {"tenant": self._tenant, "document": document, "number": number}

    async def _run(self, statement: str, document: str, number: int, **values: Any) -> int:
        cursor = await self._tx.execute(
            statement.encode(), {**self._names(document, number), **values}
        )
        return cursor.rowcount
