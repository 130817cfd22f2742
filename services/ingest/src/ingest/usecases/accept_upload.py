"""An upload event becomes an accepted document, or is refused with a result."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from chassis.base.errors import (
    DataLossError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    ServiceError,
)
from chassis.events.delivery import Delivery
from ingest.domain import Draft, Origin, Reference, Upload, Verdict
from ingest.usecases import announce
from ingest.usecases.accept_document import AcceptDocument
from ingest.usecases.ports import Drops
from ingest.usecases.record_uploads import TenantLateError
from ingest.usecases.repeat_upload import repeat
from ingest.usecases.work import Begin, Work

CONTENT_MAX_BYTES: Final = 256 * 1024
# Deliveries, with growing pauses, in which a new tenant's fact may still arrive.
LATE_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptUpload:
    """Accepts an upload event once, however often it comes; its memory is the uploads table.

    A refused one has no effect and is not remembered: sent again, it is judged again, and as long
    as the judgement stays the same so does the result event.
    """

    accept: AcceptDocument
    begin: Begin
    drops: Drops

    async def run(self, delivery: Delivery[DocumentUploaded], trace_id: str) -> None:
        """Accepts it, or refuses it with a result.

        Raises:
            InvalidInputError: the id or source can not be kept, so nothing could refer to it.
            TenantLateError: the tenant is not known here yet; try again soon.
            NotFoundError: TENANT_UNKNOWN, after `LATE_ATTEMPTS` of that.
            UnavailableError, OverloadedError, ConflictError: a dependency's, try again.
        """
        origin = _origin(delivery)
        try:
            await self._accept(delivery, origin, trace_id)
        except TenantLateError as error:
            if delivery.attempt < LATE_ATTEMPTS:
                raise
            raise NotFoundError("TENANT_UNKNOWN", "unknown tenant") from error
        except (InvalidInputError, NotFoundError, ForbiddenError, DataLossError) as error:
            await self.refuse(delivery, error)
        except OverloadedError as error:
            # Waiting would hold up every tenant behind this one.
            if error.reason != "BACKLOG_FULL":
                raise
            await self.refuse(delivery, error)

    async def refuse(self, delivery: Delivery[DocumentUploaded], error: ServiceError) -> None:
        """Tells the result that refuses an upload event, unless it was accepted before.

        A producer may have cleaned up after the acknowledgement, a tenant may have been suspended
        since: what was accepted stays accepted.
        """
        event, about = delivery.event, delivery.envelope
        async with self.begin(event.tenant) as work:
            upload = await _find(work, delivery)
            if upload is not None:
                await repeat(work, upload)
                return
            verdict = Verdict(reason=error.reason, detail=error.detail)
            announce.refused(work, event, about.source, about.event_id, verdict)

    async def _accept(
        self, delivery: Delivery[DocumentUploaded], origin: Origin, trace_id: str
    ) -> None:
        event = delivery.event
        draft = Draft(
            tenant=event.tenant,
            name=event.document,
            file_name=event.file_name,
            media_type=event.media_type,
            title=event.title,
            metadata=dict(event.metadata),
            origin=replace(origin, correlation_id=event.correlation_id),
            trace_id=trace_id,
            order_ns=delivery.stored_ns,
        )
        reference = _reference(event)
        content: bytes | AsyncIterator[bytes]
        content = self.drops.read(reference) if reference else _inline(event)
        await self.accept.run(draft, content, expected=reference)


def _origin(delivery: Delivery[DocumentUploaded]) -> Origin:
    about = delivery.envelope
    return Origin(source=about.source, request_id=about.event_id)


async def _find(work: Work, delivery: Delivery[DocumentUploaded]) -> Upload | None:
    try:
        return await work.uploads.find(_origin(delivery))
    except InvalidInputError:
        return None


def _reference(event: DocumentUploaded) -> Reference | None:
    if event.WhichOneof("body") != "reference":
        return None
    found = event.reference
    return Reference(uri=found.uri, sha256=found.sha256, size_bytes=found.size_bytes)


def _inline(event: DocumentUploaded) -> bytes:
    if event.WhichOneof("body") != "content":
        raise InvalidInputError("BODY_MISSING", "the event carries neither content nor reference")
    if len(event.content) > CONTENT_MAX_BYTES:
        raise InvalidInputError(
            "DOCUMENT_TOO_LARGE",
            f"an event carries at most {CONTENT_MAX_BYTES} bytes; refer to more than that",
            limit_bytes=CONTENT_MAX_BYTES,
        )
    return event.content
