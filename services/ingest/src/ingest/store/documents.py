"""Documents, versions and chunks of one tenant."""

from collections.abc import Sequence
from typing import Any, Final

from psycopg.types.json import Jsonb
from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.domain import (
    UNFINISHED,
    Draft,
    Entry,
    Object,
    Piece,
    Prepared,
    State,
    Upload,
    UploadResult,
    Verdict,
    Version,
    View,
    sources,
)
from ingest.store import rows
from ingest.store.uploads import SETTLE
from ingest.usecases.ports import Documents, PageQuery, Pending, Standing

_CLAIM: Final = """
INSERT INTO documents AS d (tenant_id, name) VALUES (%(tenant)s, %(name)s)
ON CONFLICT (tenant_id, name) DO UPDATE SET name = EXCLUDED.name
RETURNING d.name, d.latest_version, d.live_version, d.tombstone_version, d.hidden_version,
    (SELECT suspended FROM tenants WHERE tenant_id = %(tenant)s) AS suspended
"""

_ENTRY: Final = f"""
SELECT {rows.ENTRY} FROM documents d WHERE d.tenant_id = %(tenant)s AND d.name = %(name)s
"""  # noqa: S608

_NEWEST: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM documents d
JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
    AND v.version = d.latest_version
WHERE d.tenant_id = %(tenant)s AND d.name = %(name)s
"""  # noqa: S608

_VERSION: Final = f"""
SELECT {rows.VERSION} FROM versions v
WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
"""  # noqa: S608

# Both rows in one statement; a query that must wait for a lock reads them as they are after it.
_LOCK_VERSION: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM documents d
JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name AND v.version = %(number)s
WHERE d.tenant_id = %(tenant)s AND d.name = %(name)s
FOR UPDATE OF d, v
"""  # noqa: S608

_ADD: Final = f"""
WITH grown AS (
    UPDATE documents SET latest_version = %(number)s
    WHERE tenant_id = %(tenant)s AND name = %(name)s
), noted AS (
    INSERT INTO uploads (tenant_id, source, request_id, document, version, sha256,
        correlation_id, unchanged, result)
    SELECT %(tenant)s, %(source)s, %(request_id)s, %(name)s, %(number)s, %(sha256)s,
        %(correlation_id)s, false, ''
    WHERE %(request_id)s <> ''
    ON CONFLICT DO NOTHING RETURNING 1
)
INSERT INTO versions AS v (tenant_id, document, version, state, title, file_name,
    media_type_hint, metadata, size_bytes, sha256, object_key, source, upload_event_id,
    correlation_id, trace_id, step_due_at)
VALUES (%(tenant)s, %(name)s, %(number)s, 'ACCEPTED', %(title)s, %(file_name)s,
    %(media_type)s, %(metadata)s, %(size_bytes)s, %(sha256)s, %(key)s, %(source)s, %(event_id)s,
    %(correlation_id)s, %(trace_id)s, clock_timestamp() + make_interval(secs => %(wait_s)s))
RETURNING {rows.VERSION},
    %(request_id)s = '' OR EXISTS (SELECT FROM noted) AS is_first
"""  # noqa: S608

# One statement: without the move no chunk is written, so a repeat can not double them.
_PREPARE: Final = f"""
WITH moved AS (
    UPDATE versions v SET state = 'PREPARED', attempt = 0, media_type = %(media_type)s,
        title = CASE WHEN title = '' THEN %(title)s ELSE title END,
        chunk_count = %(chunk_count)s, batch_count = %(batch_count)s,
        step_due_at = clock_timestamp() + make_interval(secs => %(wait_s)s),
        updated_at = clock_timestamp()
    WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
        AND v.state = ANY(%(sources)s)
    RETURNING {rows.VERSION}
), written AS (
    INSERT INTO chunks (tenant_id, document, version, chunk_id, ordinal, batch, text,
        start_char, end_char, page)
    SELECT moved.tenant_id, moved.document, moved.version, piece.*
    FROM moved, unnest(%(chunk_ids)s::uuid[], %(ordinals)s::int[], %(batches)s::int[],
        %(texts)s::text[], %(starts)s::int[], %(ends)s::int[], %(pages)s::int[]) AS piece
)
SELECT * FROM moved
"""  # noqa: S608

_INDEX: Final = f"""
WITH live AS (
    UPDATE documents SET live_version = %(number)s
    WHERE tenant_id = %(tenant)s AND name = %(name)s
), indexed AS (
    UPDATE versions SET state = 'INDEXED', reason = '', reason_detail = '', attempt = 0,
        step_due_at = NULL, updated_at = clock_timestamp()
    WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
)
{SETTLE}
"""  # noqa: S608

_FAIL: Final = f"""
WITH failed AS (
    UPDATE versions SET state = 'FAILED', reason = %(result)s, reason_detail = %(detail)s,
        attempt = 0, step_due_at = NULL, updated_at = clock_timestamp()
    WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
)
{SETTLE}
"""  # noqa: S608

_RETIRED: Final = f"""
SELECT {rows.VERSION} FROM versions v
WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s
    AND v.version >= %(from)s AND v.version < %(number)s AND v.state = ANY(%(states)s)
ORDER BY v.version FOR UPDATE
"""  # noqa: S608

_RETIRE: Final = """
WITH emptied AS (
    DELETE FROM chunks WHERE tenant_id = %(tenant)s AND document = %(name)s
        AND version >= %(from)s AND version < %(number)s
)
UPDATE versions SET state = 'SUPERSEDED', attempt = 0, step_due_at = NULL,
    updated_at = clock_timestamp()
WHERE tenant_id = %(tenant)s AND document = %(name)s
    AND version >= %(from)s AND version < %(number)s AND state = ANY(%(states)s)
"""

_PIECES: Final = f"""
SELECT {rows.PIECE} FROM chunks
WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s ORDER BY ordinal
"""  # noqa: S608

_REPEAT: Final = f"""
UPDATE versions v SET attempt = v.attempt + 1,
    step_due_at = clock_timestamp() + make_interval(secs => %(wait_s)s)
WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
    AND v.state = %(state)s AND v.step_due_at = %(step_due_at)s
RETURNING {rows.VERSION}
"""  # noqa: S608

_PAGE: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM documents d
JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
    AND v.version = d.latest_version
WHERE d.tenant_id = %(tenant)s AND d.name > %(after)s AND d.name < %(before)s
    AND v.state <> 'DELETED'
ORDER BY d.name LIMIT %(limit)s
"""  # noqa: S608

# Led by the index on states: a page of a rare state must not read through all the others.
_PAGE_IN_STATE: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM versions v
JOIN documents d ON d.tenant_id = v.tenant_id AND d.name = v.document
    AND d.latest_version = v.version
WHERE v.tenant_id = %(tenant)s AND v.state = %(state)s
    AND v.document > %(after)s AND v.document < %(before)s
ORDER BY v.document LIMIT %(limit)s
"""  # noqa: S608

_UNFINISHED: Final = """
SELECT count(*) AS unfinished FROM versions
WHERE tenant_id = %(tenant)s AND state = ANY(%(states)s) AND step_due_at IS NOT NULL
"""


class PostgresDocuments(Documents):
    """See `Documents`; bound to a tenant and to the transaction it is given."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def claim(self, name: str) -> tuple[Entry, Standing]:
        row = await self._one(_CLAIM, name)
        assert row is not None, "an upsert returns its row"
        standing = {None: Standing.UNKNOWN, False: Standing.ACTIVE, True: Standing.SUSPENDED}
        return rows.entry(row), standing[row["suspended"]]

    @override
    async def lock(self, name: str) -> Entry | None:
        row = await self._one(f"{_ENTRY} FOR UPDATE", name)
        return rows.entry(row) if row else None

    @override
    async def entry(self, name: str) -> Entry | None:
        row = await self._one(_ENTRY, name)
        return rows.entry(row) if row else None

    @override
    async def newest(self, name: str) -> View | None:
        row = await self._one(_NEWEST, name)
        return rows.view(row) if row else None

    @override
    async def version(self, name: str, number: int) -> Version | None:
        row = await self._one(_VERSION, name, number=number)
        return rows.version(row) if row else None

    @override
    async def lock_version(self, name: str, number: int) -> View | None:
        row = await self._one(_LOCK_VERSION, name, number=number)
        return rows.view(row) if row else None

    @override
    async def add(self, draft: Draft, number: int, stored: Object, wait_s: float) -> Version | None:
        row = await self._one(
            _ADD,
            draft.name,
            number=number,
            title=draft.title,
            file_name=draft.file_name,
            media_type=draft.media_type,
            metadata=Jsonb(dict(draft.metadata)),
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            key=stored.key,
            source=draft.origin.source,
            request_id=draft.origin.request_id,
            event_id=draft.origin.event_id,
            correlation_id=draft.origin.correlation_id,
            trace_id=draft.trace_id,
            wait_s=wait_s,
        )
        assert row is not None, "an insert returns its row"
        return rows.version(row) if row["is_first"] else None

    @override
    async def prepare(self, version: Version, prepared: Prepared, wait_s: float) -> Version | None:
        pieces = prepared.pieces
        row = await self._one(
            _PREPARE,
            version.document,
            number=version.number,
            sources=_names(sources(State.PREPARED)),
            media_type=prepared.media_type,
            title=prepared.title,
            chunk_count=len(pieces),
            batch_count=prepared.batch_count,
            wait_s=wait_s,
            chunk_ids=[piece.chunk_id for piece in pieces],
            ordinals=[piece.ordinal for piece in pieces],
            batches=[piece.batch for piece in pieces],
            texts=[piece.text for piece in pieces],
            starts=[piece.start for piece in pieces],
            ends=[piece.end for piece in pieces],
            pages=[piece.page for piece in pieces],
        )
        return rows.version(row) if row else None

    @override
    async def index(self, version: Version) -> Sequence[Upload]:
        result = {"result": UploadResult.INDEXED.value, "detail": ""}
        return await self._ended(_INDEX, version, result)

    @override
    async def fail(self, version: Version, verdict: Verdict) -> Sequence[Upload]:
        result = {"result": verdict.reason, "detail": verdict.detail}
        return await self._ended(_FAIL, version, result)

    async def _ended(
        self, statement: str, version: Version, result: dict[str, str]
    ) -> Sequence[Upload]:
        number = version.number
        found = await self._all(
            statement, version.document, number=number, first=number, last=number, **result
        )
        return [rows.upload(row) for row in found]

    @override
    async def retired(self, entry: Entry, number: int) -> Sequence[Version]:
        found = await self._all(
            _RETIRED,
            entry.name,
            number=number,
            **_from(entry),
            states=_names((*sources(State.SUPERSEDED), State.FAILED)),
        )
        return [rows.version(row) for row in found]

    @override
    async def retire(self, entry: Entry, number: int) -> None:
        states = _names(sources(State.SUPERSEDED))
        await self._run(_RETIRE, entry.name, number=number, **_from(entry), states=states)

    @override
    async def pieces(self, name: str, number: int) -> Sequence[Piece]:
        return [rows.piece(row) for row in await self._all(_PIECES, name, number=number)]

    @override
    async def repeat(self, pending: Pending, wait_s: float) -> Version | None:
        row = await self._one(
            _REPEAT,
            pending.document,
            number=pending.number,
            state=pending.state.value,
            step_due_at=pending.step_due_at,
            wait_s=wait_s,
        )
        return rows.version(row) if row else None

    @override
    async def page(self, query: PageQuery) -> Sequence[View]:
        # Names of a collection lie between its prefix and the same with `/` raised to `0`.
        prefix = f"collections/{query.collection}/documents" if query.collection else "collections"
        names = {"after": max(query.after, f"{prefix}/"), "before": f"{prefix}0"}
        if query.state is None:
            found = await self._all(_PAGE, "", limit=query.limit, **names)
        else:
            state = query.state.value
            found = await self._all(_PAGE_IN_STATE, "", limit=query.limit, state=state, **names)
        return [rows.view(row) for row in found]

    @override
    async def unfinished(self) -> int:
        row = await self._one(_UNFINISHED, "", states=_names(UNFINISHED))
        return int(row["unfinished"]) if row else 0

    async def _run(self, statement: str, name: str, **values: Any) -> None:
        names = {"tenant": self._tenant, "name": name, **values}
        await self._tx.execute(statement.encode(), names)

    async def _one(self, statement: str, name: str, **values: Any) -> rows.Row | None:
        names = {"tenant": self._tenant, "name": name, **values}
        return await (await self._tx.execute(statement.encode(), names)).fetchone()

    async def _all(self, statement: str, name: str, **values: Any) -> list[rows.Row]:
        names = {"tenant": self._tenant, "name": name, **values}
        return await (await self._tx.execute(statement.encode(), names)).fetchall()


def _from(entry: Entry) -> dict[str, int]:
    """First version that may still hold anything and is not for a delete to remove."""
    return {"from": max(entry.live_version, entry.tombstone_version + 1)}


def _names(states: Sequence[State]) -> list[str]:
    return [state.value for state in states]
