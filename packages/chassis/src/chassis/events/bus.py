"""The connection to NATS: for ever reconnecting, publishing only with an acknowledgement."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from chassis.base import telemetry
from chassis.base.errors import OverloadedError, UnavailableError
from chassis.events import topology
from chassis.events.envelope import Outgoing

log = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

PUBLISH_TIMEOUT_S = 5.0
PUBLISH_ATTEMPTS = 3
# Acknowledgements are waited for with a timeout each: more at once would only wait in line.
PUBLISH_SIDE_BY_SIDE = 64
STREAM_FULL = {10047, 10077, 10122}


class Bus:
    """Publishes events and reaches JetStream's consumers; one for each process."""

    def __init__(self, client: Client, connecting: "asyncio.Task[None]") -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT_S)
        self.on_reconnected: list[Callable[[], None]] = []
        self._connecting = connecting

    async def first_connection(self) -> None:
        """Waits until the connection has stood once; the client itself retries until then."""
        await asyncio.shield(self._connecting)

    @property
    def connected(self) -> bool:
        """True while the connection stands."""
        return bool(self.client.is_connected)

    async def publish(self, event: Outgoing, stream: str) -> None:
        """Publishes and waits for the broker's acknowledgement; a repeat is dropped by its id.

        Raises:
            UnavailableError: BUS_UNAVAILABLE, no acknowledgement after three tries.
            OverloadedError: STREAM_FULL, the stream refuses more; retry later.
        """
        with tracer.start_as_current_span(
            f"send {_short(event)}",
            # The trace in which the event came about, not that of the relay that sends it.
            context=telemetry.extract(event.headers),
            kind=SpanKind.PRODUCER,
            attributes=_attributes(event),
        ):
            headers = dict(event.headers)
            telemetry.inject(headers)
            await self._publish(event, stream, headers)

    async def _publish(self, event: Outgoing, stream: str, headers: dict[str, str]) -> None:
        last: Exception | None = None
        for attempt in range(PUBLISH_ATTEMPTS):
            if not self.connected:
                break
            try:
                await self.jetstream.publish(
                    event.subject,
                    event.payload,
                    timeout=PUBLISH_TIMEOUT_S,
                    stream=stream,
                    headers=headers,
                )
            except APIError as error:
                if error.err_code in STREAM_FULL:
                    raise OverloadedError(
                        "STREAM_FULL", f"stream {stream} takes no more", stream=stream
                    ) from error
                last = error
            except (NatsError, NoStreamResponseError, TimeoutError, OSError) as error:
                last = error
            else:
                return
            log.warning("event.publish_retried", extra={"stream": stream, "attempt": attempt + 1})
            await asyncio.sleep(0.2 * (attempt + 1))
        raise UnavailableError(
            "BUS_UNAVAILABLE", f"stream {stream} did not acknowledge", stream=stream
        ) from last

    async def publish_all(self, events: Sequence[Outgoing]) -> None:
        """Publishes events, some side by side, and waits until every one is acknowledged.

        Raises as `publish`, and then some of the later ones were not sent.
        """
        for start in range(0, len(events), PUBLISH_SIDE_BY_SIDE):
            some = events[start : start + PUBLISH_SIDE_BY_SIDE]
            await asyncio.gather(*(self.publish(one, stream_of(one.subject)) for one in some))

    async def hear(self, subject: str, listener: Callable[[Msg], Awaitable[None]]) -> None:
        """Calls `listener` with every message of a core NATS subject, once connected."""
        await self.first_connection()
        await self.client.subscribe(subject, cb=listener)


def _short(event: Outgoing) -> str:
    return event.headers["ce-type"].rsplit(".", 1)[-1]


def _attributes(event: Outgoing) -> dict[str, str]:
    return {
        "messaging.system": "nats",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.template": f"{event.headers['ce-type']}.{{tenant}}",
        "messaging.message.id": event.headers["ce-id"],
        "tenant.id": event.subject.rsplit(".", 1)[-1],
        "document.id": event.headers.get("ce-subject", ""),
    }


def stream_of(subject: str) -> str:
    """Stream that keeps the event of a subject `<full proto name>.<tenant>`."""
    event = topology.event_class(subject.rsplit(".", 1)[0])
    if event is None:
        raise ValueError(f"{subject} is no event of the contract")
    return topology.stream_name(event)


@asynccontextmanager
async def open_bus(
    url: str, user: str, password: str, *, name: str, lost: Callable[[], None]
) -> AsyncIterator[Bus]:
    """A bus that connects in its own time and for ever; `Bus.connected` says whether it has.

    `lost` is called when the client gives up for good: the process should then end.
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

    client = Client()
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


async def _close(client: Client, connecting: "asyncio.Task[None]") -> None:
    connecting.cancel()
    try:
        async with asyncio.timeout(5):
            if client.is_connected:
                await client.flush()
                await client.close()
    except (NatsError, TimeoutError, OSError) as error:
        log.warning("bus.close_failed", extra={"error": repr(error)})
