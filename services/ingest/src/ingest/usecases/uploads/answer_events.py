"""Answers to the events of upstream systems: one final result for each, however often it comes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from aquifer.ingest.v1.upload_events_pb2 import (
    DocumentDescribed,
    DocumentRemoved,
    DocumentUploaded,
)
from chassis.base.errors import (
    ConflictError,
    DataLossError,
    FailedPreconditionError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    ServiceError,
)
from chassis.base.tenants import TenantDeletedError
from chassis.events.delivery import Delivery, Unreadable
from chassis.events.envelope import Glimpse
from ingest.domain import ID_MAX_CHARS, Origin, Upload, Verdict
from ingest.usecases import announce
from ingest.usecases.uploads.refusals import AnsweredBeforeError, SupersededError, TenantLateError
from ingest.usecases.uploads.repeat_upload import repeat
from ingest.usecases.work import Begin, BeginPublication, Work

# Deliveries, with growing pauses, in which a new tenant's fact may still arrive.
LATE_ATTEMPTS: Final = 5
# Deliveries, with pauses of six seconds in all, in which an upload that an event has overtaken may
# still be handled.
OVERTAKEN_ATTEMPTS: Final = 6

UpstreamDelivery = (
    Delivery[DocumentUploaded] | Delivery[DocumentRemoved] | Delivery[DocumentDescribed]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEvents:
    """Gives every event of an upstream system one result, recorded in the uploads table.

    A refusal is recorded as well, so that an id has one result. A dead letter is not recorded,
    because an operator may replay it after fixing the cause. Nothing is recorded for a deleted
    tenant: each of its events is refused, also one that had another result before.
    """

    begin: Begin
    publish: BeginPublication

    async def settle(
        self, delivery: UpstreamDelivery, handle: Callable[[Origin], Awaitable[None]]
    ) -> None:
        """Handles an event; if it is refused, the refusal is its result.

        Raises:
            InvalidInputError: the id or source cannot be stored, so no result can refer to it.
            TenantLateError: the tenant is not known here yet; try again soon.
            NotFoundError: TENANT_UNKNOWN, after `LATE_ATTEMPTS` attempts.
            UnavailableError, OverloadedError, ConflictError: from a dependency; try again.
        """
        try:
            await self._settle(delivery, handle)
        except TenantDeletedError as error:
            await self._tell_deleted(delivery, error)

    async def _tell_deleted(self, delivery: UpstreamDelivery, error: TenantDeletedError) -> None:
        """Sends the result of an event of a deleted tenant, of which nothing is recorded."""
        about, verdict = delivery.envelope, Verdict(reason=error.reason, detail=error.detail)
        async with self.publish(about.tenant) as work:
            announce.send_dead_letter_result(
                work, delivery.event, about.source, about.event_id, verdict
            )

    async def _settle(
        self, delivery: UpstreamDelivery, handle: Callable[[Origin], Awaitable[None]]
    ) -> None:
        origin = _read_origin(delivery)
        try:
            await handle(origin)
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
        except SupersededError:
            return  # recorded, with its result
        except AnsweredBeforeError:
            async with self.begin(delivery.event.tenant) as work:
                await repeat_answer(work, delivery.event.tenant, origin)

    async def give_up(self, delivery: UpstreamDelivery, error: ServiceError) -> None:
        """Sends the result of an event that becomes a dead letter, unless it has one.

        Raises:
            TenantDeletedError: that is its result, and it becomes no dead letter.
        """
        try:
            await self._give_up(delivery, error)
        except TenantDeletedError as deleted:
            await self._tell_deleted(delivery, deleted)
            raise

    async def _give_up(self, delivery: UpstreamDelivery, error: ServiceError) -> None:
        event, about = delivery.event, delivery.envelope
        async with self.begin(event.tenant) as work:
            try:
                if await repeat_answer(work, event.tenant, _read_origin(delivery)):
                    return
            except InvalidInputError:
                pass  # an id that cannot be stored was never accepted
            verdict = Verdict(reason=error.reason, detail=error.detail)
            announce.send_dead_letter_result(work, event, about.source, about.event_id, verdict)

    async def refuse_unreadable(self, event: Unreadable, error: ServiceError) -> None:
        """Sends the result of an event that cannot be read; it also becomes a dead letter.

        Its tenant is certain: the broker lets a publisher use only the subjects of its own tenant.
        With an id and a source it is refused for good, like any other; without them its producer
        cannot repeat it, and the id of the result follows from its place in the stream.

        Raises:
            TenantDeletedError: that is its result, and it becomes no dead letter.
        """
        try:
            await self._refuse_unreadable(event, error)
        except TenantDeletedError as deleted:
            async with self.publish(event.tenant) as work:
                announce.send_unreadable(work, event, _refuse_glimpse(event.seen, deleted))
            raise

    async def _refuse_unreadable(self, event: Unreadable, error: ServiceError) -> None:
        seen = event.seen
        refusal = _refuse_glimpse(seen, error)
        origin = _find_origin(seen, refusal.origin.correlation_id)
        async with self.begin(event.tenant) as work:
            if origin is None:
                announce.send_unreadable(work, event, refusal)
            else:
                await _settle_refusal(work, event.tenant, replace(refusal, origin=origin))

    async def refuse(self, delivery: UpstreamDelivery, error: ServiceError) -> None:
        """Records a refusal and sends the result, unless the event was answered before.

        An accepted event stays accepted, even if its producer has removed the file since, or its
        tenant has been suspended.
        """
        try:
            async with self.begin(delivery.event.tenant) as work:
                await refuse_within(work, delivery, error)
        except TenantDeletedError as deleted:
            await self._tell_deleted(delivery, deleted)


async def refuse_within(work: Work, delivery: UpstreamDelivery, error: ServiceError) -> None:
    """As `AnswerEvents.refuse`, together with other changes."""
    event = delivery.event
    correlation_id = announce.truncate(event.correlation_id, ID_MAX_CHARS)
    origin = replace(_read_origin(delivery), correlation_id=correlation_id)
    await _settle_refusal(work, event.tenant, _refuse(origin, event.document, error))


async def repeat_answer(work: Work, tenant: str, origin: Origin) -> bool:
    """Sends the recorded answer of an event again; False if there is none."""
    upload = await work.uploads.find(origin)
    if upload is None:
        return False
    if upload.version:
        await repeat(work, upload)
    elif upload.is_refused:
        announce.send_refusal(work, tenant, upload)
    else:
        announce.send_superseded(work, tenant, upload)
    return True


def wait_for_overtaken(delivery: UpstreamDelivery) -> None:
    """Gives the upload of an unknown or deleted document time to be handled first.

    Each kind of event has its own consumer, so a removal or description may overtake an upload that
    was published just before it.

    Raises:
        ConflictError: DOCUMENT_LATE, for the first attempts.
    """
    if delivery.attempt < OVERTAKEN_ATTEMPTS:
        raise ConflictError(
            "DOCUMENT_LATE", "the document is not known here yet; its upload may still come"
        )


def _refuse(origin: Origin, document: str, error: ServiceError) -> Upload:
    return Upload(
        origin=origin,
        document=announce.truncate(document),
        version=0,
        sha256="",
        unchanged=False,
        result=error.reason,
        result_detail=announce.truncate(error.detail),
    )


def _refuse_glimpse(seen: Glimpse, error: ServiceError) -> Upload:
    correlation_id = announce.truncate(seen.correlation_id, ID_MAX_CHARS)
    return _refuse(Origin(correlation_id=correlation_id), seen.document, error)


async def _settle_refusal(work: Work, tenant: str, refusal: Upload) -> None:
    """Records a refusal and sends it; an event that was answered before gets that answer again."""
    if await work.uploads.add(refusal):
        announce.send_refusal(work, tenant, refusal)
    else:
        await repeat_answer(work, tenant, refusal.origin)


def _read_origin(delivery: UpstreamDelivery) -> Origin:
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
