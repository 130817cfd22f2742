"""The connection to NATS: reconnects without a limit and waits for every acknowledgement."""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Final

from google.protobuf.message import Message
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, PubAck
from nats.js.errors import APIError
from nats.js.errors import Error as JetStreamError

from chassis.base.errors import OverloadedError, ServiceError, UnavailableError
from chassis.events import topology
from chassis.events.bound import BoundClient
from chassis.events.envelope import Outgoing
from chassis.events.pack import group, pack

log = logging.getLogger(__name__)

PUBLISH_TIMEOUT_S = 5.0
PUBLISH_ATTEMPTS = 3
# The acknowledgements of a window share one timeout; a larger window would only queue.
WINDOW_EVENTS = 64
WINDOW_BYTES = 2 << 20
SENT_MAX = 128
# After its confirmation, a message is counted as pending well within this time.
COUNTED_S = 0.1
STREAM_FULL = {10047, 10077, 10122}
# What a call of the client raises if the broker refuses it or cannot be reached.
FAILURES: Final = (NatsError, JetStreamError, TimeoutError, OSError)


class Bus:
    """Publishes events and gives access to JetStream's consumers; one per process."""

    def __init__(self, client: BoundClient, connecting: "asyncio.Task[None]") -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT_S)
        self._connecting = connecting
        self.on_reconnected: list[Callable[[], None]] = []
        # By kind of event: how many events the latest messages hold.
        self._sent: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=SENT_MAX))

    async def wait_until_connected(self) -> None:
        """Waits for the first connection; the client retries until then."""
        await asyncio.shield(self._connecting)

    @property
    def is_connected(self) -> bool:
        """Whether the connection works now."""
        return bool(self.client.is_connected)

    async def publish_all(self, events: Sequence[Outgoing], *, packed: bool = True) -> None:
        """Publishes events and waits for every acknowledgement; the broker drops repeats by id.

        Args:
            events: of any kinds and tenants, published in this order per subject.
            packed: whether work events of one kind and tenant may share messages.

        Raises:
            UnavailableError: BUS_UNAVAILABLE, an event was not acknowledged after three tries.
            OverloadedError: STREAM_FULL, a stream is full; retry later.
        """
        left = list(events)
        for attempt in range(PUBLISH_ATTEMPTS):
            if attempt:
                log.warning("event.publish_retried", extra={"attempt": attempt})
                await asyncio.sleep(0.2 * attempt)
            failed: list[tuple[Outgoing, ServiceError]] = []
            for window in _split_into_windows(left):
                outcomes = await self.send(window, packed=packed)
                failed += [
                    (event, error)
                    for event, error in zip(window, outcomes, strict=True)
                    if error is not None
                ]
            if not failed:
                return
            for _, error in failed:
                if isinstance(error, OverloadedError):
                    raise error
            left = [event for event, _ in failed]
        raise failed[0][1]

    async def send(
        self, events: Sequence[Outgoing], *, packed: bool = True
    ) -> Sequence[ServiceError | None]:
        """Publishes a window of events, one try each; returns an error or None for each event.

        Work events of one kind and tenant share messages, unless `packed` is False. Waits up to
        five seconds for all acknowledgements.
        """
        parts = group(events) if packed else [[event] for event in events]
        futures = [await self._begin_publish(pack(part)) for part in parts]
        pending = [future for future in futures if future is not None]
        if pending:
            await asyncio.wait(pending, timeout=PUBLISH_TIMEOUT_S)
        outcomes: dict[int, ServiceError | None] = {}
        for part, future in zip(parts, futures, strict=True):
            outcome = _find_failure(part[0], future)
            outcomes |= {id(event): outcome for event in part}
            if outcome is None:
                self._sent[part[0].kind].append(len(part))
        return [outcomes[id(event)] for event in events]

    async def _begin_publish(self, event: Outgoing) -> "asyncio.Future[PubAck] | None":
        if not self.is_connected:
            return None
        try:
            # Each subject belongs to one stream, so no header needs to name it.
            return await self.jetstream.publish_async(
                event.subject, event.payload, headers=dict(event.headers)
            )
        except (NatsError, JetStreamError, OSError) as error:
            log.warning("event.not_sent", extra={"error": repr(error)})
            return None

    async def count_unfinished(self, kind: str) -> int:
        """Number of events of a kind, by full name, in a work queue and not acknowledged.

        The broker counts messages, not events. The count assumes that they are the newest messages
        of this process, for which it knows the number of events; any further message counts as one.

        Raises:
            UnavailableError: BUS_UNAVAILABLE.
        """
        subject = f"{kind}.*"
        with translate_errors():
            info = await self.jetstream.stream_info(stream_of(subject), subjects_filter=subject)
        messages = sum((info.state.subjects or {}).values())
        known = list(self._sent[kind])[-messages:] if messages else []
        return sum(known) + messages - len(known)

    async def last_sequence(self, event: type[Message]) -> int:
        """Sequence number of the newest message in the stream of an event; 0 if it is empty.

        Raises:
            UnavailableError: BUS_UNAVAILABLE.
        """
        with translate_errors():
            info = await self.jetstream.stream_info(topology.stream_name(event))
        return int(info.state.last_seq)

    async def is_handled(self, event: type[Message], service: str, sequence: int) -> bool:
        """Whether a service has acknowledged all events of a kind up to a sequence number.

        Raises:
            UnavailableError: BUS_UNAVAILABLE.
        """
        durable = topology.durable_of(event, service)
        with translate_errors():
            info = await self.jetstream.consumer_info(durable.stream, durable.name)
            if _is_idle(info):
                # The broker counts a message as pending a moment after it has confirmed it.
                await asyncio.sleep(COUNTED_S)
                info = await self.jetstream.consumer_info(durable.stream, durable.name)
        floor = info.ack_floor.stream_seq if info.ack_floor else 0
        return _is_idle(info) or floor >= sequence

    async def subscribe(self, subject: str, listener: Callable[[Msg], Awaitable[None]]) -> None:
        """Subscribes to a core NATS subject, after connecting; `listener` gets every message."""
        await self.wait_until_connected()
        await self.client.subscribe(subject, cb=listener)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translates the client's errors.

    Raises:
        UnavailableError: BUS_UNAVAILABLE.
    """
    try:
        yield
    except FAILURES as error:
        raise UnavailableError(
            "BUS_UNAVAILABLE", "NATS does not answer; retry, or check that it is running"
        ) from error


def _is_idle(info: ConsumerInfo) -> bool:
    return not info.num_pending and not info.num_ack_pending


def _split_into_windows(events: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """Yields windows of at most `WINDOW_EVENTS` events and about `WINDOW_BYTES`, in order."""
    window: list[Outgoing] = []
    size = 0
    for event in events:
        if window and (len(window) == WINDOW_EVENTS or size + event.size_bytes > WINDOW_BYTES):
            yield window
            window, size = [], 0
        window.append(event)
        size += event.size_bytes
    if window:
        yield window


def _find_failure(event: Outgoing, future: "asyncio.Future[PubAck] | None") -> ServiceError | None:
    """The reason why an event was not published; None if the broker acknowledged it."""
    stream = stream_of(event.subject)
    error: BaseException | None = None
    if future is not None and not future.done():
        future.cancel()
    elif future is not None:
        error = future.exception()
        if error is None:
            return None
    if isinstance(error, APIError) and error.err_code in STREAM_FULL:
        return OverloadedError("STREAM_FULL", f"stream {stream} is full; retry", stream=stream)
    log.warning("event.not_acknowledged", extra={"stream": stream, "error": repr(error)})
    return UnavailableError(
        "BUS_UNAVAILABLE", f"{stream} did not acknowledge the event; retry", stream=stream
    )


@cache
def stream_of(subject: str) -> str:
    """Name of the stream for a subject `<full proto name>.<tenant>`."""
    event = topology.event_class(subject.rsplit(".", 1)[0])
    if event is None:
        raise ValueError(f"{subject} is not an event of the contract")
    return topology.stream_name(event)


@asynccontextmanager
async def open_bus(
    url: str, user: str, password: str, *, name: str, lost: Callable[[], None]
) -> AsyncIterator[Bus]:
    """Opens a bus that connects in the background and reconnects without a limit.

    `lost` is called if the client gives up for good; the process should then end.
    """
    closing = False

    async def on_error(error: Exception) -> None:
        log.warning("bus.error", extra={"error": repr(error)})

    async def on_disconnected() -> None:
        if not closing:
            log.warning("bus.disconnected")

    async def on_reconnected() -> None:
        log.info("bus.reconnected")
        for listener in bus.on_reconnected:
            listener()

    async def on_closed() -> None:
        if not closing:
            log.error("bus.closed")
            lost()

    client = BoundClient()
    connecting = asyncio.get_running_loop().create_task(
        client.connect(
            url,
            user=user,
            password=password,
            name=name,
            inbox_prefix=topology.inbox_prefix(user).encode(),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=3,
            ping_interval=5,
            max_outstanding_pings=2,
            pending_size=8 << 20,
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            closed_cb=on_closed,
        )
    )
    bus = Bus(client, connecting)
    try:
        yield bus
    finally:
        closing = True
        await _close(client, connecting)


async def _close(client: BoundClient, connecting: "asyncio.Task[None]") -> None:
    connecting.cancel()
    try:
        async with asyncio.timeout(5):
            if client.is_connected:
                await client.flush()
                await client.close()
    except (NatsError, TimeoutError, OSError) as error:
        log.warning("bus.close_failed", extra={"error": repr(error)})
