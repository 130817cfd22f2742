"""Upload events: each is accepted as a document or refused with a result."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer.structs import to_json
from chassis.base.errors import InvalidInputError, OverloadedError
from chassis.base.labels import read_labels
from chassis.events.delivery import Delivery
from ingest.domain import Draft, Origin, Reference
from ingest.lanes import read_lane
from ingest.usecases.ports import References
from ingest.usecases.rows import Fetch
from ingest.usecases.uploads.accept_document import AcceptDocument
from ingest.usecases.uploads.answer_events import AnswerEvents, repeat_answer
from ingest.usecases.uploads.refusals import check_tenant
from ingest.usecases.work import Begin

CONTENT_MAX_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptUpload:
    """Accepts an upload event once, however often it is delivered; see `AnswerEvents`."""

    accept: AcceptDocument
    begin: Begin
    answers: AnswerEvents
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
            TenantLateError, NotFoundError, InvalidInputError: as `AnswerEvents.settle`.
            UnavailableError, OverloadedError, ConflictError: from a dependency; try again.
        """

        async def accept(origin: Origin) -> None:
            await self._accept(delivery, origin, trace_id, fetched=fetched)

        try:
            await self.answers.settle(delivery, accept)
        except OverloadedError as error:
            # Waiting would delay all other tenants.
            if fetched or error.reason != "BACKLOG_FULL":
                raise
            await self.answers.refuse(delivery, error)

    async def _accept(
        self,
        delivery: Delivery[DocumentUploaded],
        origin: Origin,
        trace_id: str,
        *,
        fetched: bool,
    ) -> None:
        draft, body = read_upload(delivery, origin, trace_id)
        if isinstance(body, bytes):
            await self.accept.run(draft, body)
            return
        reference = body
        self.references.check(reference)
        self.accept.sizes.check(reference.size_bytes, draft.media_type, draft.file_name)
        if self.references.is_remote(reference) and not fetched:
            await self._put_off(delivery, origin, trace_id)
            return
        async with aclosing(self.references.read(reference)) as content:
            await self.accept.run(draft, content, expected=reference)

    async def _put_off(
        self, delivery: Delivery[DocumentUploaded], origin: Origin, trace_id: str
    ) -> None:
        """Records an event whose content another server has; a known one gets its answer again."""
        tenant = delivery.event.tenant
        async with self.begin(tenant) as work:
            if await repeat_answer(work, tenant, origin):
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
    delivery: Delivery[DocumentUploaded], origin: Origin, trace_id: str
) -> tuple[Draft, bytes | Reference]:
    """The description of an upload event, and its content or where that is.

    Raises:
        InvalidInputError: DOCUMENT_NAME, METADATA_RANGE, LABELS_INVALID, BODY_MISSING,
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
        labels=read_labels(event.labels),
        origin=replace(origin, correlation_id=event.correlation_id),
        trace_id=trace_id,
        order_ns=delivery.stored_ns,
        lane=read_lane(event.lane),
    )
    return draft, _read_reference(event) or _read_content(event)


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
