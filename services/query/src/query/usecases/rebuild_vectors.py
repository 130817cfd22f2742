"""Keeps vector stores equal to the passages: fills new and lost stores, repairs single points."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from query.retrieval.vector_store import CURRENT, TenantScope
from query.usecases.compare_points import RESTORED_TOGETHER, RestorePoints, compare_page
from query.usecases.indexes import Index, Indexes, serve
from query.usecases.ports import Begin, Ledger
from query.usecases.records import Rebuilding, StoreRecords

log = logging.getLogger(__name__)

# Longer than a batch takes from writing its points to storing its passages.
SETTLED_S: Final = 60.0


@dataclass(slots=True, kw_only=True)
class RebuildVectors:
    """Compares the vector store of an index with the passages when it is called, and repairs it.

    A store that lost its points has another id afterwards. Searches of the live index are then
    refused until every passage has its point again. A new index is filled in the same way. Vectors
    are stored with the passages; only passages without one are embedded. Existing points are left,
    so an interrupted rebuild continues where it stopped. A complete store is compared every
    `repair_s` seconds by count, and tenants with different counts are compared point by point.
    Points with terms of an earlier analyser are written again in the same way; searches go on, and
    say so. `clock` returns monotonic seconds.
    """

    index: Index
    indexes: Indexes
    restore: RestorePoints
    ledger: Ledger
    records: StoreRecords
    repair_s: float
    clock: Callable[[], float]
    _repair_at: float = field(default=0.0, init=False)
    _orphans: dict[str, frozenset[UUID]] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Checks the store once, and rebuilds or repairs it if necessary.

        Raises:
            UnavailableError, OverloadedError, ConflictError: call it again later.
        """
        if not await self.indexes.check(self.index):
            async with self.records.begin_rebuild(self.index.profile.name) as right:
                # Another process may have finished just before the right became free, or the
                # profile may have been dropped: with the right no store is removed meanwhile.
                if right is None or await self.indexes.check(self.index):
                    return
                if self.index not in await self.indexes.list_in_use():
                    return
                store_id = await self._rebuild(right)
            serve(self.index, store_id)
            # A later comparison finds points that were written to the old store in the meantime.
            self._repair_at = self.clock() + SETTLED_S
        elif self.clock() >= self._repair_at:
            await self._repair()

    async def _rebuild(self, right: Rebuilding) -> UUID:
        """Rebuilds the store. The record is cleared first, so an empty store is never used."""
        await self.records.forget(self.index.profile.name)
        store_id = (await self.index.vectors.prepare()).store_id
        log.warning(
            "vectors.rebuilding", extra={"profile": self.index.profile.name, "store_id": store_id}
        )
        tenants = await self.ledger.list_tenants()
        total = sum([await self.ledger.count_passages(tenant) for tenant in tenants])
        restored = rebuilt = 0
        self.index.serving.count(rebuilt, total)

        async def keep(passages: int, _restored: int) -> None:
            nonlocal rebuilt
            rebuilt += passages
            self.index.serving.count(rebuilt, total)
            await right.keep()

        for tenant in tenants:
            restored += await self._compare(tenant, keep)
        await right.complete(store_id)
        log.warning("vectors.rebuilt", extra={"store_id": store_id, "restored": restored})
        return store_id

    async def _repair(self) -> None:
        """Compares tenants with different counts; points being written may cause a difference."""
        outdated: dict[str, int] = {}
        for tenant in await self.ledger.list_tenants():
            passages = await self.ledger.count_passages(tenant)
            points = await self.index.vectors.count(TenantScope(tenant))
            current = await self.index.vectors.count(TenantScope(tenant), CURRENT)
            if current < points:
                outdated[tenant] = points - current
            elif passages == points:
                self._orphans.pop(tenant, None)
            else:
                restored = await self._compare(tenant, _do_nothing)
                log.info(
                    "vectors.compared",
                    extra={"tenant": tenant, "passages": passages, "restored": restored},
                )
        self.index.serving.outdated = sum(outdated.values())
        if outdated:
            await self._write_again(outdated)
        self._repair_at = self.clock() + (
            SETTLED_S if self.index.serving.outdated else self.repair_s
        )

    async def _write_again(self, outdated: Mapping[str, int]) -> None:
        """Writes the points of these tenants again, unless another process is doing it."""
        profile = self.index.profile.name
        async with self.records.begin_rebuild(profile) as right:
            if right is None:
                return
            log.info(
                "vectors.outdated", extra={"profile": profile, "points": sum(outdated.values())}
            )

            async def keep(_passages: int, restored: int) -> None:
                await right.keep()
                # Some restored points may have been missing, and never were outdated.
                self.index.serving.outdated = max(1, self.index.serving.outdated - restored)

            for tenant in outdated:
                restored = await self._compare(tenant, keep)
                log.info("vectors.compared", extra={"tenant": tenant, "restored": restored})
        self.index.serving.outdated = 0

    async def _compare(self, tenant: str, keep: Callable[[int, int], Awaitable[None]]) -> int:
        """Restores points and removes orphans; returns the number of restored points.

        A point without a passage is removed only if the previous comparison also found it, because
        it may belong to a batch that is about to store its passages. `keep` is called with the
        number of further passages that have their point, and how many of these were restored.
        """
        scope = TenantScope(tenant)
        restored, orphans = 0, set[UUID]()
        after: UUID | None = None
        while True:
            page = await compare_page(self.ledger, self.index, scope, after)
            orphans |= {UUID(entry.point_id) for entry in page.orphans}
            await keep(page.passages - len(page.missing), 0)
            for first in range(0, len(page.missing), RESTORED_TOGETHER):
                batch = page.missing[first : first + RESTORED_TOGETHER]
                written = await self.restore.run(scope, batch)
                restored += written
                await keep(len(batch), written)
            if page.last is None:
                break
            after = page.last
        await self._remove_orphans(scope, orphans & self._orphans.get(tenant, frozenset()))
        self._orphans[tenant] = frozenset(orphans)
        return restored

    async def _remove_orphans(self, scope: TenantScope, orphans: set[UUID]) -> None:
        if orphans:
            removed = await self.index.vectors.delete_points(scope, [str(one) for one in orphans])
            log.warning("points.orphaned", extra={"tenant": scope.tenant, "removed": removed})


async def _do_nothing(_passages: int, _restored: int) -> None:
    """Does nothing: a comparison needs no right to rebuild."""


@dataclass(slots=True, kw_only=True)
class KeepIndexes:
    """Keeps the stores of all profiles in use equal to the passages.

    There is a loop for each of the two, so that a long build does not delay the repair of the
    other. They are told apart by their names: a flip must not move one to a loop that is busy.
    """

    begin: Begin
    ledger: Ledger
    records: StoreRecords
    indexes: Indexes
    repair_s: float
    clock: Callable[[], float]
    _rebuilds: dict[str, RebuildVectors] = field(default_factory=dict, init=False)

    async def run(self, place: int) -> None:
        """Checks the store of the index at this place, if there is one, as `RebuildVectors`."""
        await self.indexes.follow()
        in_use = sorted(await self.indexes.list_in_use(), key=lambda one: one.profile.name)
        if place < len(in_use):
            await self._find_rebuild(in_use[place]).run()

    def _find_rebuild(self, index: Index) -> RebuildVectors:
        name = index.profile.name
        if name not in self._rebuilds:
            self._rebuilds[name] = RebuildVectors(
                index=index,
                indexes=self.indexes,
                restore=RestorePoints(index=index, begin=self.begin, ledger=self.ledger),
                ledger=self.ledger,
                records=self.records,
                repair_s=self.repair_s,
                clock=self.clock,
            )
        return self._rebuilds[name]
