"""Keeps the vector store equal to the passages: rebuilds a lost store, repairs single points."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from chassis.base.errors import UnavailableError
from query.domain import Passage, Profile, Vector
from query.retrieval.vector_store import TenantScope, VectorStore
from query.usecases.find_passages import STORE_MISSING, Serving
from query.usecases.points import make_point
from query.usecases.ports import Begin, Embedder, Ledger, Rebuilding, StoreRecords

log = logging.getLogger(__name__)

PAGE: Final = 1_000
RESTORED_TOGETHER: Final = 256
EMBEDDED_TOGETHER: Final = 32
# Longer than a batch takes from writing its points to storing its passages.
SETTLED_S: Final = 60.0


@dataclass(slots=True, kw_only=True)
class RebuildVectors:
    """Compares the vector store with the passages each time it is called, and repairs it.

    A store that lost its points has another id afterwards. Searches are then refused until every
    passage has its point again. Vectors are stored with the passages; only passages without one are
    embedded again. Existing points are left, so an interrupted rebuild continues where it stopped.
    A complete store is compared every `repair_s` seconds by count, and tenants with different
    counts are compared point by point. `clock` returns monotonic seconds.
    """

    profile: Profile
    begin: Begin
    ledger: Ledger
    records: StoreRecords
    vectors: VectorStore
    embedder: Embedder
    serving: Serving
    repair_s: float
    clock: Callable[[], float]
    _repair_at: float = field(default=0.0, init=False)
    _orphans: dict[str, frozenset[UUID]] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Checks the store once, and rebuilds or repairs it if necessary.

        Raises:
            UnavailableError, OverloadedError, ConflictError: call it again later.
        """
        if not await self._check():
            async with self.records.begin_rebuild(self.profile.name) as right:
                # Another process may have finished just before the right became free.
                if right is None or await self._check():
                    return
                store_id = await self._rebuild(right)
            self._serve(store_id)
            # A later comparison finds points that were written to the old store in the meantime.
            self._repair_at = self.clock() + SETTLED_S
        elif self.clock() >= self._repair_at:
            await self._repair()

    async def _check(self) -> bool:
        """Whether the store is the complete one; searches are served or refused accordingly."""
        record = await self.records.read(self.profile.name)
        try:
            store_id = (await self.vectors.info()).store_id
        except UnavailableError as error:
            if error.reason != STORE_MISSING:
                self.serving.problem = f"vector store: {error.reason}"
                raise
            store_id = None
        whole = store_id is not None and record.complete and record.store_id == store_id
        self._serve(store_id if whole else None)
        return whole

    def _serve(self, store_id: UUID | None) -> None:
        self.serving.store_id = store_id
        self.serving.problem = "" if store_id else "vector store is being rebuilt"

    async def _rebuild(self, right: Rebuilding) -> UUID:
        """Rebuilds the store. The record is cleared first, so an empty store is never used."""
        await self.records.forget(self.profile.name)
        store_id = (await self.vectors.prepare()).store_id
        log.warning("vectors.rebuilding", extra={"store_id": store_id})
        tenants = await self.ledger.list_tenants()
        total = sum([await self.ledger.count_passages(tenant) for tenant in tenants])
        restored = rebuilt = 0
        self.serving.count(rebuilt, total)

        async def keep(passages: int) -> None:
            nonlocal rebuilt
            rebuilt += passages
            self.serving.count(rebuilt, total)
            await right.keep()

        for tenant in tenants:
            restored += await self._compare(tenant, keep)
        await right.complete(store_id)
        log.warning("vectors.rebuilt", extra={"store_id": store_id, "restored": restored})
        return store_id

    async def _repair(self) -> None:
        """Compares tenants with different counts; points being written may cause a difference."""
        for tenant in await self.ledger.list_tenants():
            passages = await self.ledger.count_passages(tenant)
            points = await self.vectors.count(TenantScope(tenant))
            if passages == points:
                self._orphans.pop(tenant, None)
                continue
            restored = await self._compare(tenant, _do_nothing)
            log.info(
                "vectors.compared",
                extra={"tenant": tenant, "passages": passages, "restored": restored},
            )
        self._repair_at = self.clock() + self.repair_s

    async def _compare(self, tenant: str, keep: Callable[[int], Awaitable[None]]) -> int:
        """Adds missing points and removes orphans; returns the number of added points.

        A point without a passage is removed only if the previous comparison also found it, because
        it may belong to a batch that is about to store its passages. `keep` is called with the
        number of further passages that have their point.
        """
        scope = TenantScope(tenant)
        restored, orphans = 0, set[UUID]()
        after: UUID | None = None
        while True:
            page = await self.ledger.list_passages(tenant, after, PAGE)
            last = page[-1][0] if len(page) == PAGE else None
            present = await self._list_present(scope, after, last)
            missing = [row for row in page if row[0] not in present]
            orphans |= present - {point_id for point_id, _ in page}
            await keep(len(page) - len(missing))
            for first in range(0, len(missing), RESTORED_TOGETHER):
                batch = missing[first : first + RESTORED_TOGETHER]
                restored += await self._restore(scope, batch)
                await keep(len(batch))
            if last is None:
                break
            after = last
        await self._remove_orphans(scope, orphans & self._orphans.get(tenant, frozenset()))
        self._orphans[tenant] = frozenset(orphans)
        return restored

    async def _list_present(
        self, scope: TenantScope, after: UUID | None, last: UUID | None
    ) -> set[UUID]:
        """Ids in the store above `after`, up to and including `last`."""
        found = set[UUID]()
        start = str(after) if after else None
        while True:
            page = await self.vectors.scroll(scope, start=start)
            for entry in page.entries:
                point_id = UUID(entry.point_id)
                if last is not None and point_id > last:
                    return found
                if point_id != after:
                    found.add(point_id)
            if page.next_id is None:
                return found
            start = page.next_id

    async def _restore(self, scope: TenantScope, rows: Sequence[tuple[UUID, Passage]]) -> int:
        """Writes the points of passages, unless they were removed since."""
        vectors = await self._find_vectors(scope.tenant, rows)
        async with self.begin(scope.tenant) as work:
            held = set(await work.rows.lock_passages([point_id for point_id, _ in rows]))
            points = [
                make_point(point_id, passage, vectors[point_id])
                for point_id, passage in rows
                if point_id in held
            ]
            if points:
                await self.vectors.upsert(scope, points)
        return len(points)

    async def _find_vectors(
        self, tenant: str, rows: Sequence[tuple[UUID, Passage]]
    ) -> Mapping[UUID, Vector]:
        """Reads the stored vectors of this profile, and embeds the passages that have none."""
        own = [
            point_id
            for point_id, passage in rows
            if point_id == self.profile.point_id(passage.chunk_id)
        ]
        vectors = dict(await self.ledger.read_vectors(tenant, own))
        others = [row for row in rows if row[0] not in vectors]
        for first in range(0, len(others), EMBEDDED_TOGETHER):
            batch = others[first : first + EMBEDDED_TOGETHER]
            texts = [passage.text_in_context for _, passage in batch]
            embedded = await self.embedder.embed_passages(tenant, texts)
            vectors.update(zip([point_id for point_id, _ in batch], embedded, strict=True))
        return vectors

    async def _remove_orphans(self, scope: TenantScope, orphans: set[UUID]) -> None:
        if orphans:
            removed = await self.vectors.delete_points(scope, [str(one) for one in orphans])
            log.warning("points.orphaned", extra={"tenant": scope.tenant, "removed": removed})


async def _do_nothing(_passages: int) -> None:
    """Does nothing: a comparison needs no right to rebuild."""
