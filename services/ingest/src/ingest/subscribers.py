"""Events this service listens to."""

from collections.abc import Callable
from dataclasses import dataclass

from aquifer.auth.v1.auth_events_pb2 import TenantCreated, TenantResumed, TenantSuspended
from aquifer.inference.v1.embedding_events_pb2 import EmbeddingRejected
from aquifer.ingest.v1.document_events_pb2 import DocumentAccepted
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer.query.v1.passage_events_pb2 import ChunksRejected, PassagesPurged, VersionSearchable
from chassis.base.errors import ServiceError
from chassis.base.postgres import Database
from chassis.events.delivery import Delivery
from chassis.events.envelope import derived_id, outgoing
from chassis.process.process import Process
from ingest.domain import Verdict
from ingest.settings import Settings
from ingest.traces import current_trace_id
from ingest.usecases.accept_upload import AcceptUpload
from ingest.usecases.delete_document import PurgeDocument
from ingest.usecases.facts import Fact
from ingest.usecases.finish_document import MarkSearchable, RejectVersion, give_up
from ingest.usecases.ports import Once
from ingest.usecases.prepare_document import PrepareDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribers:
    """One method for each event, on top of the use cases."""

    once: Callable[[Delivery], Once]
    accept: AcceptUpload
    prepare: PrepareDocument
    mark_searchable: MarkSearchable
    reject: RejectVersion
    purge: PurgeDocument

    async def on_document_uploaded(self, event: DocumentUploaded, delivery: Delivery) -> None:
        """Once per source and id, however often it comes; its memory is the uploads table."""
        about = delivery.envelope
        refused = await self.accept(
            event,
            source=about.source,
            event_id=about.event_id,
            trace_id=current_trace_id(),
            attempt=delivery.attempt,
        )
        if refused:
            _send(delivery, refused)

    async def on_document_accepted(self, event: DocumentAccepted, delivery: Delivery) -> None:
        await self.prepare(event, self.once(delivery))

    async def on_version_searchable(self, event: VersionSearchable, delivery: Delivery) -> None:
        await self.mark_searchable(event, self.once(delivery))

    async def on_chunks_rejected(self, event: ChunksRejected, delivery: Delivery) -> None:
        await self.reject(event, self.once(delivery))

    async def on_embedding_rejected(self, event: EmbeddingRejected, delivery: Delivery) -> None:
        await self.reject(event, self.once(delivery))

    async def on_passages_purged(self, event: PassagesPurged, delivery: Delivery) -> None:
        await self.purge(event, self.once(delivery))

    async def on_tenant_created(self, _: TenantCreated, delivery: Delivery) -> None:
        async with self.once(delivery)("") as work:
            await work.tenants.admit()

    async def on_tenant_suspended(self, event: TenantSuspended, delivery: Delivery) -> None:
        async with self.once(delivery)("") as work:
            await work.tenants.suspend(event.sequence)

    async def on_tenant_resumed(self, event: TenantResumed, delivery: Delivery) -> None:
        async with self.once(delivery)("") as work:
            await work.tenants.resume(event.sequence)

    async def upload_died(
        self, event: DocumentUploaded, delivery: Delivery, error: ServiceError
    ) -> None:
        """An upload event that is given up is told so like one that is refused."""
        about = delivery.envelope
        refused = await self.accept.refuse(event, about.source, about.event_id, error)
        if refused:
            _send(delivery, refused)

    async def accepted_died(
        self, event: DocumentAccepted, delivery: Delivery, error: ServiceError
    ) -> None:
        """The version fails with what ended its event."""
        verdict = Verdict(reason=error.reason, detail=error.detail)
        async with self.once(delivery)(event.document) as work:
            await give_up(work, event.document, event.version, verdict)


def _send(delivery: Delivery, fact: Fact) -> None:
    """Sends a fact that leaves nothing behind here, before the event is settled."""
    event_id = derived_id(*fact.identity)
    delivery.outgoing.append(outgoing(fact.event, event_id=event_id, document=fact.document))


def subscribe(
    process: Process, database: Database, subscribers: Subscribers, settings: Settings
) -> None:
    """Attach every subscriber of the service to the process."""
    process.consume(
        DocumentUploaded,
        subscribers.on_document_uploaded,
        on_dead=subscribers.upload_died,
        concurrency=settings.accept_concurrency,
    )
    process.consume(
        DocumentAccepted,
        subscribers.on_document_accepted,
        database=database,
        on_dead=subscribers.accepted_died,
        concurrency=settings.prepare_concurrency,
    )
    process.consume(
        VersionSearchable,
        subscribers.on_version_searchable,
        database=database,
        concurrency=settings.finish_concurrency,
    )
    process.consume(ChunksRejected, subscribers.on_chunks_rejected, database=database)
    process.consume(EmbeddingRejected, subscribers.on_embedding_rejected, database=database)
    process.consume(PassagesPurged, subscribers.on_passages_purged, database=database)
    process.consume(TenantCreated, subscribers.on_tenant_created, database=database)
    process.consume(TenantSuspended, subscribers.on_tenant_suspended, database=database)
    process.consume(TenantResumed, subscribers.on_tenant_resumed, database=database)
