"""Events this service consumes."""

from dataclasses import dataclass
from typing import Annotated

from faststream import Context

from aquifer.auth.v1.auth_events_pb2 import TenantDeletionRequested
from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import (
    DescriptionChanged,
    DocumentDeletionRequested,
    DocumentFailed,
)
from chassis.base.errors import ServiceError
from chassis.events.delivery import Batch
from chassis.events.router import EventRouter
from chassis.process.tenant_removal import TenantRemoval
from query.usecases.documents import DescribeVersions, GiveUpVersion, PurgeDocument
from query.usecases.index_chunks import IndexChunks, RejectChunks


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """The use cases that handle the events."""

    index: IndexChunks
    reject: RejectChunks
    describe: DescribeVersions
    give_up: GiveUpVersion
    purge: PurgeDocument
    tenant_removal: TenantRemoval


App = Annotated[UseCases, Context("app")]

events = EventRouter()


async def reject_chunks(batch: Batch[ChunksEmbedded], error: ServiceError, app: App) -> None:
    """Rejects the chunks of a dead letter; ingest then fails the version."""
    await app.reject.run(batch, error.reason)


@events.on(ChunksEmbedded, batch=64, groups=2, on_dead=reject_chunks)
async def index_chunks(batch: Batch[ChunksEmbedded], app: App) -> None:
    await app.index.run(batch)


@events.on(DescriptionChanged, batch=64)
async def describe_versions(batch: Batch[DescriptionChanged], app: App) -> None:
    await app.describe.run(batch)


@events.on(DocumentFailed, batch=16)
async def give_up_version(batch: Batch[DocumentFailed], app: App) -> None:
    await app.give_up.run(batch)


@events.on(DocumentDeletionRequested, groups=8)
async def purge_document(batch: Batch[DocumentDeletionRequested], app: App) -> None:
    for delivery in batch:
        await app.purge.run(delivery)


@events.on(TenantDeletionRequested)
async def delete_tenant(batch: Batch[TenantDeletionRequested], app: App) -> None:
    for delivery in batch:
        await app.tenant_removal.mark(batch.tenant, delivery.event.attempt)
