"""The operator services of every process: its status and its dead letters."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from typing_extensions import override

from aquifer.bus.v1.event_options_pb2 import STREAM_CLASS_UPLOADS
from aquifer.ops.v1 import dead_letter_service_pb2 as dead_pb
from aquifer.ops.v1 import status_service_pb2 as status_pb
from aquifer.ops.v1.dead_letter_service_pb2_grpc import DeadLetterServiceServicer
from aquifer.ops.v1.status_service_pb2_grpc import StatusServiceServicer
from chassis.base import paging
from chassis.base.errors import ConflictError, InvalidInputError, OverloadedError, UnavailableError
from chassis.events import topology
from chassis.events.dead_letters import DeadLetter, DeadLetters
from chassis.events.envelope import derive_id
from chassis.events.settlement import Settlement
from chassis.identity.tokens import caller
from chassis.rpc.server import Access, any_of

log = logging.getLogger(__name__)

_TENANT = re.compile(r"[\w-]+")
# `aquifer status` waits 5 s in all, including sign-in and network.
READ_TIMEOUT_S = 1.5

_STATUS = ("aquifer.ops.v1.StatusService/GetStatus",)
_DEAD_LETTERS = tuple(
    f"aquifer.ops.v1.DeadLetterService/{method}"
    for method in ("ListDeadLetters", "GetDeadLetter", "ReplayDeadLetter", "DiscardDeadLetter")
)


def access(*, consumes: bool) -> Access:
    """The access rules of these services; only services that consume events have dead letters."""
    methods = (*_STATUS, *_DEAD_LETTERS) if consumes else _STATUS
    return {method: any_of("operate") for method in methods}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Unfinished work of one tenant in one stage, with the age of its oldest document."""

    name: str
    tenant: str
    documents: int
    oldest_age_s: float


class StatusRpc(StatusServiceServicer):
    """`StatusService` of one process."""

    def __init__(
        self,
        service: str,
        version: str,
        settlements: Sequence[Settlement[Any]],
        dead_letters: DeadLetters,
        not_ready: Callable[[], Sequence[str]],
        stages: Callable[[], Awaitable[Sequence[Stage]]],
    ) -> None:
        self._service = service
        self._version = version
        self._settlements = settlements
        self._dead_letters = dead_letters
        self._not_ready = not_ready
        self._stages = stages

    @override
    async def GetStatus(
        self, request: status_pb.GetStatusRequest, context: ServicerContext[Any, Any]
    ) -> status_pb.GetStatusResponse:
        """The state of this process; a value that cannot be read is unset, never 0."""
        not_ready = list(self._not_ready())
        # Concurrently: if every dependency is unavailable, each read takes its whole timeout.
        consumers, unfinished, dead_letters = await asyncio.gather(
            asyncio.gather(*map(_backlog, self._settlements)),
            self._read_unfinished(),
            self._count_dead_letters(),
        )
        return status_pb.GetStatusResponse(
            service=self._service,
            version=self._version,
            ready=not not_ready,
            not_ready=not_ready,
            consumers=consumers,
            unfinished=unfinished,
            dead_letters=dead_letters,
        )

    async def _count_dead_letters(self) -> int | None:
        if not self._settlements:
            return None
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._dead_letters.count()
        except (UnavailableError, TimeoutError) as error:
            log.warning("status.dead_letters_unknown", extra={"error": repr(error)})
            return None

    async def _read_unfinished(self) -> status_pb.Unfinished | None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                stages = await self._stages()
        except (UnavailableError, OverloadedError, ConflictError, TimeoutError) as error:
            log.warning("status.stages_unknown", extra={"error": repr(error)})
            return None
        return status_pb.Unfinished(
            stages=[
                status_pb.StageBacklog(
                    stage=stage.name,
                    tenant=stage.tenant,
                    documents=stage.documents,
                    oldest_age_s=stage.oldest_age_s,
                )
                for stage in stages
            ]
        )


async def _backlog(settlement: Settlement[Any]) -> status_pb.ConsumerBacklog:
    backlog = status_pb.ConsumerBacklog(
        durable=settlement.durable.name,
        paused=bool(settlement.pause_reason),
        pause_reason=settlement.pause_reason,
    )
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            info = await settlement.bound.info()
    except (NatsError, JetStreamError, TimeoutError) as error:
        log.warning("status.backlog_unknown", extra={"error": repr(error)})
        return backlog
    backlog.pending = info.num_pending or 0
    backlog.in_flight = info.num_ack_pending or 0
    return backlog


class DeadLetterRpc(DeadLetterServiceServicer):
    """`DeadLetterService` of one service."""

    def __init__(self, dead_letters: DeadLetters, settlements: Sequence[Settlement[Any]]) -> None:
        self._dead_letters = dead_letters
        self._settlements = settlements

    @override
    async def ListDeadLetters(
        self, request: dead_pb.ListDeadLettersRequest, context: ServicerContext[Any, Any]
    ) -> dead_pb.ListDeadLettersResponse:
        """Lists dead letters of all tenants or of one, oldest first."""
        if request.tenant and not _TENANT.fullmatch(request.tenant):
            # No dead letter has such a tenant; on a subject it could match others.
            return dead_pb.ListDeadLettersResponse()
        bound = (request.tenant, request.reason)
        page = paging.parse(request.page_size, request.page_token, bound=bound)
        letters = await self._dead_letters.list(
            _parse_position(page.after_name),
            page.size,
            tenant=request.tenant,
            reason=request.reason,
        )
        after = letters.scanned_to
        return dead_pb.ListDeadLettersResponse(
            dead_letters=[_summary(letter) for letter in letters],
            next_page_token="" if after is None else page.make_token(str(after)),
        )

    @override
    async def GetDeadLetter(
        self, request: dead_pb.GetDeadLetterRequest, context: ServicerContext[Any, Any]
    ) -> dead_pb.GetDeadLetterResponse:
        """Reads a dead letter with its bytes; logs the caller."""
        letter = await self._dead_letters.get(request.dead_letter_id)
        log.warning("dead_letter.read", extra=_audit_fields(letter))
        return dead_pb.GetDeadLetterResponse(
            dead_letter=_summary(letter), headers=dict(letter.headers), payload=letter.payload
        )

    @override
    async def ReplayDeadLetter(
        self, request: dead_pb.ReplayDeadLetterRequest, context: ServicerContext[Any, Any]
    ) -> dead_pb.ReplayDeadLetterResponse:
        """Handles a dead letter at once, as a new event, and removes it on success."""
        letter = await self._dead_letters.get(request.dead_letter_id)
        log.warning("dead_letter.replayed", extra=_audit_fields(letter))
        settlement = next(
            (one for one in self._settlements if one.durable.name == letter.consumer), None
        )
        if settlement is None:
            raise InvalidInputError(
                "SCHEMA_UNSUPPORTED", f"this process has no consumer {letter.consumer}"
            )
        event_id = _choose_replay_id(settlement, letter)
        headers = {k: v for k, v in letter.headers.items() if k.lower() != "ce-id"}
        await settlement.handle(
            letter.subject,
            headers | {"ce-id": event_id},
            letter.payload,
            attempt=letter.attempts + 1,
            stored_ns=round(letter.first_time.timestamp() * 1e9),
        )
        await self._dead_letters.discard(letter.dead_letter_id)
        return dead_pb.ReplayDeadLetterResponse(event_id=event_id)

    @override
    async def DiscardDeadLetter(
        self, request: dead_pb.DiscardDeadLetterRequest, context: ServicerContext[Any, Any]
    ) -> dead_pb.DiscardDeadLetterResponse:
        """Removes a dead letter; logs the caller."""
        letter = await self._dead_letters.get(request.dead_letter_id)
        log.warning("dead_letter.discarded_by", extra=_audit_fields(letter))
        await self._dead_letters.discard(letter.dead_letter_id)
        return dead_pb.DiscardDeadLetterResponse()


def _choose_replay_id(settlement: Settlement[Any], letter: DeadLetter) -> str:
    """A new id for each replay, so that the inbox does not drop it as a duplicate.

    An upload event keeps the id of its producer, because its results refer to it. Uploads are
    deduplicated by the accepted document, not by the inbox.
    """
    if topology.options(settlement.event).stream_class == STREAM_CLASS_UPLOADS:
        return letter.event_id
    return derive_id(letter.event_id, "replay", letter.dead_letter_id)


def _audit_fields(letter: DeadLetter) -> dict[str, object]:
    return {
        "dead_letter_id": letter.dead_letter_id,
        "event_id": letter.event_id,
        "dead_tenant": letter.tenant,
        "principal": caller().principal,
    }


def _summary(letter: DeadLetter) -> dead_pb.DeadLetter:
    first, dead = Timestamp(), Timestamp()
    first.FromDatetime(letter.first_time)
    dead.FromDatetime(letter.dead_time)
    return dead_pb.DeadLetter(
        dead_letter_id=letter.dead_letter_id,
        event_type=letter.event_type,
        event_id=letter.event_id,
        tenant=letter.tenant,
        subject=letter.subject,
        reason=letter.reason,
        detail=letter.detail,
        attempts=letter.attempts,
        first_time=first,
        dead_time=dead,
        trace_id=letter.trace_id,
        size_bytes=letter.size_bytes,
        document=letter.document,
    )


def _parse_position(name: str) -> int:
    """The id after which the page begins; 0 for the first page."""
    if not name:
        return 0
    if not (name.isascii() and name.isdecimal()):
        raise paging.invalid_token_error()
    return int(name)
