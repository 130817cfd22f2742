"""What query removes of a deleted tenant."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from aquifer.auth.v1.tenant_deletion_pb2 import RemovedCount
from aquifer.query.v1.tenant_events_pb2 import TenantPassagesRemoved
from chassis.events.work import GuardedTransactions
from chassis.process.tenant_removal import DiscardTenant, RemoveAll, TenantRemoval
from query.retrieval.vector_store import TenantScope
from query.usecases.indexes import Indexes

POINTS_PAGE: Final = 256


def make_removal(
    transactions: GuardedTransactions, indexes: Indexes, dead_letters: DiscardTenant
) -> TenantRemoval:
    """The removal of tenants from query."""
    return TenantRemoval(
        transactions=transactions,
        dead_letters=dead_letters,
        make_report=_make_report,
        stores={"points": _make_remove_points(indexes)},
    )


def _make_remove_points(indexes: Indexes) -> RemoveAll:
    async def remove_points(tenant: str) -> AsyncIterator[int]:
        """Removes the points from every index in use; others get none, and are dropped whole."""
        scope = TenantScope(tenant)
        for index in await indexes.list_in_use():
            while page := (await index.vectors.scroll(scope, limit=POINTS_PAGE)).entries:
                yield await index.vectors.delete_points(scope, [one.point_id for one in page])

    return remove_points


def _make_report(tenant: str, removed: Mapping[str, int]) -> TenantPassagesRemoved:
    counts = [RemovedCount(store=store, count=count) for store, count in sorted(removed.items())]
    return TenantPassagesRemoved(tenant=tenant, removed=counts)
