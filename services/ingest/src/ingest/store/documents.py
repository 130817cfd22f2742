"""Documents, versions and chunks of one tenant."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.domain import (
    UNFINISHED,
    Entry,
    Piece,
    Prepared,
    State,
    Upload,
    Verdict,
    Version,
    View,
    sources,
)
from ingest.store import columns, rows
from ingest.store.uploads import SETTLE
from ingest.usecases.ports import (
    Addition,
    Claimed,
    Documents,
    PageQuery,
    Pending,
    Standing,
)

_CLAIM: Final = f"""
INSERT INTO documents AS d (tenant_id, name)
SELECT %(tenant)s, name FROM unnest(%(names)s::text[]) AS name
ON CONFLICT (tenant_id, name) DO UPDATE SET name = EXCLUDED.name
RETURNING {rows.ENTRY},
    (SELECT suspended FROM tenants WHERE tenant_id = %(tenant)s) AS suspended
"""  # noqa: S608

_RELEASE: Final = """
DELETE FROM documents
WHERE tenant_id = %(tenant)s AND name = ANY(%(names)s) AND latest_version = 0
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

_NEWEST_OF: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION} FROM documents d
JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
    AND v.version = d.latest_version
WHERE d.tenant_id = %(tenant)s AND d.name = ANY(%(names)s)
"""  # noqa: S608

_VERSION: Final = f"""
SELECT {rows.VERSION} FROM versions v
WHERE v.tenant_id = %(tenant)s AND v.document = %(name)s AND v.version = %(number)s
"""  # noqa: S608

_VERSIONS: Final = f"""
SELECT {rows.VERSION} FROM unnest(%(names)s::text[], %(numbers)s::bigint[]) AS wanted(name, number)
JOIN versions v ON v.tenant_id = %(tenant)s AND v.document = wanted.name
    AND v.version = wanted.number
"""  # noqa: S608

# Both rows in one statement; a query that must wait for a lock reads them as they are after it.
_LOCK_VERSIONS: Final = f"""
SELECT {rows.ENTRY}, {rows.VERSION}
FROM unnest(%(names)s::text[], %(numbers)s::bigint[]) AS wanted(name, number)
JOIN documents d ON d.tenant_id = %(tenant)s AND d.name = wanted.name
JOIN versions v ON v.tenant_id = %(tenant)s AND v.document = wanted.name
    AND v.version = wanted.number
ORDER BY d.name FOR UPDATE OF d, v
"""  # noqa: S608

# Without a note of the upload, which a known one does not get, nothing else is written.
_ADD: Final = f"""
WITH given AS (
    SELECT * FROM unnest(%(names)s::text[], %(numbers)s::bigint[], %(states)s::text[],
        %(titles)s::text[], %(file_names)s::text[], %(hints)s::text[], %(media_types)s::text[],
        %(metadata)s::jsonb[], %(sizes)s::bigint[], %(sha256s)s::text[], %(keys)s::text[],
        %(sources)s::text[], %(request_ids)s::text[], %(event_ids)s::text[],
        %(correlation_ids)s::text[], %(trace_ids)s::text[], %(chunk_counts)s::int[],
        %(batch_counts)s::int[], %(waits_s)s::float8[], %(orders)s::bigint[])
    AS given(name, number, state, title, file_name, hint, media_type, metadata, size, sha256, key,
        source, request_id, event_id, correlation_id, trace_id, chunk_count, batch_count, wait_s,
        upload_order)
), noted AS (
    INSERT INTO uploads (tenant_id, source, request_id, document, version, sha256,
        correlation_id, unchanged, result)
    SELECT %(tenant)s, source, request_id, name, number, sha256, correlation_id, false, ''
    FROM given WHERE request_id <> ''
    ON CONFLICT DO NOTHING RETURNING source, request_id
), first AS (
    SELECT * FROM given WHERE request_id = ''
        OR (source, request_id) IN (SELECT source, request_id FROM noted)
), grown AS (
    UPDATE documents d SET latest_version = first.number,
        upload_order = CASE WHEN first.upload_order > 0 THEN first.upload_order
            ELSE greatest(d.upload_order + 1, {rows.NOW_NS}) END
    FROM first WHERE d.tenant_id = %(tenant)s AND d.name = first.name
)
INSERT INTO versions AS v (tenant_id, document, version, state, title, file_name,
    media_type_hint, media_type, metadata, size_bytes, sha256, object_key, source,
    upload_event_id, correlation_id, trace_id, chunk_count, batch_count, step_due_at)
SELECT %(tenant)s, name, number, state, title, file_name, hint, media_type, metadata, size,
    sha256, key, source, event_id, correlation_id, trace_id, chunk_count, batch_count,
    clock_timestamp() + make_interval(secs => wait_s)
FROM first
RETURNING {rows.VERSION}
"""  # noqa: S608

_KEEP_CONTENTS: Final = """
INSERT INTO contents (tenant_id, document, version, content)
SELECT %(tenant)s, given.*
FROM unnest(%(names)s::text[], %(numbers)s::bigint[], %(contents)s::bytea[]) AS given
"""

_KEEP_PIECES: Final = """
INSERT INTO chunks (tenant_id, document, version, chunk_id, ordinal, batch, text, start_char,
    end_char, page)
SELECT %(tenant)s, given.*
FROM unnest(%(names)s::text[], %(numbers)s::bigint[], %(chunk_ids)s::uuid[], %(ordinals)s::int[],
    %(batches)s::int[], %(texts)s::text[], %(starts)s::int[], %(ends)s::int[], %(pages)s::int[])
    AS given
"""

_RAISE_ORDER: Final = f"""
UPDATE documents SET upload_order = greatest(upload_order,
    CASE WHEN %(order)s > 0 THEN %(order)s ELSE {rows.NOW_NS} END)
WHERE tenant_id = %(tenant)s AND name = %(name)s
"""  # noqa: S608

_CONTENT: Final = """
SELECT content FROM contents
WHERE tenant_id = %(tenant)s AND document = %(name)s AND version = %(number)s
"""

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
WITH wanted AS (
    SELECT * FROM unnest(%(names)s::text[], %(numbers)s::bigint[]) AS wanted(name, number)
), live AS (
    UPDATE documents d SET live_version = wanted.number FROM wanted
    WHERE d.tenant_id = %(tenant)s AND d.name = wanted.name
), indexed AS (
    UPDATE versions v SET state = 'INDEXED', reason = '', reason_detail = '', attempt = 0,
        step_due_at = NULL, updated_at = clock_timestamp()
    FROM wanted
    WHERE v.tenant_id = %(tenant)s AND v.document = wanted.name AND v.version = wanted.number
)
UPDATE uploads u SET result = 'INDEXED', result_detail = '' FROM wanted
WHERE u.tenant_id = %(tenant)s AND u.document = wanted.name AND u.version = wanted.number
    AND u.result = '' AND u.source <> ''
RETURNING {rows.UPLOAD}
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
), forgotten AS (
    DELETE FROM contents WHERE tenant_id = %(tenant)s AND document = %(name)s
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
    AND NOT EXISTS (
        SELECT FROM outbox o WHERE o.tenant_id = v.tenant_id AND o.document = v.document)
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
    async def claim(self, names: Sequence[str]) -> Claimed:
        found = await self._all(_CLAIM, "", names=list(names))
        standing = {None: Standing.UNKNOWN, False: Standing.ACTIVE, True: Standing.SUSPENDED}
        return Claimed(
            entries={row["name"]: rows.entry(row) for row in found},
            standing=standing[found[0]["suspended"]],
        )

    @override
    async def release(self, names: Sequence[str]) -> None:
        await self._run(_RELEASE, "", names=list(names))

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
    async def newest_of(self, names: Sequence[str]) -> Sequence[View]:
        return [rows.view(row) for row in await self._all(_NEWEST_OF, "", names=list(names))]

    @override
    async def version(self, name: str, number: int) -> Version | None:
        row = await self._one(_VERSION, name, number=number)
        return rows.version(row) if row else None

    @override
    async def versions(self, numbers: Mapping[str, int]) -> Mapping[str, Version]:
        if not numbers:
            return {}
        found = await self._all(_VERSIONS, "", **_wanted(numbers.items()))
        return {row["document"]: rows.version(row) for row in found}

    @override
    async def lock_version(self, name: str, number: int) -> View | None:
        found = await self.lock_versions([(name, number)])
        return found[0] if found else None

    @override
    async def lock_versions(self, versions: Sequence[tuple[str, int]]) -> Sequence[View]:
        return [rows.view(row) for row in await self._all(_LOCK_VERSIONS, "", **_wanted(versions))]

    @override
    async def add(self, additions: Sequence[Addition]) -> Mapping[str, Version]:
        if not additions:
            return {}
        found = await self._all(_ADD, "", **columns.additions(additions))
        made = {row["document"]: rows.version(row) for row in found}
        kept = [one for one in additions if one.draft.name in made]
        if contents := columns.contents(kept):
            await self._run(_KEEP_CONTENTS, "", **contents)
        if pieces := columns.pieces(kept):
            await self._run(_KEEP_PIECES, "", **pieces)
        return made

    @override
    async def raise_order(self, name: str, order_ns: int) -> None:
        await self._run(_RAISE_ORDER, name, order=order_ns)

    @override
    async def content(self, name: str, number: int) -> bytes | None:
        row = await self._one(_CONTENT, name, number=number)
        return bytes(row["content"]) if row else None

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
    async def index(self, versions: Sequence[Version]) -> Mapping[str, Sequence[Upload]]:
        uploads: dict[str, list[Upload]] = defaultdict(list)
        if versions:
            wanted = _wanted((version.document, version.number) for version in versions)
            for row in await self._all(_INDEX, "", **wanted):
                uploads[row["document"]].append(rows.upload(row))
        return uploads

    @override
    async def fail(self, version: Version, verdict: Verdict) -> Sequence[Upload]:
        number = version.number
        found = await self._all(
            _FAIL,
            version.document,
            number=number,
            first=number,
            last=number,
            result=verdict.reason,
            detail=verdict.detail,
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


def _wanted(versions: Iterable[tuple[str, int]]) -> dict[str, Any]:
    pairs = list(versions)
    return {"names": [name for name, _ in pairs], "numbers": [number for _, number in pairs]}


def _from(entry: Entry) -> dict[str, int]:
    """First version that may still hold anything and is not for a delete to remove."""
    return {"from": max(entry.live_version, entry.tombstone_version + 1)}


def _names(states: Sequence[State]) -> list[str]:
    return [state.value for state in states]
