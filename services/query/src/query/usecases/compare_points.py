"""Compares the points of a tenant with its passages, page by page, and adds missing points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from query.description import Attributes
from query.domain import Passage, Vector
from query.retrieval.lexical import ANALYSER
from query.retrieval.vector_store import Entry, TenantScope, VectorStore
from query.usecases.indexes import Index
from query.usecases.points import describe_point, make_point
from query.usecases.ports import Begin, Ledger

PAGE: Final = 1_000
# Points without passages could make a page as large as the whole store.
POINTS_MAX: Final = 4_000
RESTORED_TOGETHER: Final = 256
EMBEDDED_TOGETHER: Final = 32

Row = tuple[UUID, Passage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One page of passages, in the order of their point ids, beside the points in its range.

    `missing` are passages without a point or a stored vector, or whose point has other labels than
    their document, knows another description or has terms of an earlier analyser.
    `last` is the id at which the page ends, None on the last page. `orphans` are points without a
    passage; they may belong to a batch that is about to store its passages.
    """

    passages: int
    missing: Sequence[Row]
    orphans: Sequence[Entry]
    last: UUID | None


async def compare_page(
    ledger: Ledger, index: Index, scope: TenantScope, after: UUID | None
) -> Compared:
    """Compares the page of passages after a point id; it ends early where points are too many.

    A point alone is not enough: a process that was stopped for long may write one into the store
    of a profile that was dropped and built again meanwhile.
    """
    page = await ledger.list_passages(scope.tenant, after, PAGE)
    last = page[-1][0] if len(page) == PAGE else None
    present = await _list_present(index.vectors, scope, after, last)
    if len(present) == POINTS_MAX:
        last = max(present)
        page = [row for row in page if row[0] <= last]
    known = {point_id for point_id, _ in page}
    stored = await ledger.list_with_vector(scope.tenant, index.profile, list(known))
    return Compared(
        passages=len(page),
        missing=[row for row in page if row[0] not in stored or not _is_there(row, present)],
        orphans=[entry for point_id, entry in present.items() if point_id not in known],
        last=last,
    )


def _is_there(row: Row, present: Mapping[UUID, Entry]) -> bool:
    point_id, passage = row
    entry = present.get(point_id)
    return (
        entry is not None
        and entry.labels == passage.labels
        and entry.described == describe_point(passage).digest
        and entry.analyser >= ANALYSER
    )


async def _list_present(
    vectors: VectorStore, scope: TenantScope, after: UUID | None, last: UUID | None
) -> Mapping[UUID, Entry]:
    """The first `POINTS_MAX` points in the store above `after`, up to and including `last`."""
    found: dict[UUID, Entry] = {}
    start = str(after) if after else None
    while True:
        page = await vectors.scroll(scope, start=start)
        for entry in page.entries:
            point_id = UUID(entry.point_id)
            if (last is not None and point_id > last) or len(found) == POINTS_MAX:
                return found
            if point_id != after:
                found[point_id] = entry
        if page.next_id is None:
            return found
        start = page.next_id


def _follow(passage: Passage, valid: Attributes) -> Passage:
    [described] = valid.descriptions.values()
    return replace(
        passage,
        labels=valid.labels,
        title=described.title,
        metadata=described.metadata,
        created_at=described.created_at,
        live_at=described.live_at,
        superseded_at=described.superseded_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoints:
    """Writes the points of passages in one index, from their stored vectors where there are any.

    Passages that have no vector under its profile are embedded. Their vectors are stored before
    their points: a point that is there is not looked at again, so its vector would stay lost.
    """

    index: Index
    begin: Begin
    ledger: Ledger

    async def run(self, scope: TenantScope, rows: Sequence[Row]) -> int:
        """Restores at most `RESTORED_TOGETHER` points, unless their passages were removed since.

        Returns their number.
        """
        dense = dict(await self._read_vectors(scope.tenant, rows))
        new = await self._embed(scope.tenant, [row for row in rows if row[0] not in dense])
        if new:
            async with self.begin(scope.tenant) as work:
                held = await work.rows.lock_passages(list(new))
                vectors = {point_id: new[point_id] for point_id in held}
                await work.rows.put_vectors(self.index.profile.name, vectors)
            dense.update(new)
        async with self.begin(scope.tenant) as work:
            held = await work.rows.lock_passages([point_id for point_id, _ in rows])
            points = [
                # Its labels and description may have changed since it was read.
                make_point(point_id, _follow(passage, held[point_id]), dense[point_id])
                for point_id, passage in rows
                if point_id in held
            ]
            if points:
                await self.index.vectors.upsert(scope, points)
        return len(points)

    async def _read_vectors(self, tenant: str, rows: Sequence[Row]) -> Mapping[UUID, Vector]:
        """The vectors that are stored; those of other dimensions are of another model."""
        profile = self.index.profile
        ids = [point_id for point_id, _ in rows]
        stored = await self.ledger.read_vectors(tenant, profile.name, ids)
        return {one: row for one, row in stored.items() if len(row) == profile.dimensions}

    async def _embed(self, tenant: str, rows: Sequence[Row]) -> Mapping[UUID, Vector]:
        vectors: dict[UUID, Vector] = {}
        for first in range(0, len(rows), EMBEDDED_TOGETHER):
            batch = rows[first : first + EMBEDDED_TOGETHER]
            texts = [passage.text_in_context for _, passage in batch]
            embedded = await self.index.embedder.embed_passages(tenant, texts)
            vectors.update(zip([point_id for point_id, _ in batch], embedded, strict=True))
        return vectors
