"""Rows of one tenant inside one transaction; row-level security repeats the tenant's condition."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb
from typing_extensions import override

from chassis.base.errors import InvalidInputError
from chassis.base.postgres import Transaction
from query.description import Description
from query.domain import Batch, Removed, Standing, Vector, Version
from query.store.passage_vectors import put_vectors, remove_vectors
from query.store.records import IN_USE, read_in_use
from query.usecases.ports import InUse, Rows

STANDING: Final = "live_version, tombstone_version, failed_versions"

_LOCK: Final = f"""
INSERT INTO documents (tenant_id, document, collection)
SELECT %(tenant)s, given.* FROM unnest(%(documents)b::text[], %(collections)b::text[]) AS given
ON CONFLICT (tenant_id, document) DO UPDATE SET collection = excluded.collection
RETURNING document, {STANDING}
"""  # noqa: S608  (a constant of this module)

_LOCK_PROFILES: Final = f"SELECT {IN_USE} FROM profiles_in_use FOR SHARE"  # noqa: S608

# A description that came before is only replaced by a later one.
_DESCRIBE: Final = """
INSERT INTO descriptions AS known (tenant_id, document, version, title, metadata, revision)
SELECT %(tenant)s, given.*
FROM unnest(%(described)b::text[], %(described_versions)b::bigint[], %(titles)b::text[],
            %(metadata)b::jsonb[], %(revisions)b::bigint[]) AS given
ON CONFLICT (tenant_id, document, version) DO UPDATE
SET title = excluded.title, metadata = excluded.metadata, revision = excluded.revision
WHERE known.revision < excluded.revision
"""

_PUT: Final = f"""
WITH described AS ({_DESCRIBE})
INSERT INTO passages (tenant_id, document, version, ingest_trace_id, ordinal, chunk_id, point_id,
                      text, start_offset, end_offset, page, page_breaks, headings, table_header,
                      lines, vector, vector_profile)
SELECT %(tenant)s, given.*
FROM unnest(%(documents)b::text[], %(versions)b::bigint[], %(traces)b::text[],
            %(ordinals)b::int[], %(chunk_ids)b::uuid[], %(point_ids)b::uuid[], %(texts)b::text[],
            %(starts)b::int[], %(ends)b::int[], %(pages)b::int[],
            %(page_breaks)b::jsonb[], %(headings)b::jsonb[], %(table_headers)b::text[],
            %(lines)b::bytea[], %(vectors)b::bytea[], %(vector_profiles)b::text[]) AS given
ON CONFLICT (tenant_id, document, version, ordinal) DO UPDATE
SET ingest_trace_id = excluded.ingest_trace_id,
    chunk_id = excluded.chunk_id, point_id = excluded.point_id, text = excluded.text,
    start_offset = excluded.start_offset, end_offset = excluded.end_offset, page = excluded.page,
    page_breaks = excluded.page_breaks, headings = excluded.headings,
    table_header = excluded.table_header, lines = excluded.lines, vector = excluded.vector,
    vector_profile = excluded.vector_profile
"""  # noqa: S608  (a constant of this module)

_MARK: Final = """
INSERT INTO progress (tenant_id, document, version, batch_count, chunk_count, seen)
VALUES (%(tenant)s, %(document)s, %(version)s, %(batch_count)s, %(chunk_count)s,
        set_bit(repeat('0', %(batch_count)s)::bit varying, %(batch)s, 1))
ON CONFLICT (tenant_id, document, version) DO UPDATE SET seen = progress.seen | excluded.seen
WHERE progress.batch_count = excluded.batch_count AND progress.chunk_count = excluded.chunk_count
RETURNING bit_count(seen) = batch_count AS complete
"""

_COUNT: Final = """
SELECT count(*) AS passages FROM passages
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
"""

_GO_LIVE: Final = """
WITH superseded AS (
    DELETE FROM passages
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version < %(version)s
    RETURNING tenant_id, document, version
), recorded AS (
    INSERT INTO removed_versions (tenant_id, document, version)
    SELECT DISTINCT tenant_id, document, version FROM superseded ON CONFLICT DO NOTHING
), undescribed AS (
    DELETE FROM descriptions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version < %(version)s
), finished AS (
    DELETE FROM progress
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
)
UPDATE documents
SET live_version = %(version)s,
    failed_versions = ARRAY(SELECT v FROM unnest(failed_versions) AS v WHERE v > %(version)s)
WHERE tenant_id = %(tenant)s AND document = %(document)s
"""

_GO_LIVE_FIRST: Final = """
WITH given AS (
    SELECT document, version
    FROM unnest(%(documents)b::text[], %(versions)b::bigint[]) AS given(document, version)
), finished AS (
    DELETE FROM progress USING given
    WHERE tenant_id = %(tenant)s
        AND progress.document = given.document AND progress.version = given.version
)
UPDATE documents SET live_version = given.version FROM given
WHERE documents.tenant_id = %(tenant)s AND documents.document = given.document
"""

_FAIL: Final = """
WITH removed AS (
    DELETE FROM passages
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
    RETURNING tenant_id, document, version
), recorded AS (
    INSERT INTO removed_versions (tenant_id, document, version)
    SELECT DISTINCT tenant_id, document, version FROM removed ON CONFLICT DO NOTHING
), undescribed AS (
    DELETE FROM descriptions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
), finished AS (
    DELETE FROM progress
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
)
UPDATE documents SET failed_versions = failed_versions || %(version)s::bigint
WHERE tenant_id = %(tenant)s AND document = %(document)s
"""

_HIDE: Final = """
INSERT INTO documents AS known (tenant_id, document, collection, tombstone_version)
SELECT %(tenant)s, given.*
FROM unnest(%(documents)b::text[], %(collections)b::text[], %(versions)b::bigint[]) AS given
ON CONFLICT (tenant_id, document) DO UPDATE
SET tombstone_version = GREATEST(known.tombstone_version, excluded.tombstone_version)
"""

_BEGIN_PURGE: Final = """
INSERT INTO purges AS known (tenant_id, document, version, points)
VALUES (%(tenant)s, %(document)s, %(version)s, %(points)s)
ON CONFLICT (tenant_id, document, version) DO UPDATE
SET points = GREATEST(known.points, excluded.points)
"""

_DISCARDED: Final = """
UPDATE purges SET dead_letters = dead_letters + %(dead_letters)s
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
"""

# Each answer once: a repeat finds nothing of the document in it.
_REDACT: Final = """
WITH citing AS (
    SELECT DISTINCT answer_id FROM answer_sources
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
)
UPDATE answers AS known
SET text = '', redacted_at = COALESCE(redacted_at, now()), citations = (
    SELECT COALESCE(jsonb_agg(
        CASE WHEN one->>'document' = %(document)s AND (one->>'version')::bigint <= %(version)s
             THEN one || '{"text": "", "title": "", "metadata": {}, "quote": "", "headings": [],
                             "table_header": "", "lines": ""}'
             ELSE one END ORDER BY place
    ), '[]') FROM jsonb_array_elements(known.citations) WITH ORDINALITY AS given(one, place))
FROM citing
WHERE known.tenant_id = %(tenant)s AND known.answer_id = citing.answer_id
    AND (known.redacted_at IS NULL OR EXISTS (
        SELECT FROM jsonb_array_elements(known.citations) AS one
        WHERE one->>'document' = %(document)s AND (one->>'version')::bigint <= %(version)s
            AND one->>'text' <> ''))
"""

_REMOVE_PASSAGES: Final = """
WITH finished AS (
    DELETE FROM progress
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
), undescribed AS (
    DELETE FROM descriptions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
), unrecorded AS (
    DELETE FROM removed_versions
    WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
)
DELETE FROM passages
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version <= %(version)s
"""

_FINISH_PURGE: Final = """
UPDATE purges
SET passages = passages + %(passages)s,
    redacted_answers = redacted_answers + %(answers)s, finished_at = now()
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
RETURNING passages, points, dead_letters, redacted_answers
"""

_SHARE_DOCUMENTS: Final = """
SELECT document FROM documents
WHERE tenant_id = %(tenant)s AND document IN (
    SELECT document FROM passages
    WHERE tenant_id = %(tenant)s AND point_id = ANY(%(point_ids)s))
ORDER BY document FOR SHARE
"""

# The passages of a deleted version stay until the end of its deletion, after its points.
_STILL_THERE: Final = """
SELECT point_id FROM passages JOIN documents USING (tenant_id, document)
WHERE tenant_id = %(tenant)s AND point_id = ANY(%(point_ids)s) AND version > tombstone_version
"""


class PostgresRows(Rows):
    """See `Rows`; `tx` must be bound to `tenant`."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def lock(self, version: Version) -> Standing:
        return (await self.lock_all([version]))[version.document]

    @override
    async def lock_all(self, versions: Sequence[Version]) -> Mapping[str, Standing]:
        collections = {version.document: version.collection for version in versions}
        # Sorted, so that two transactions cannot deadlock.
        documents = sorted(collections)
        cursor = await self._tx.execute(
            _LOCK,
            {
                "tenant": self._tenant,
                "documents": documents,
                "collections": [collections[document] for document in documents],
            },
        )
        return {row["document"]: read_standing(row) for row in await cursor.fetchall()}

    @override
    async def lock_profiles(self) -> InUse:
        row = await (await self._tx.execute(_LOCK_PROFILES)).fetchone()
        assert row is not None, "whoever opened the indexes has read it"
        return read_in_use(row)

    @override
    async def put(self, batches: Sequence[Batch], in_use: InUse) -> None:
        live = in_use.live.name
        stored = [
            (passage, point_id)
            for batch in batches
            for passage, point_id in zip(batch.passages, batch.point_ids, strict=True)
        ]
        passages = [passage for passage, _ in stored]
        await self._tx.execute(
            _PUT,
            {
                "tenant": self._tenant,
                "documents": [passage.version.document for passage in passages],
                "versions": [passage.version.number for passage in passages],
                **_descriptions([(batch.version, batch.description) for batch in batches]),
                "traces": [passage.ingest_trace_id for passage in passages],
                "ordinals": [passage.ordinal for passage in passages],
                "chunk_ids": [passage.chunk_id for passage in passages],
                "point_ids": [point_id for _, point_id in stored],
                "texts": [passage.text for passage in passages],
                "starts": [passage.start for passage in passages],
                "ends": [passage.end for passage in passages],
                "pages": [passage.page for passage in passages],
                "page_breaks": [Jsonb(list(passage.page_breaks)) for passage in passages],
                "headings": [Jsonb(list(passage.headings)) for passage in passages],
                "table_headers": [passage.table_header for passage in passages],
                "lines": [passage.lines for passage in passages],
                "vectors": [
                    vector.astype("<f4").tobytes()
                    for batch in batches
                    for vector in batch.vectors[live]
                ],
                "vector_profiles": [live] * len(stored),
            },
        )
        if in_use.beside:
            beside = in_use.beside.name
            vectors = {
                point_id: vector
                for batch in batches
                for point_id, vector in zip(batch.point_ids, batch.vectors[beside], strict=True)
            }
            await self.put_vectors(beside, vectors)

    @override
    async def put_vectors(self, profile: str, vectors: Mapping[UUID, Vector]) -> None:
        await put_vectors(self._tx, self._tenant, profile, vectors)

    @override
    async def remove_vectors(
        self, profile: str, live: str, *, after: UUID | None, limit: int
    ) -> UUID | None:
        return await remove_vectors(self._tx, self._tenant, profile, live, after=after, limit=limit)

    @override
    async def describe(self, described: Mapping[Version, Description]) -> None:
        if described:
            values = _descriptions(list(described.items()))
            await self._tx.execute(_DESCRIBE, {"tenant": self._tenant, **values})

    @override
    async def mark(self, batch: Batch) -> bool:
        cursor = await self._tx.execute(
            _MARK,
            {
                **self._names(batch.version),
                "batch": batch.number,
                "batch_count": batch.count,
                "chunk_count": batch.chunk_count,
            },
        )
        row = await cursor.fetchone()
        if row is None:
            raise InvalidInputError(
                "BATCHES_DISAGREE", "another batch of this version has other totals"
            )
        return bool(row["complete"])

    @override
    async def count(self, version: Version) -> int:
        cursor = await self._tx.execute(_COUNT, self._names(version))
        row = await cursor.fetchone()
        return int(row["passages"]) if row else 0

    @override
    async def go_live(self, version: Version) -> None:
        await self._tx.execute(_GO_LIVE, self._names(version))

    @override
    async def go_live_first(self, versions: Sequence[Version]) -> None:
        await self._tx.execute(
            _GO_LIVE_FIRST,
            {
                "tenant": self._tenant,
                "documents": [version.document for version in versions],
                "versions": [version.number for version in versions],
            },
        )

    @override
    async def fail(self, version: Version) -> None:
        await self._tx.execute(_FAIL, self._names(version))

    @override
    async def hide(self, *versions: Version) -> None:
        # Sorted, so that two transactions cannot deadlock.
        ordered = sorted(versions, key=lambda version: version.document)
        await self._tx.execute(
            _HIDE,
            {
                "tenant": self._tenant,
                "documents": [version.document for version in ordered],
                "collections": [version.collection for version in ordered],
                "versions": [version.number for version in ordered],
            },
        )

    @override
    async def begin_purge(self, version: Version, points: int) -> None:
        await self._tx.execute(_BEGIN_PURGE, {**self._names(version), "points": points})

    @override
    async def mark_discarded(self, version: Version, dead_letters: int) -> None:
        names = self._names(version)
        await self._tx.execute(_DISCARDED, {**names, "dead_letters": dead_letters})

    @override
    async def finish_purge(self, version: Version) -> Removed:
        names = self._names(version)
        passages = await self._tx.execute(_REMOVE_PASSAGES, names)
        answers = await self._tx.execute(_REDACT, names)
        cursor = await self._tx.execute(
            _FINISH_PURGE,
            {
                **names,
                "passages": passages.rowcount,
                "answers": answers.rowcount,
            },
        )
        row = await cursor.fetchone()
        assert row is not None, "a purge was begun before"
        return Removed(**row)

    @override
    async def lock_passages(self, point_ids: Sequence[UUID]) -> Sequence[UUID]:
        wanted = {"tenant": self._tenant, "point_ids": list(point_ids)}
        # A transaction that removes passages locks their document first. Only a statement after
        # this lock sees what such a transaction has removed.
        await self._tx.execute(_SHARE_DOCUMENTS, wanted)
        cursor = await self._tx.execute(_STILL_THERE, wanted)
        return [row["point_id"] for row in await cursor.fetchall()]

    def _names(self, version: Version) -> dict[str, Any]:
        return {
            "tenant": self._tenant,
            "document": version.document,
            "collection": version.collection,
            "version": version.number,
        }


def _descriptions(described: Sequence[tuple[Version, Description]]) -> dict[str, Any]:
    return {
        "described": [version.document for version, _ in described],
        "described_versions": [version.number for version, _ in described],
        "titles": [description.title for _, description in described],
        "metadata": [Jsonb(dict(description.metadata)) for _, description in described],
        "revisions": [description.revision for _, description in described],
    }


def read_standing(row: Mapping[str, Any]) -> Standing:
    """Reads a `Standing` from the columns `STANDING`."""
    return Standing(
        live_version=row["live_version"],
        tombstone_version=row["tombstone_version"],
        failed_versions=frozenset(row["failed_versions"]),
    )
