"""Events this service consumes."""

from dataclasses import dataclass
from typing import Annotated, Any

from faststream import Context

from aquifer.auth.v1.auth_events_pb2 import (
    TenantCreated,
    TenantDeletionRequested,
    TenantResumed,
    TenantSuspended,
)
from aquifer.inference.v1.embedding_events_pb2 import EmbeddingRejected
from aquifer.ingest.v1.document_events_pb2 import VersionAccepted
from aquifer.ingest.v1.upload_events_pb2 import (
    DocumentDescribed,
    DocumentRemoved,
    DocumentUploaded,
)
from aquifer.query.v1.passage_events_pb2 import (
    ChunksRejected,
    PassagesPurged,
    VersionDescribed,
    VersionSearchable,
)
from chassis.base.errors import ServiceError
from chassis.events.delivery import Batch, Unreadable
from chassis.events.outbox import INTERACTIVE_MORE, RELEASED_MAX
from chassis.events.router import EventRouter
from chassis.process.tenant_removal import TenantRemoval
from ingest.domain import Verdict
from ingest.traces import current_trace_id
from ingest.usecases.deletion.delete_document import PurgeDocument
from ingest.usecases.deletion.remove_document import RemoveDocument
from ingest.usecases.documents.describe_document import DescribeDocument
from ingest.usecases.uploads.accept_upload import AcceptUpload
from ingest.usecases.uploads.answer_events import AnswerEvents
from ingest.usecases.versions.describe_version import ConfirmDescriptions
from ingest.usecases.versions.finish_document import MarkSearchable, RejectVersion, give_up
from ingest.usecases.versions.prepare_document import PrepareDocument
from ingest.usecases.work import Begin

ACCEPT_GROUPS = 64
# All that the outbox releases, so that an interactive document waits behind none in the stream.
PREPARE_GROUPS = RELEASED_MAX + INTERACTIVE_MORE
REMOVE_GROUPS = 16
DESCRIBE_GROUPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """The use cases that handle the events."""

    begin: Begin
    answers: AnswerEvents
    accept: AcceptUpload
    remove: RemoveDocument
    describe: DescribeDocument
    prepare: PrepareDocument
    mark_searchable: MarkSearchable
    confirm_descriptions: ConfirmDescriptions
    reject: RejectVersion
    purge: PurgeDocument
    tenant_removal: TenantRemoval


App = Annotated[UseCases, Context("app")]


events = EventRouter()


async def give_up_event(batch: Batch[Any], error: ServiceError, app: App) -> None:
    """Sends the result of an event of an upstream system that becomes a dead letter."""
    for delivery in batch:
        await app.answers.give_up(delivery, error)


async def refuse_unreadable(event: Unreadable, error: ServiceError, app: App) -> None:
    """Sends the result of an event of an upstream system that cannot be read."""
    await app.answers.refuse_unreadable(event, error)


async def fail_version(batch: Batch[VersionAccepted], error: ServiceError, app: App) -> None:
    """Fails the version with the reason of its dead letter."""
    verdict = Verdict(reason=error.reason, detail=error.detail)
    async with app.begin(batch.tenant, batch) as work:
        for delivery in work.fresh:
            event = delivery.event
            await give_up(work, event.document, event.version, verdict, delivery)


# Uploads that arrive together share a transaction, see `RecordUploads`.
@events.on(
    DocumentUploaded,
    groups=ACCEPT_GROUPS,
    on_dead=give_up_event,
    on_unreadable=refuse_unreadable,
)
async def accept_upload(batch: Batch[DocumentUploaded], app: App) -> None:
    for delivery in batch:
        await app.accept.run(delivery, current_trace_id())


@events.on(
    DocumentRemoved,
    groups=REMOVE_GROUPS,
    on_dead=give_up_event,
    on_unreadable=refuse_unreadable,
)
async def remove_document(batch: Batch[DocumentRemoved], app: App) -> None:
    for delivery in batch:
        await app.remove.run(delivery)


@events.on(
    DocumentDescribed,
    groups=DESCRIBE_GROUPS,
    on_dead=give_up_event,
    on_unreadable=refuse_unreadable,
)
async def describe_document(batch: Batch[DocumentDescribed], app: App) -> None:
    for delivery in batch:
        await app.describe.run(delivery)


@events.on(VersionAccepted, groups=PREPARE_GROUPS, on_dead=fail_version)
async def prepare_version(batch: Batch[VersionAccepted], app: App) -> None:
    for delivery in batch:
        await app.prepare.run(delivery)


@events.on(VersionSearchable, batch=64, groups=2)
async def mark_searchable(batch: Batch[VersionSearchable], app: App) -> None:
    await app.mark_searchable.run(batch)


@events.on(VersionDescribed, batch=64)
async def confirm_descriptions(batch: Batch[VersionDescribed], app: App) -> None:
    await app.confirm_descriptions.run(batch)


@events.on(ChunksRejected, batch=16)
async def reject_chunks(batch: Batch[ChunksRejected], app: App) -> None:
    await app.reject.run(batch)


@events.on(EmbeddingRejected, batch=16)
async def reject_embedding(batch: Batch[EmbeddingRejected], app: App) -> None:
    await app.reject.run(batch)


@events.on(PassagesPurged, groups=8)
async def purge_document(batch: Batch[PassagesPurged], app: App) -> None:
    for delivery in batch:
        await app.purge.run(delivery)


@events.on(TenantCreated, batch=16)
async def admit_tenant(batch: Batch[TenantCreated], app: App) -> None:
    async with app.begin(batch.tenant, batch) as work:
        if work.fresh:
            await work.tenants.admit()


@events.on(TenantSuspended, batch=16)
async def suspend_tenant(batch: Batch[TenantSuspended], app: App) -> None:
    async with app.begin(batch.tenant, batch) as work:
        for delivery in work.fresh:
            await work.tenants.suspend(delivery.event.sequence)


@events.on(TenantResumed, batch=16)
async def resume_tenant(batch: Batch[TenantResumed], app: App) -> None:
    async with app.begin(batch.tenant, batch) as work:
        for delivery in work.fresh:
            await work.tenants.resume(delivery.event.sequence)


@events.on(TenantDeletionRequested)
async def delete_tenant(batch: Batch[TenantDeletionRequested], app: App) -> None:
    for delivery in batch:
        await app.tenant_removal.mark(batch.tenant, delivery.event.attempt)
