"""Events this service consumes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from faststream import Context

from aquifer.auth.v1.tenant_deletion_pb2 import RemovedCount
from aquifer.ingest.v1.tenant_events_pb2 import TenantDocumentsRemoved
from aquifer.query.v1.tenant_events_pb2 import TenantPassagesRemoved
from auth.usecases.delete_tenant import RecordRemoval
from chassis.events.delivery import Batch
from chassis.events.router import EventRouter


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """The use cases that handle the events."""

    record_removal: RecordRemoval


App = Annotated[UseCases, Context("app")]

events = EventRouter()


@events.on(TenantDocumentsRemoved)
async def record_documents_removed(batch: Batch[TenantDocumentsRemoved], app: App) -> None:
    for one in batch:
        await app.record_removal.run(batch.tenant, "ingest", _counts(one.event.removed))


@events.on(TenantPassagesRemoved)
async def record_passages_removed(batch: Batch[TenantPassagesRemoved], app: App) -> None:
    for one in batch:
        await app.record_removal.run(batch.tenant, "query", _counts(one.event.removed))


def _counts(removed: Iterable[RemovedCount]) -> Mapping[str, int]:
    return {one.store: one.count for one in removed}
