"""Events this service consumes."""

from dataclasses import dataclass
from typing import Annotated

from faststream import Context

from aquifer.auth.v1.auth_events_pb2 import TenantDeletionRequested
from aquifer.inference.v1.embedding_events_pb2 import EmbeddingRejected
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared, DocumentDeletionRequested
from chassis.base.errors import ServiceError
from chassis.events.delivery import Batch
from chassis.events.router import EventRouter
from inference.domain import Source
from inference.ports import DeadLetters, VectorCache
from inference.usecases import EmbedChunks

# So many wait at the engine, whose queue is fair to tenants and their documents.
EMBED_GROUPS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """What the events are handled by."""

    embed: EmbedChunks
    dead_letters: DeadLetters
    cache: VectorCache


App = Annotated[UseCases, Context("app")]

events = EventRouter()


async def reject_chunks(batch: Batch[ChunksPrepared], error: ServiceError, app: App) -> None:
    """Reports the failure to ingest, which fails the version."""
    async with app.embed.begin(batch.tenant, batch) as work:
        for delivery in work.fresh:
            event = delivery.event
            rejected = EmbeddingRejected(
                tenant=event.tenant,
                document=event.document,
                version=event.version,
                batch=event.batch,
                reason=error.reason,
            )
            work.emit(rejected, about=event.document, cause=delivery)


@events.on(ChunksPrepared, groups=EMBED_GROUPS, on_dead=reject_chunks)
async def embed_chunks(batch: Batch[ChunksPrepared], app: App) -> None:
    for delivery in batch:
        await app.embed.run(delivery)


@events.on(DocumentDeletionRequested)
async def forget_document(batch: Batch[DocumentDeletionRequested], app: App) -> None:
    for delivery in batch:
        event = delivery.event
        await app.dead_letters.discard_document(batch.tenant, event.document)
        await app.cache.forget(Source(batch.tenant, event.document, event.version))


@events.on(TenantDeletionRequested)
async def forget_tenant(batch: Batch[TenantDeletionRequested], app: App) -> None:
    await app.dead_letters.discard_tenant(batch.tenant)
    await app.cache.forget_tenant(batch.tenant)
