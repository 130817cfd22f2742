"""Dead letters of one service, stored with their bytes and reason until an operator decides."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, overload

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError as JetStreamNotFoundError
from typing_extensions import override

from chassis.base import telemetry
from chassis.base.errors import NotFoundError, OverloadedError, ServiceError, UnavailableError
from chassis.events.bus import PUBLISH_TIMEOUT_S, STREAM_FULL, Bus
from chassis.events.envelope import Glimpse, peek
from chassis.events.topology import dead_stream, dead_subject, event_class

log = logging.getLogger(__name__)

_OWN = "Aquifer-Dead-"
_ID_MAX = 2**63 - 1
# Dead letters read for one page: a filter that matches few must not make a call long.
SCAN_MAX = 2_000
# What a stored message has besides its bytes and its own headers.
_OVERHEAD_BYTES = 4 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that was given up, as it was received, and why. Times are aware UTC."""

    dead_letter_id: int
    consumer: str
    event_type: str
    event_id: str
    tenant: str
    document: str
    subject: str
    reason: str
    detail: str
    attempts: int
    first_time: datetime
    dead_time: datetime
    trace_id: str
    size_bytes: int
    headers: Mapping[str, str]
    payload: bytes


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetterPage(Sequence[DeadLetter]):
    """Dead letters without headers and bytes, oldest first.

    `scanned_to` is the id up to which all were read; None if no more follow.
    """

    letters: Sequence[DeadLetter]
    scanned_to: int | None

    @overload
    def __getitem__(self, index: int) -> DeadLetter: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[DeadLetter]: ...
    @override
    def __getitem__(self, index: int | slice) -> DeadLetter | Sequence[DeadLetter]:
        return self.letters[index]

    @override
    def __len__(self) -> int:
        return len(self.letters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What still fits into the dead letters of a service; None: no limit."""

    letters: int | None
    size_bytes: int | None

    def take(self, size_bytes: int) -> "Room | None":
        """What is left after an event of this size, headers included; None if it does not fit."""
        needed = size_bytes + _OVERHEAD_BYTES
        if self.letters == 0 or (self.size_bytes is not None and self.size_bytes <= needed):
            return None
        return Room(
            letters=None if self.letters is None else self.letters - 1,
            size_bytes=None if self.size_bytes is None else self.size_bytes - needed,
        )


class DeadLetters:
    """Access to the stream `DEAD_<SERVICE>`.

    Every method raises:
        UnavailableError: BUS_UNAVAILABLE.
    """

    def __init__(self, bus: Bus, service: str) -> None:
        self._bus = bus
        self._service = service
        self._stream = dead_stream(service)

    async def put(self, event_name: str, message: Msg, error: ServiceError) -> None:
        """Stores the original bytes of a message; returns after the broker has acknowledged them.

        Raises:
            OverloadedError: DEAD_LETTERS_FULL, an operator must replay or discard some.
        """
        metadata = message.metadata
        # A producer's instructions to the broker, such as an expected sequence, do not apply here.
        kept = {
            key: value
            for key, value in (message.headers or {}).items()
            if not key.lower().startswith("nats-")
        }
        headers = {
            **kept,
            "Nats-Msg-Id": f"{metadata.consumer}-{metadata.stream}-{metadata.sequence.stream}",
            f"{_OWN}Consumer": metadata.consumer,
            f"{_OWN}Subject": message.subject,
            f"{_OWN}Reason": error.reason,
            f"{_OWN}Detail": error.detail.encode("ascii", "replace").decode()[:500],
            f"{_OWN}Attempts": str(metadata.num_delivered),
            f"{_OWN}First-Time": metadata.timestamp.astimezone(UTC).isoformat(),
        }
        if not any(key.lower() == "traceparent" for key in kept):
            telemetry.inject(headers)
        tenant = message.subject.rsplit(".", 1)[-1]
        try:
            await self._bus.jetstream.publish(
                dead_subject(self._service, event_name, tenant),
                message.data,
                timeout=PUBLISH_TIMEOUT_S,
                stream=self._stream,
                headers=headers,
            )
        except APIError as cause:
            if cause.err_code in STREAM_FULL:
                raise OverloadedError(
                    "DEAD_LETTERS_FULL",
                    f"{self._stream} is full: replay or discard dead letters",
                    stream=self._stream,
                ) from cause
            raise _unavailable_error() from cause
        except (NatsError, JetStreamError, TimeoutError, OSError) as cause:
            raise _unavailable_error() from cause

    async def count(self) -> int:
        """Number of dead letters."""
        try:
            state = (await self._bus.jetstream.stream_info(self._stream)).state
        except (NatsError, JetStreamError, TimeoutError, OSError) as error:
            raise _unavailable_error() from error
        return int(state.messages)

    async def find_room(self) -> Room:
        """Reads what still fits."""
        try:
            info = await self._bus.jetstream.stream_info(self._stream)
        except (NatsError, JetStreamError, TimeoutError, OSError) as error:
            raise _unavailable_error() from error
        state, config = info.state, info.config
        return Room(
            letters=_left(config.max_msgs, state.messages),
            size_bytes=_left(config.max_bytes, state.bytes),
        )

    async def list(
        self, after: int, limit: int, *, tenant: str = "", reason: str = ""
    ) -> DeadLetterPage:
        """At most `limit` dead letters with an id above `after`, of a tenant and with a reason.

        An empty filter matches all. At most `SCAN_MAX` dead letters are read.
        """
        found: list[DeadLetter] = []
        scanned = 0
        subject = dead_subject(self._service, "*", tenant or "*")
        async for letter in self._iterate(subject, after):
            if len(found) == limit or scanned == SCAN_MAX:
                return DeadLetterPage(found, scanned_to=after)
            after, scanned = letter.dead_letter_id, scanned + 1
            if reason in ("", letter.reason):
                # A page of them with their bytes could fill the memory.
                found.append(replace(letter, headers={}, payload=b""))
        return DeadLetterPage(found, scanned_to=None)

    async def get(self, dead_letter_id: int) -> DeadLetter:
        """One dead letter.

        Raises:
            NotFoundError: DEAD_LETTER_UNKNOWN.
        """
        letter = await self._find(dead_letter_id)
        if letter is None:
            raise _not_found_error(dead_letter_id)
        return letter

    async def discard(self, dead_letter_id: int) -> None:
        """Removes a dead letter for good.

        Raises:
            NotFoundError: DEAD_LETTER_UNKNOWN.
        """
        try:
            await self._bus.jetstream.delete_msg(self._stream, dead_letter_id)
        except APIError as error:
            # The broker gives the same error for a missing message and for one it cannot remove.
            if await self._find(dead_letter_id) is None:
                raise _not_found_error(dead_letter_id) from error
            raise _unavailable_error() from error
        except (NatsError, JetStreamError, TimeoutError, OSError) as error:
            raise _unavailable_error() from error
        log.info("dead_letter.discarded", extra={"dead_letter_id": dead_letter_id})

    async def discard_document(self, tenant: str, document: str) -> int:
        """Removes every dead letter of a document; returns their number."""
        return await self._discard_all(
            [
                letter.dead_letter_id
                async for letter in self._iterate(dead_subject(self._service, "*", tenant))
                if letter.document == document
            ]
        )

    async def discard_tenant(self, tenant: str) -> int:
        """Removes every dead letter of a tenant; returns their number."""
        subject = dead_subject(self._service, "*", tenant)
        return await self._discard_all(
            [letter.dead_letter_id async for letter in self._iterate(subject)]
        )

    async def _discard_all(self, letters: Sequence[int]) -> int:
        """Removes dead letters; returns how many of them there were."""
        removed = 0
        for dead_letter_id in letters:
            # An operator may have removed it in the meantime.
            with suppress(NotFoundError):
                await self.discard(dead_letter_id)
                removed += 1
        return removed

    async def _iterate(self, subject: str, after: int = 0) -> AsyncIterator[DeadLetter]:
        """Dead letters of a subject with an id above `after`; the broker skips other subjects."""
        # A page token may name a number that the broker does not accept.
        after = max(after, 0)
        while after < _ID_MAX and (
            letter := await self._get(seq=after + 1, subject=subject, next=True)
        ):
            yield letter
            after = letter.dead_letter_id

    async def _find(self, dead_letter_id: int) -> DeadLetter | None:
        return await self._get(seq=dead_letter_id) if dead_letter_id > 0 else None

    async def _get(self, **which: Any) -> DeadLetter | None:
        """Reads one message by the broker's criteria; None if there is none."""
        try:
            stored = await self._bus.jetstream.get_msg(self._stream, **which)
        except JetStreamNotFoundError:
            return None
        except (NatsError, JetStreamError, TimeoutError, OSError) as error:
            raise _unavailable_error() from error
        return _read(stored)


def _read(stored: RawStreamMsg) -> DeadLetter:
    headers = dict(stored.headers or {})
    lower = {key.lower(): value for key, value in headers.items()}
    own = {key: headers.pop(key) for key in list(headers) if key.startswith((_OWN, "Nats-"))}
    subject = own.get(f"{_OWN}Subject", "")
    event_type, payload = subject.rsplit(".", 1)[0], stored.data or b""
    kind = event_class(event_type)
    # The `ce-subject` of an upstream system may be missing or arbitrary.
    seen = peek(kind, headers, payload) if kind else Glimpse()
    dead_time = stored.time if isinstance(stored.time, datetime) else datetime.now(UTC)
    return DeadLetter(
        dead_letter_id=stored.seq or 0,
        consumer=own.get(f"{_OWN}Consumer", ""),
        event_type=event_type,
        event_id=seen.event_id or lower.get("ce-id", ""),
        tenant=subject.rsplit(".", 1)[-1],
        document=seen.document or lower.get("ce-subject", ""),
        subject=subject,
        reason=own.get(f"{_OWN}Reason", ""),
        detail=own.get(f"{_OWN}Detail", ""),
        attempts=int(own.get(f"{_OWN}Attempts", "0")),
        first_time=datetime.fromisoformat(own[f"{_OWN}First-Time"]),
        dead_time=dead_time,
        trace_id=_trace_id(lower.get("traceparent", "")),
        size_bytes=len(payload),
        headers=headers,
        payload=payload,
    )


def _left(limit: int | None, used: int) -> int | None:
    """How much of a limit of the broker is left; None if it has none."""
    return max(limit - used, 0) if limit is not None and limit > 0 else None


def _trace_id(traceparent: str) -> str:
    """The trace id in a `traceparent`, unchecked: a producer may have sent any text."""
    _, _, rest = traceparent.partition("-")
    return rest.partition("-")[0]


def _not_found_error(dead_letter_id: int) -> NotFoundError:
    return NotFoundError(
        "DEAD_LETTER_UNKNOWN",
        "no dead letter has this id; it may have been replayed or discarded",
        dead_letter_id=dead_letter_id,
    )


def _unavailable_error() -> UnavailableError:
    return UnavailableError(
        "BUS_UNAVAILABLE", "NATS does not answer; retry, or check that it is running"
    )
