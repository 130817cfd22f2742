"""Compares passages and points for an operator, and repairs what differs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from typing_extensions import override

from aquifer.ops.v1 import reconcile_service_pb2 as pb
from chassis.base import paging
from chassis.process.reconcile import EXAMPLES_MAX, Check, Finding, Scope, Slice
from query.retrieval.vector_store import Entry, TenantScope
from query.usecases.compare_points import (
    RESTORED_TOGETHER,
    RestorePoints,
    Row,
    compare_page,
)
from query.usecases.find_passages import rebuilding_error
from query.usecases.indexes import Index, Indexes
from query.usecases.ports import Begin, Ledger

# Longer than a batch takes from writing its points to storing its passages.
SETTLED_S: Final = 60.0
# Of more points than this the oldest are forgotten, and take another run.
SEEN_MAX: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePoints(Check):
    """Adds the points of passages that have none, and removes points that have no passage.

    Compares every index in use, one after the other; one that is still being built is left out.
    A point without a passage may belong to a batch that is about to store its passages. Unless its
    version is deleted, superseded or failed, it is only removed if this process saw it without one
    `settled_s` seconds ago, so whoever asks repeats the check. `clock` returns monotonic seconds.
    """

    begin: Begin
    ledger: Ledger
    indexes: Indexes
    settled_s: float = SETTLED_S
    clock: Callable[[], float] = time.monotonic
    _seen: dict[UUID, float] = field(default_factory=dict, init=False)

    @property
    @override
    def name(self) -> str:
        return "points"

    @override
    async def list_tenants(self) -> Sequence[str]:
        return await self.ledger.list_tenants()

    @override
    async def run(self, scope: Scope, after: str) -> Slice:
        """Compares one page of passages with the points in its range.

        Raises:
            InvalidInputError: PAGE_TOKEN_INVALID.
            UnavailableError: VECTORS_REBUILDING, a lost store is filled again by itself.
        """
        profile, last = _parse_position(after)
        places = await self._list_complete()
        place = next((n for n, one in enumerate(places) if one.profile.name >= profile), None)
        if place is None:  # the last one was dropped since
            return Slice(checked=0, findings=())
        index, tenant = places[place], TenantScope(scope.tenant)
        if index.profile.name != profile:
            last = None
        page = await compare_page(self.ledger, index, tenant, last)
        following = ""
        if page.last:
            following = _make_position(index, page.last)
        elif place + 1 < len(places):
            following = _make_position(places[place + 1], None)
        missing = await self._drop_deleted(tenant, scope, page.missing)
        orphans = [one for one in page.orphans if scope.includes(one.document)]
        return Slice(
            checked=page.passages,
            findings=[
                Finding(
                    kind=pb.DIFFERENCE_KIND_POINT_MISSING,
                    count=len(missing),
                    repaired=len(missing)
                    if scope.dry_run
                    else await self._add(index, tenant, missing),
                    examples=[
                        f"{one.version.document} v{one.version.number} #{one.ordinal}"
                        for _, one in missing[:EXAMPLES_MAX]
                    ],
                ),
                Finding(
                    kind=pb.DIFFERENCE_KIND_POINT_ORPHANED,
                    count=len(orphans),
                    repaired=len(orphans)
                    if scope.dry_run
                    else await self._remove(index, tenant, orphans),
                    examples=[
                        f"{one.point_id} {one.document} v{one.version}"
                        for one in orphans[:EXAMPLES_MAX]
                    ],
                ),
            ],
            after=following,
        )

    async def _list_complete(self) -> Sequence[Index]:
        """The indexes to compare, by name; the live one must be complete."""
        live, *beside = await self.indexes.list_in_use()
        if not await self.indexes.check(live):
            raise rebuilding_error()
        complete = [live, *[one for one in beside if await self.indexes.check(one)]]
        return sorted(complete, key=lambda one: one.profile.name)

    async def _drop_deleted(
        self, tenant: TenantScope, scope: Scope, missing: Sequence[Row]
    ) -> Sequence[Row]:
        """Without passages of deletes that are running: those have removed their points."""
        chosen = [row for row in missing if scope.includes(row[1].version.document)]
        if not chosen:
            return chosen
        async with self.begin(tenant.tenant) as work:
            held = set(await work.rows.lock_passages([point_id for point_id, _ in chosen]))
        return [row for row in chosen if row[0] in held]

    async def _add(self, index: Index, tenant: TenantScope, missing: Sequence[Row]) -> int:
        restore = RestorePoints(index=index, begin=self.begin, ledger=self.ledger)
        return sum(
            [
                await restore.run(tenant, missing[first : first + RESTORED_TOGETHER])
                for first in range(0, len(missing), RESTORED_TOGETHER)
            ]
        )

    async def _remove(self, index: Index, tenant: TenantScope, orphans: Sequence[Entry]) -> int:
        """Removes those that no batch needs, and that still have no passage; returns their number.

        One that was stored since the passages were read may be of a superseded version by now.
        """
        unwanted: list[Entry] = []
        uncertain: list[Entry] = []
        for one in orphans:
            standing = await self.ledger.read_standing(tenant.tenant, one.document)
            (uncertain if standing.is_wanted(one.version) else unwanted).append(one)
        chosen = [UUID(one.point_id) for one in (*unwanted, *self._choose_settled(uncertain))]
        if not chosen:
            return 0
        async with self.begin(tenant.tenant) as work:
            held = await work.rows.lock_passages(chosen)
        gone = [str(one) for one in chosen if one not in held]
        return await index.vectors.delete_points(tenant, gone) if gone else 0

    def _choose_settled(self, orphans: Sequence[Entry]) -> Sequence[Entry]:
        """Those that had no passage long ago either; the others are remembered."""
        now_s = self.clock()
        first_s = [self._seen.setdefault(UUID(one.point_id), now_s) for one in orphans]
        for oldest in list(self._seen)[: max(0, len(self._seen) - SEEN_MAX)]:
            del self._seen[oldest]
        return [
            one
            for one, seen_s in zip(orphans, first_s, strict=True)
            if now_s - seen_s >= self.settled_s
        ]


def _make_position(index: Index, last: UUID | None) -> str:
    return f"{index.profile.name}/{last or ''}"


def _parse_position(after: str) -> tuple[str, UUID | None]:
    """The name of a profile, and the last point id that was compared in its index."""
    profile, slash, last = after.partition("/")
    if after and not slash:
        raise paging.invalid_token_error()
    try:
        return profile, UUID(last) if last else None
    except ValueError as error:
        raise paging.invalid_token_error() from error
