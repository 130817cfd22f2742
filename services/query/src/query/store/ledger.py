"""Reads documents, passages and pending removals."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import numpy as np
from typing_extensions import override

from chassis.base.labels import Held
from chassis.base.postgres import Database
from chassis.process.ops import Stage
from query.domain import Hit, PageBreak, Passage, Standing, Vector, Version
from query.profile import Profile
from query.store.filters import condition
from query.store.history import HISTORY_SPAN, condition_of_life
from query.store.rows import read_standing
from query.store.statements import STANDING, select_life
from query.usecases.ports import (
    Found,
    HistorySpan,
    Inspected,
    Inspection,
    Ledger,
    RemovedVersion,
    Wanted,
)

_PASSAGE: Final = (
    "document, version, ordinal, chunk_id, text, title, metadata, start_offset, end_offset, page,"
    " page_breaks, headings, table_header, lines, ingest_trace_id,"
    " upload_event_id, created_at"
)
# The description of a passage's version.
_DESCRIBED: Final = """
CROSS JOIN LATERAL (
    SELECT title, metadata, created_at FROM descriptions
    WHERE tenant_id = %(tenant)s AND document = passages.document AND version = passages.version
    LIMIT 1
) AS described
"""

_STANDING: Final = f"""
SELECT {STANDING} FROM documents WHERE tenant_id = %(tenant)s AND document = %(document)s
"""  # noqa: S608  (a constant of this module)

# Every LIMIT 1 is on a unique key, so it changes no result. It keeps the planner from joining whole
# tables while it has no statistics. At least one row is returned, because the caller needs to know
# the store even if nothing was found.
_LOOK_UP: Final = f"""
WITH verified AS (
    SELECT wanted.point_id, wanted.score, wanted.place,
           row_number() OVER (PARTITION BY passage.document ORDER BY wanted.place) AS nth
    FROM unnest(%(point_ids)s::uuid[], %(scores)s::float8[])
         WITH ORDINALITY AS wanted(point_id, score, place)
    CROSS JOIN LATERAL (
        SELECT document, version FROM passages
        WHERE tenant_id = %(tenant)s AND point_id = wanted.point_id LIMIT 1
    ) AS passage
    CROSS JOIN LATERAL (
        SELECT collection, live_version, live_at, tombstone_version, labels FROM documents
        WHERE tenant_id = %(tenant)s AND document = passage.document LIMIT 1
    ) AS known
    WHERE {{live}} AND known.tombstone_version < passage.version
      AND (%(held)s::text[] IS NULL OR known.labels = '{{{{}}}}' OR known.labels && %(held)s)
      AND (%(collections)s::text[] = '{{{{}}}}' OR known.collection = ANY(%(collections)s))
      {{where}}
), best AS (
    SELECT point_id, score, place FROM verified WHERE NOT %(one_per_document)s OR nth = 1
    ORDER BY place LIMIT %(limit)s
), store AS (
    SELECT (SELECT store_id FROM vector_stores WHERE profile = %(profile)s AND complete)
           AS complete_store,
           (SELECT live FROM profiles_in_use) AS live {{history}}
)
SELECT store.*, score, passage.*
FROM store LEFT JOIN best ON true
LEFT JOIN LATERAL (
    SELECT {_PASSAGE} FROM passages {_DESCRIBED}
    WHERE tenant_id = %(tenant)s AND point_id = best.point_id LIMIT 1
) AS passage ON true
ORDER BY place
"""  # noqa: S608
# What a filter says of a passage's version and its document.
_WHERE: Final = """
AND (SELECT {condition} FROM descriptions AS described
     WHERE tenant_id = %(tenant)s AND document = passage.document AND version = passage.version
     LIMIT 1)
"""

_NEIGHBOURS: Final = f"""
SELECT wanted.place, passage.*
FROM unnest(%(documents)s::text[], %(versions)s::int8[], %(ordinals)s::int4[])
     WITH ORDINALITY AS wanted(document, version, ordinal, place)
CROSS JOIN LATERAL (
    SELECT live_version, live_at, tombstone_version, labels FROM documents
    WHERE tenant_id = %(tenant)s AND document = wanted.document LIMIT 1
) AS known
CROSS JOIN LATERAL (
    SELECT {_PASSAGE} FROM passages {_DESCRIBED}
    WHERE tenant_id = %(tenant)s AND document = wanted.document AND version = wanted.version
      AND ordinal BETWEEN wanted.ordinal - %(reach)s AND wanted.ordinal + %(reach)s
      AND ordinal <> wanted.ordinal
    ORDER BY ordinal LIMIT 2 * %(reach)s
) AS passage
WHERE {{live}} AND known.tombstone_version < wanted.version
  AND (%(held)s::text[] IS NULL OR known.labels = '{{{{}}}}' OR known.labels && %(held)s)
ORDER BY place, ordinal
"""  # noqa: S608

_PAGE: Final = f"""
SELECT point_id, {_PASSAGE}, {select_life("passages")}, (
    SELECT labels FROM documents
    WHERE tenant_id = %(tenant)s AND document = passages.document) AS labels
FROM passages {_DESCRIBED}
WHERE tenant_id = %(tenant)s AND point_id > %(after)s ORDER BY point_id LIMIT %(limit)s
"""  # noqa: S608
_FIRST_PAGE: Final = _PAGE.replace("AND point_id > %(after)s", "")

# Vectors of passages under a profile, in the row of the passage or beside it.
_VECTORS: Final = """
SELECT point_id, vector FROM unnest(%(point_ids)s::uuid[]) AS wanted(point_id)
CROSS JOIN LATERAL (
    SELECT vector FROM passages
    WHERE tenant_id = %(tenant)s AND point_id = wanted.point_id AND vector_profile = %(profile)s
        AND vector IS NOT NULL LIMIT 1
) AS kept
UNION ALL
SELECT point_id, vector FROM unnest(%(point_ids)s::uuid[]) AS wanted(point_id)
CROSS JOIN LATERAL (
    SELECT vector FROM passage_vectors
    WHERE tenant_id = %(tenant)s AND point_id = wanted.point_id AND profile = %(profile)s LIMIT 1
) AS kept
"""
_WITH_VECTOR: Final = f"""
SELECT point_id FROM ({_VECTORS}) AS stored WHERE octet_length(vector) = %(bytes)s
"""  # noqa: S608

_COUNT: Final = "SELECT count(*) AS passages FROM passages WHERE tenant_id = %(tenant)s"

# No unit of work of a tenant begins while it is being removed: it would end the round of a loop.
_NOT_REMOVED: Final = """tenant_id <> ALL(ARRAY(
    SELECT tenant_id FROM deleted_tenants WHERE finished_at IS NULL))"""

# Jumps from one tenant to the next on the primary key instead of reading every document.
_TENANTS: Final = f"""
WITH RECURSIVE found AS (
    (SELECT tenant_id FROM documents ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM documents WHERE tenant_id > found.tenant_id
            ORDER BY tenant_id LIMIT 1)
    FROM found WHERE found.tenant_id IS NOT NULL
)
SELECT tenant_id FROM found WHERE tenant_id IS NOT NULL AND {_NOT_REMOVED}
"""  # noqa: S608

_INSPECT: Final = """
SELECT document, live_version, tombstone_version, labels,
       (SELECT count(*) FROM passages AS live
        WHERE live.tenant_id = known.tenant_id AND live.document = known.document
          AND live.version = known.live_version) AS passages,
       (SELECT count(*) FROM passages AS deleted
        WHERE deleted.tenant_id = known.tenant_id AND deleted.document = known.document
          AND deleted.version <= known.tombstone_version) AS deleted_passages
FROM documents AS known
WHERE tenant_id = %(tenant)s AND {chosen}
ORDER BY document LIMIT %(limit)s
"""
_INSPECT_NAMED: Final = _INSPECT.format(chosen="document = ANY(%(documents)s)")
_INSPECT_ALL: Final = _INSPECT.format(
    chosen="document > %(after)s AND %(collection)s IN ('', substr(collection, 13))"
)

_OUTDATED: Final = f"""
SELECT tenant_id, document FROM relabelled_documents WHERE {_NOT_REMOVED} LIMIT %(limit)s
"""  # noqa: S608

_REMOVED_VERSIONS: Final = (
    "SELECT tenant_id, document, version FROM removed_versions LIMIT %(limit)s"
)

_MARK_POINTS_REMOVED: Final = """
DELETE FROM removed_versions
WHERE tenant_id = %(tenant)s AND document = %(document)s AND version = %(version)s
"""

_BACKLOG: Final = """
SELECT tenant_id, count(*) AS documents,
       extract(epoch FROM now() - min(started_at))::float8 AS oldest_age_s
FROM progress GROUP BY tenant_id
"""


class PostgresLedger(Ledger):
    """See `Ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def read_standing(self, tenant: str, document: str) -> Standing:
        rows = await self._read(tenant, _STANDING, document=document)
        return read_standing(rows[0]) if rows else Standing()

    @override
    async def look_up(self, tenant: str, profile: str, wanted: Wanted) -> Found:
        values: dict[str, Any] = {}
        where = "" if wanted.where is None else condition(wanted.where, values)
        rows = await self._read(
            tenant,
            _LOOK_UP.format(
                where=where and _WHERE.format(condition=where),
                live=condition_of_life("passage", wanted.as_of),
                history=HISTORY_SPAN if wanted.as_of else "",
            ),
            **values,
            as_of=wanted.as_of,
            profile=profile,
            point_ids=wanted.point_ids,
            scores=wanted.scores,
            collections=sorted(wanted.collections),
            held=None if wanted.held is None else sorted(wanted.held),
            limit=wanted.limit,
            one_per_document=wanted.one_per_document,
        )
        hits = [
            Hit(passage=_passage(row), score=row["score"])
            for row in rows
            if row["document"] is not None
        ]
        store = rows[0]
        return Found(
            hits=hits,
            complete_store=store["complete_store"],
            live=store["live"] or "",
            span=HistorySpan(since=store["since"], now=store["now"]) if wanted.as_of else None,
        )

    @override
    async def list_neighbours(
        self,
        tenant: str,
        held: Held,
        passages: Sequence[Passage],
        reach: int,
        as_of: datetime | None = None,
    ) -> Sequence[Sequence[Passage]]:
        rows = await self._read(
            tenant,
            _NEIGHBOURS.format(live=condition_of_life("wanted", as_of)),
            as_of=as_of,
            held=None if held is None else sorted(held),
            documents=[one.version.document for one in passages],
            versions=[one.version.number for one in passages],
            ordinals=[one.ordinal for one in passages],
            reach=reach,
        )
        around: list[list[Passage]] = [[] for _ in passages]
        for row in rows:
            around[row["place"] - 1].append(_passage(row))
        return around

    @override
    async def list_passages(
        self, tenant: str, after: UUID | None, limit: int
    ) -> Sequence[tuple[UUID, Passage]]:
        query = _PAGE if after else _FIRST_PAGE
        rows = await self._read(tenant, query, after=after, limit=limit)
        return [(row["point_id"], _passage(row)) for row in rows]

    @override
    async def read_vectors(
        self, tenant: str, profile: str, point_ids: Sequence[UUID]
    ) -> Mapping[UUID, Vector]:
        rows = await self._read(tenant, _VECTORS, profile=profile, point_ids=list(point_ids))
        return {row["point_id"]: np.frombuffer(row["vector"], dtype="<f4") for row in rows}

    @override
    async def list_with_vector(
        self, tenant: str, profile: Profile, point_ids: Sequence[UUID]
    ) -> frozenset[UUID]:
        rows = await self._read(
            tenant,
            _WITH_VECTOR,
            profile=profile.name,
            point_ids=list(point_ids),
            bytes=profile.dimensions * np.dtype("<f4").itemsize,
        )
        return frozenset(row["point_id"] for row in rows)

    @override
    async def count_passages(self, tenant: str) -> int:
        rows = await self._read(tenant, _COUNT)
        return int(rows[0]["passages"])

    @override
    async def list_tenants(self) -> Sequence[str]:
        async with self._database.sweep() as tx:
            cursor = await tx.execute(_TENANTS)
            return [row["tenant_id"] for row in await cursor.fetchall()]

    @override
    async def inspect(self, tenant: str, asked: Inspection) -> Sequence[Inspected]:
        query = _INSPECT_NAMED if asked.documents else _INSPECT_ALL
        rows = await self._read(
            tenant,
            query,
            documents=list(asked.documents),
            collection=asked.collection,
            after=asked.after,
            limit=asked.limit,
        )
        return [Inspected(**row) for row in rows]

    @override
    async def list_outdated(self, limit: int) -> Sequence[tuple[str, str]]:
        async with self._database.sweep() as tx:
            cursor = await tx.execute(_OUTDATED, {"limit": limit})
            return [(row["tenant_id"], row["document"]) for row in await cursor.fetchall()]

    @override
    async def list_removed_versions(self, limit: int) -> Sequence[RemovedVersion]:
        async with self._database.sweep() as tx:
            cursor = await tx.execute(_REMOVED_VERSIONS, {"limit": limit})
            return [
                RemovedVersion(
                    tenant=row["tenant_id"],
                    version=Version(document=row["document"], number=row["version"]),
                )
                for row in await cursor.fetchall()
            ]

    @override
    async def mark_points_removed(self, removed: RemovedVersion) -> None:
        async with self._database.transaction(removed.tenant) as tx:
            await tx.execute(
                _MARK_POINTS_REMOVED,
                {
                    "tenant": removed.tenant,
                    "document": removed.version.document,
                    "version": removed.version.number,
                },
            )

    async def count_backlog(self) -> Sequence[Stage]:
        """Documents for which some batches are stored and others are not."""
        async with self._database.sweep() as tx:
            cursor = await tx.execute(_BACKLOG)
            return [
                Stage(
                    name="INDEXING",
                    tenant=row["tenant_id"],
                    documents=row["documents"],
                    oldest_age_s=row["oldest_age_s"],
                )
                for row in await cursor.fetchall()
            ]

    async def _read(self, tenant: str, query: str, **values: object) -> list[dict[str, Any]]:
        async with self._database.transaction(tenant) as tx:
            cursor = await tx.execute(query.encode(), {"tenant": tenant, **values})
            return await cursor.fetchall()


def _passage(row: Mapping[str, Any]) -> Passage:
    return Passage(
        version=Version(document=row["document"], number=row["version"]),
        ordinal=row["ordinal"],
        chunk_id=row["chunk_id"],
        text=row["text"],
        title=row["title"],
        metadata=row["metadata"],
        start=row["start_offset"],
        end=row["end_offset"],
        page=row["page"],
        page_breaks=tuple(PageBreak(*one) for one in row["page_breaks"]),
        headings=tuple(row["headings"]),
        table_header=row["table_header"],
        lines=row["lines"],
        labels=tuple(row.get("labels", ())),
        ingest_trace_id=row["ingest_trace_id"],
        upload_event_id=row["upload_event_id"],
        created_at=row["created_at"],
        live_at=row.get("live_at"),
        superseded_at=row.get("superseded_at"),
    )
