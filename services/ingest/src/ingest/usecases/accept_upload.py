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
from ingest.domain import Draft, Origin, Reference, Verdict
from ingest.usecases.accept_document import AcceptDocument, TenantLateError
from ingest.usecases.facts import Fact, refused
from ingest.usecases.ports import Drops, Units
from ingest.usecases.repeat_upload import repeat

CONTENT_MAX_BYTES: Final = 256 * 1024
# Deliveries, with growing pauses, in which a new tenant's fact may still arrive.
LATE_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptUpload:
    """Accepts an upload event once, however often it comes.

    A refused one has no effect and is not remembered: sent again, it is judged again, and as long
    as the judgement stays the same so does the result event.
    """

    accept: AcceptDocument
    units: Units
    drops: Drops

    async def __call__(
        self, event: DocumentUploaded, *, source: str, event_id: str, trace_id: str, attempt: int
    ) -> Fact | None:
        """None when it is accepted, else the result that refuses it.

        Raises:
            InvalidInputError: the id or source can not be kept, so nothing could refer to it.
            TenantLateError: the tenant was not heard of yet; try again soon.
            NotFoundError: TENANT_UNKNOWN, after `LATE_ATTEMPTS` of that.
            UnavailableError, OverloadedError, ConflictError: a dependency's, try again.
        """
        origin = Origin(source=source, request_id=event_id)
        try:
            await self._accepted(event, origin, trace_id)
        except TenantLateError as error:
            if attempt < LATE_ATTEMPTS:
                raise
            raise NotFoundError("TENANT_UNKNOWN", "no such tenant was ever heard of") from error
        except (InvalidInputError, NotFoundError, ForbiddenError, DataLossError) as error:
            return await self.refuse(event, source, event_id, error)
        except OverloadedError as error:
            # Waiting would hold up every tenant behind this one.
            if error.reason == "BACKLOG_FULL":
                return await self.refuse(event, source, event_id, error)
            raise
        return None

    async def refuse(
        self, event: DocumentUploaded, source: str, event_id: str, error: ServiceError
    ) -> Fact | None:
        """The result that refuses an upload event; None when it was accepted before.

        A producer may have cleaned up after the acknowledgement, a tenant may have been suspended
        since: what was accepted stays accepted.
        """
        if await self._is_known(event.tenant, source, event_id):
            return None
        verdict = Verdict(reason=error.reason, detail=error.detail)
        return refused(event, source, event_id, verdict)

    async def _is_known(self, tenant: str, source: str, event_id: str) -> bool:
        try:
            origin = Origin(source=source, request_id=event_id)
        except InvalidInputError:
            return False
        async with self.units(tenant) as work:
            upload = await work.uploads.find(origin)
            if upload is None:
                return False
            await repeat(work, upload)
            return True

    async def _accepted(self, event: DocumentUploaded, origin: Origin, trace_id: str) -> None:
        draft = Draft(
            tenant=event.tenant,
            name=event.document,
            file_name=event.file_name,
            media_type=event.media_type,
            title=event.title,
            metadata=dict(event.metadata),
            origin=replace(origin, correlation_id=event.correlation_id),
            trace_id=trace_id,
        )
        reference = _reference(event)
        content: bytes | AsyncIterator[bytes]
        content = self.drops.read(reference) if reference else _inline(event)
        await self.accept(draft, content, expected=reference)


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
