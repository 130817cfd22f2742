"""Keeps the vector store equal to the passages: rebuilds a lost store, repairs single points."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from chassis.base.errors import UnavailableError
from query.domain import Profile
from query.retrieval.vector_store import TenantScope, VectorStore
from query.usecases.compare_points import RESTORED_TOGETHER, RestorePoints, compare_page
from query.usecases.find_passages import STORE_MISSING, Serving
from query.usecases.ports import Ledger, Rebuilding, StoreRecords

log = logging.getLogger(__name__)

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
    restore: RestorePoints
    ledger: Ledger
    records: StoreRecords
    vectors: VectorStore
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
            page = await compare_page(self.ledger, self.vectors, scope, after)
            orphans |= {UUID(entry.point_id) for entry in page.orphans}
            await keep(page.passages - len(page.missing))
            for first in range(0, len(page.missing), RESTORED_TOGETHER):
                batch = page.missing[first : first + RESTORED_TOGETHER]
                restored += await self.restore.run(scope, batch)
                await keep(len(batch))
            if page.last is None:
                break
            after = page.last
        await self._remove_orphans(scope, orphans & self._orphans.get(tenant, frozenset()))
        self._orphans[tenant] = frozenset(orphans)
        return restored

    async def _remove_orphans(self, scope: TenantScope, orphans: set[UUID]) -> None:
        if orphans:
            removed = await self.vectors.delete_points(scope, [str(one) for one in orphans])
            log.warning("points.orphaned", extra={"tenant": scope.tenant, "removed": removed})


async def _do_nothing(_passages: int) -> None:
    """Does nothing: a comparison needs no right to rebuild."""
