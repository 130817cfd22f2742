"""Upload events: each is accepted as a document or refused with a result."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer.structs import to_json
from chassis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    ServiceError,
)
from chassis.events.delivery import Delivery, Unreadable
from chassis.events.envelope import Glimpse
from ingest.domain import ID_MAX_CHARS, Draft, Origin, Reference, Upload, Verdict
from ingest.usecases import announce
from ingest.usecases.accept_document import AcceptDocument
from ingest.usecases.ports import References
from ingest.usecases.record_uploads import (
    RefusedBeforeError,
    TenantLateError,
    check_tenant,
)
from ingest.usecases.repeat_upload import repeat
from ingest.usecases.rows import Fetch
from ingest.usecases.work import Begin, Work

CONTENT_MAX_BYTES: Final = 256 * 1024
# Deliveries, with growing pauses, in which a new tenant's fact may still arrive.
LATE_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptUpload:
    """Accepts an upload event once, however often it is delivered; recorded in the uploads table.

    A refusal is recorded as well, so that an id has one result. A dead letter is not recorded,
    because an operator may replay it after fixing the cause.
    """

    accept: AcceptDocument
    begin: Begin
    references: References
    fetches_max: int
    due: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self, delivery: Delivery[DocumentUploaded], trace_id: str, *, fetched: bool = False
    ) -> None:
        """Accepts the event, or refuses it with a result.

        If another server has its content, the event is only recorded, and `due` is set; then
        `FetchContent` runs it again, with `fetched`.

        Raises:
            InvalidInputError: the id or source cannot be stored, so no result can refer to it.
            TenantLateError: the tenant is not known here yet; try again soon.
            NotFoundError: TENANT_UNKNOWN, after `LATE_ATTEMPTS` attempts.
            UnavailableError, OverloadedError, ConflictError: from a dependency; try again.
        """
        origin = _read_origin(delivery)
        try:
            await self._accept(delivery, origin, trace_id, fetched=fetched)
        except TenantLateError as error:
            if delivery.attempt < LATE_ATTEMPTS:
                raise
            raise NotFoundError(
                "TENANT_UNKNOWN", "unknown tenant; check its id, or create it first"
            ) from error
        except (
            InvalidInputError,
            NotFoundError,
            ForbiddenError,
            FailedPreconditionError,
            DataLossError,
        ) as error:
            await self.refuse(delivery, error)
        except OverloadedError as error:
            # Waiting would delay all other tenants.
            if fetched or error.reason != "BACKLOG_FULL":
                raise
            await self.refuse(delivery, error)
        except RefusedBeforeError:
            async with self.begin(delivery.event.tenant) as work:
                await _repeat(work, delivery.event.tenant, origin)

    async def give_up(self, delivery: Delivery[DocumentUploaded], error: ServiceError) -> None:
        """Sends the result of an upload event that becomes a dead letter, unless it has one."""
        event, about = delivery.event, delivery.envelope
        async with self.begin(event.tenant) as work:
            try:
                if await _repeat(work, event.tenant, _read_origin(delivery)):
                    return
            except InvalidInputError:
                pass  # an id that cannot be stored was never accepted
            verdict = Verdict(reason=error.reason, detail=error.detail)
            announce.send_dead_letter_result(work, event, about.source, about.event_id, verdict)

    async def refuse_unreadable(self, event: Unreadable, error: ServiceError) -> None:
        """Sends the result of an upload event that cannot be read; it also becomes a dead letter.

        Its tenant is certain: the broker lets a publisher use only the subjects of its own tenant.
        With an id and a source it is refused for good, like any other; without them its producer
        cannot repeat it, and the id of the result follows from its place in the stream.
        """
        seen = event.seen
        refusal = Upload(
            origin=Origin(correlation_id=announce.truncate(seen.correlation_id, ID_MAX_CHARS)),
            document=announce.truncate(seen.document),
            version=0,
            sha256="",
            unchanged=False,
            result=error.reason,
            result_detail=announce.truncate(error.detail),
        )
        origin = _find_origin(seen, refusal.origin.correlation_id)
        async with self.begin(event.tenant) as work:
            if origin is None:
                announce.send_unreadable(work, event, refusal)
            else:
                await _settle_refusal(work, event.tenant, replace(refusal, origin=origin))

    async def refuse(self, delivery: Delivery[DocumentUploaded], error: ServiceError) -> None:
        """Records a refusal and sends the result, unless the event was answered before.

        An accepted event stays accepted, even if its producer has removed the file since, or its
        tenant has been suspended.
        """
        event, origin = delivery.event, _read_origin(delivery)
        correlation_id = announce.truncate(event.correlation_id, ID_MAX_CHARS)
        refusal = Upload(
            origin=replace(origin, correlation_id=correlation_id),
            document=announce.truncate(event.document),
            version=0,
            sha256="",
            unchanged=False,
            result=error.reason,
            result_detail=announce.truncate(error.detail),
        )
        async with self.begin(event.tenant) as work:
            await _settle_refusal(work, event.tenant, refusal)

    async def _accept(
        self,
        delivery: Delivery[DocumentUploaded],
        origin: Origin,
        trace_id: str,
        *,
        fetched: bool,
    ) -> None:
        draft, body = read_upload(delivery, trace_id)
        if isinstance(body, bytes):
            await self.accept.run(draft, body)
            return
        reference = body
        self._check_reference(reference)
        if self.references.is_remote(reference) and not fetched:
            await self._put_off(delivery, origin, trace_id)
            return
        async with aclosing(self.references.read(reference)) as content:
            await self.accept.run(draft, content, expected=reference)

    def _check_reference(self, reference: Reference) -> None:
        self.references.check(reference)
        if reference.size_bytes > self.accept.max_bytes:
            raise InvalidInputError(
                "DOCUMENT_TOO_LARGE",
                f"more than {self.accept.max_bytes} bytes",
                limit_bytes=self.accept.max_bytes,
            )

    async def _put_off(
        self, delivery: Delivery[DocumentUploaded], origin: Origin, trace_id: str
    ) -> None:
        """Records an event whose content another server has; a known one gets its answer again."""
        tenant = delivery.event.tenant
        async with self.begin(tenant) as work:
            if await _repeat(work, tenant, origin):
                return
            if refusal := check_tenant(origin, await work.tenants.find_standing()):
                raise refusal
            if await work.fetches.count() >= self.fetches_max:
                raise OverloadedError(
                    "BACKLOG_FULL",
                    f"{self.fetches_max} uploads of the tenant wait for their content; retry later",
                    limit=self.fetches_max,
                )
            await work.fetches.add(
                Fetch(
                    tenant=tenant,
                    source=origin.source,
                    request_id=origin.request_id,
                    upload=delivery.event.SerializeToString(),
                    stored_ns=delivery.stored_ns,
                    trace_id=trace_id,
                )
            )
        self.due.set()


def read_upload(
    delivery: Delivery[DocumentUploaded], trace_id: str
) -> tuple[Draft, bytes | Reference]:
    """The description of an upload event, and its content or where that is.

    Raises:
        InvalidInputError: UPLOAD_EVENT_ID, DOCUMENT_NAME, METADATA_RANGE, BODY_MISSING,
            DOCUMENT_TOO_LARGE, REFERENCE_INVALID.
    """
    event = delivery.event
    draft = Draft(
        tenant=event.tenant,
        name=event.document,
        file_name=event.file_name,
        media_type=event.media_type,
        title=event.title,
        metadata=to_json(event.metadata),
        origin=replace(_read_origin(delivery), correlation_id=event.correlation_id),
        trace_id=trace_id,
        order_ns=delivery.stored_ns,
    )
    return draft, _read_reference(event) or _read_content(event)


def _read_origin(delivery: Delivery[DocumentUploaded]) -> Origin:
    about = delivery.envelope
    return Origin(source=about.source, request_id=about.event_id)


def _find_origin(seen: Glimpse, correlation_id: str) -> Origin | None:
    """The identity of an unreadable event; None if it has none, or one that cannot be stored."""
    if not (seen.event_id and seen.source):
        return None
    try:
        return Origin(source=seen.source, request_id=seen.event_id, correlation_id=correlation_id)
    except InvalidInputError:
        return None


async def _settle_refusal(work: Work, tenant: str, refusal: Upload) -> None:
    """Records a refusal and sends it; an event that was answered before gets that answer again."""
    if await work.uploads.add(refusal):
        announce.send_refusal(work, tenant, refusal)
    else:
        await _repeat(work, tenant, refusal.origin)


async def _repeat(work: Work, tenant: str, origin: Origin) -> bool:
    """Sends the recorded answer of an upload event again; False if there is none."""
    upload = await work.uploads.find(origin)
    if upload is None:
        return False
    if upload.is_refused:
        announce.send_refusal(work, tenant, upload)
    else:
        await repeat(work, upload)
    return True


def _read_reference(event: DocumentUploaded) -> Reference | None:
    if event.WhichOneof("body") != "reference":
        return None
    found = event.reference
    return Reference(uri=found.uri, sha256=found.sha256, size_bytes=found.size_bytes)


def _read_content(event: DocumentUploaded) -> bytes:
    if event.WhichOneof("body") != "content":
        raise InvalidInputError("BODY_MISSING", "the event must have content or a reference")
    if len(event.content) > CONTENT_MAX_BYTES:
        raise InvalidInputError(
            "DOCUMENT_TOO_LARGE",
            f"an event has at most {CONTENT_MAX_BYTES} bytes of content; send a reference instead",
            limit_bytes=CONTENT_MAX_BYTES,
        )
    return event.content
