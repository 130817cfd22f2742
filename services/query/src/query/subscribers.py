"""Events this service listens to."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import DocumentDeletionRequested, DocumentFailed
from chassis.base.errors import ServiceError
from chassis.base.postgres import Database, Transaction
from chassis.events.delivery import Delivery
from chassis.events.inbox import AlreadyAppliedError
from chassis.events.inbox import Effect as InboxEffect
from chassis.process.process import Process
from query.usecases.documents import GiveUpVersion, PurgeDocument
from query.usecases.index_batch import IndexBatch, RejectBatch
from query.usecases.ports import Effect, Fact, Once, Rows

T = TypeVar("T")

CHUNKS_CONCURRENCY = 16

RowsOf = Callable[[Transaction, str], Rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reactions:
    """The use cases behind the events."""

    index: IndexBatch
    reject: RejectBatch
    give_up: GiveUpVersion
    purge: PurgeDocument


def subscribe(process: Process, database: Database, rows: RowsOf, reactions: Reactions) -> None:
    """Attaches every subscriber of the service; `rows` makes a transaction a tenant's rows."""

    async def on_chunks_embedded(event: ChunksEmbedded, delivery: Delivery) -> None:
        """Stores a batch; the batch that completes a version makes it searchable.

        Idempotent: points and passages are upserts under ids that follow from the chunks.
        """
        await reactions.index(event, _once(delivery, rows))

    async def on_chunks_dead(
        event: ChunksEmbedded, delivery: Delivery, error: ServiceError
    ) -> None:
        """Tells ingest, which fails the version."""
        await reactions.reject(event, error.reason, _once(delivery, rows))

    async def on_document_failed(event: DocumentFailed, delivery: Delivery) -> None:
        """Removes what came of a version before it failed."""
        await reactions.give_up(event, _once(delivery, rows))

    async def on_document_deletion_requested(
        event: DocumentDeletionRequested, delivery: Delivery
    ) -> None:
        """Removes a document from every store of this service and tells what was removed."""
        await reactions.purge(event, _once(delivery, rows))

    process.consume(
        ChunksEmbedded,
        on_chunks_embedded,
        database=database,
        on_dead=on_chunks_dead,
        concurrency=CHUNKS_CONCURRENCY,
    )
    process.consume(DocumentFailed, on_document_failed, database=database)
    process.consume(DocumentDeletionRequested, on_document_deletion_requested, database=database)


def _once(delivery: Delivery, rows: RowsOf) -> Once:
    """The transaction of the event in hand, as the use cases see it."""

    async def once(document: str, work: Callable[[Effect], Awaitable[T]]) -> T | None:
        try:
            async with delivery.once(document=document) as effect:
                return await work(
                    Effect(rows=rows(effect.tx, delivery.envelope.tenant), emit=_emitter(effect))
                )
        except AlreadyAppliedError:
            return None

    return once


def _emitter(effect: InboxEffect) -> Callable[[Fact], None]:
    def emit(fact: Fact) -> None:
        effect.emit(fact, document=fact.document)

    return emit
