"""Removal events: the document is deleted, and the event gets the receipt."""

from contextlib import suppress
from dataclasses import dataclass, replace

from aquifer.ingest.v1.upload_events_pb2 import DocumentRemoved
from chassis.base.errors import UnavailableError
from chassis.events.delivery import Delivery
from ingest.domain import SUPERSEDED, Origin, State, Upload, UploadResult, View, check_name
from ingest.usecases import announce
from ingest.usecases.deletion.delete_document import (
    DeleteDocument,
    mark_deleting,
    unknown_document_error,
)
from ingest.usecases.uploads.answer_events import AnswerEvents, refuse_within, wait_for_overtaken
from ingest.usecases.uploads.refusals import AnsweredBeforeError, check_tenant
from ingest.usecases.uploads.repeat_upload import repeat
from ingest.usecases.work import Begin, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveDocument:
    """Deletes the document of a removal event, unless a later upload of it was handled before.

    * An upload from before a removal never brings the document back: the row of the document has
      the order of the removal, also if no upload of it was handled yet.
    * The removal waits for the purge like an upload for its index: it is acknowledged when the
      tombstone is committed, and `PurgeDocument` sends its result, `DocumentDeleted`.
    * A removal of a deleted document has the result of that delete, in whatever order they come.
    """

    begin: Begin
    answers: AnswerEvents
    delete: DeleteDocument

    async def run(self, delivery: Delivery[DocumentRemoved]) -> None:
        """Commits the deletion and hides the document; can be repeated.

        Raises:
            TenantLateError, NotFoundError, InvalidInputError: as `AnswerEvents.settle`.
            ConflictError: DOCUMENT_LATE, try again soon.
            UnavailableError, OverloadedError: from a dependency; try again.
        """
        await self.answers.settle(delivery, lambda origin: self._remove(delivery, origin))

    async def _remove(self, delivery: Delivery[DocumentRemoved], origin: Origin) -> None:
        tenant, origin = delivery.event.tenant, read_removal(delivery, origin)
        async with self.begin(tenant) as work:
            view = await self._record(work, delivery, origin)
        if view is not None:
            # Logged there; the order to delete, which is committed, hides the document as well.
            with suppress(UnavailableError):
                await self.delete.hide_deleted(tenant, view)

    async def _record(
        self, work: Work, delivery: Delivery[DocumentRemoved], origin: Origin
    ) -> View | None:
        """Records the removal and its effect; returns the document if it must be hidden."""
        name, order_ns = delivery.event.document, delivery.stored_ns
        claimed = await work.documents.claim([name])
        entry = claimed.entries[name]
        if refusal := check_tenant(origin, claimed.standing):
            raise refusal
        if await work.uploads.find(origin):
            raise AnsweredBeforeError
        if not entry.latest_version:
            wait_for_overtaken(delivery)
            await work.deletions.record_removal(entry, order_ns)
            await refuse_within(work, delivery, unknown_document_error())
            return None
        is_deleted = entry.tombstone_version == entry.latest_version
        if not is_deleted and order_ns < entry.upload_order:
            await supersede(work, delivery.event.tenant, name, origin)
            return None
        if is_deleted:
            await work.deletions.record_removal(entry, order_ns)
        view = await mark_deleting(work, name, self.delete.pace, order_ns=order_ns)
        await _await_purge(work, view, origin)
        return view


def read_removal(delivery: Delivery[DocumentRemoved], origin: Origin) -> Origin:
    """The identity of a removal event, after a check of its fields.

    Raises:
        InvalidInputError: DOCUMENT_NAME, METADATA_RANGE.
    """
    check_name(delivery.event.document, field="document")
    return replace(origin, correlation_id=delivery.event.correlation_id)


async def supersede(work: Work, tenant: str, document: str, origin: Origin) -> None:
    """Records and answers an event that was handled after a later one of its document."""
    upload = Upload(
        origin=origin,
        document=document,
        version=0,
        sha256="",
        unchanged=False,
        result=SUPERSEDED.reason,
        result_detail=SUPERSEDED.detail,
    )
    if not await work.uploads.add(upload):
        raise AnsweredBeforeError
    announce.send_superseded(work, tenant, upload)


async def _await_purge(work: Work, view: View, origin: Origin) -> None:
    """Records that the event waits for the purge; after the purge it has its result at once."""
    version = view.version
    upload = Upload(
        origin=origin,
        document=version.document,
        version=version.number,
        sha256="",
        unchanged=False,
        result=UploadResult.DELETED if version.state is State.DELETED else "",
    )
    if not await work.uploads.add(upload):
        raise AnsweredBeforeError
    # The acknowledgement, or the receipt if there is one.
    await repeat(work, upload)
