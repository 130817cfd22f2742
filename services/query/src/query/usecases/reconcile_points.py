"""Compares passages and points for an operator, and repairs what differs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from typing_extensions import override

from aquifer.ops.v1 import reconcile_service_pb2 as pb
from chassis.base import paging
from chassis.process.reconcile import EXAMPLES_MAX, Check, Finding, Scope, Slice
from query.retrieval.vector_store import Entry, TenantScope, VectorStore
from query.usecases.compare_points import (
    RESTORED_TOGETHER,
    RestorePoints,
    Row,
    compare_page,
)
from query.usecases.find_passages import Serving, rebuilding_error
from query.usecases.ports import Begin, Ledger

# Longer than a batch takes from writing its points to storing its passages.
SETTLED_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePoints(Check):
    """Adds the points of passages that have none, and removes points that have no passage.

    A point without a passage may belong to a batch that is about to store its passages. Unless its
    version is deleted, superseded or failed, it is removed only if it still has none after
    `settled_s` seconds.
    """

    begin: Begin
    ledger: Ledger
    vectors: VectorStore
    restore: RestorePoints
    serving: Serving
    settled_s: float = SETTLED_S

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
        if self.serving.store_id is None:
            raise rebuilding_error()
        tenant = TenantScope(scope.tenant)
        page = await compare_page(self.ledger, self.vectors, tenant, _parse_position(after))
        missing = await self._drop_deleted(tenant, scope, page.missing)
        orphans = [one for one in page.orphans if scope.includes(one.document)]
        return Slice(
            checked=page.passages,
            findings=[
                Finding(
                    kind=pb.DIFFERENCE_KIND_POINT_MISSING,
                    count=len(missing),
                    repaired=len(missing) if scope.dry_run else await self._add(tenant, missing),
                    examples=[
                        f"{one.version.document} v{one.version.number} #{one.ordinal}"
                        for _, one in missing[:EXAMPLES_MAX]
                    ],
                ),
                Finding(
                    kind=pb.DIFFERENCE_KIND_POINT_ORPHANED,
                    count=len(orphans),
                    repaired=len(orphans) if scope.dry_run else await self._remove(tenant, orphans),
                    examples=[
                        f"{one.point_id} {one.document} v{one.version}"
                        for one in orphans[:EXAMPLES_MAX]
                    ],
                ),
            ],
            after=str(page.last) if page.last else "",
        )

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

    async def _add(self, tenant: TenantScope, missing: Sequence[Row]) -> int:
        return sum(
            [
                await self.restore.run(tenant, missing[first : first + RESTORED_TOGETHER])
                for first in range(0, len(missing), RESTORED_TOGETHER)
            ]
        )

    async def _remove(self, tenant: TenantScope, orphans: Sequence[Entry]) -> int:
        """Removes those that no batch needs; returns their number."""
        unwanted: list[Entry] = []
        uncertain: list[Entry] = []
        for one in orphans:
            standing = await self.ledger.read_standing(tenant.tenant, one.document)
            (uncertain if standing.is_wanted(one.version) else unwanted).append(one)
        if uncertain:
            await asyncio.sleep(self.settled_s)
            async with self.begin(tenant.tenant) as work:
                held = await work.rows.lock_passages([UUID(one.point_id) for one in uncertain])
            unwanted += [one for one in uncertain if UUID(one.point_id) not in set(held)]
        if not unwanted:
            return 0
        return await self.vectors.delete_points(tenant, [one.point_id for one in unwanted])


def _parse_position(after: str) -> UUID | None:
    try:
        return UUID(after) if after else None
    except ValueError as error:
        raise paging.invalid_token_error() from error
