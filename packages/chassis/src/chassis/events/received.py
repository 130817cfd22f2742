"""An event that was received: its span, its metrics, and how it ends."""

import time
from dataclasses import dataclass, field
from typing import Any, Generic, Self

from google.protobuf.message import Message
from nats.aio.msg import Msg
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from prometheus_client import Counter

from chassis.base import metrics, telemetry
from chassis.events.arrival import Arrival
from chassis.events.delivery import Delivery, Unreadable
from chassis.events.envelope import E, Outgoing, peek, read
from chassis.events.topology import Durable

tracer = trace.get_tracer(__name__)


class Meters:
    """The metrics of one durable, looked up once."""

    def __init__(self, event: type[Message], durable: Durable) -> None:
        self._labels = (str(event.DESCRIPTOR.name), durable.name)
        self.age_s = metrics.EVENT_QUEUE_AGE_SECONDS.labels(*self._labels)
        self.seconds = metrics.EVENT_SECONDS.labels(*self._labels)
        self._outcomes: dict[str, Counter] = {}

    def outcome(self, name: str) -> Counter:
        """Counter of an outcome."""
        if name not in self._outcomes:
            self._outcomes[name] = metrics.EVENTS.labels(*self._labels, name)
        return self._outcomes[name]


@dataclass(slots=True, eq=False)
class ReceivedEvent(Generic[E]):
    """One delivery of one event, from its arrival to its acknowledgement, with its own span."""

    event: type[E]
    durable: Durable
    meters: Meters
    arrival: Arrival
    raw: Outgoing
    span: trace.Span
    ended: bool = False
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def start(
        cls, event: type[E], durable: Durable, meters: Meters, arrival: Arrival, raw: Outgoing
    ) -> Self:
        """Records the arrival of an event and starts its span, which continues its trace."""
        headers = raw.headers
        age_s = max(0.0, time.time() - arrival.stored_ns / 1e9)
        meters.age_s.observe(age_s)
        attributes: dict[str, Any] = {
            "messaging.system": "nats",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": event.DESCRIPTOR.full_name,
            "messaging.destination.template": f"{event.DESCRIPTOR.full_name}.{{tenant}}",
            "messaging.consumer.group.name": durable.name,
            "messaging.message.id": headers.get("ce-id", ""),
            "tenant.id": raw.tenant,
            "aquifer.delivery": arrival.attempt,
            "aquifer.queue_age_ms": round(age_s * 1000),
        }
        if "ce-subject" in headers:
            attributes["document.id"] = headers["ce-subject"]
        span = tracer.start_span(
            f"process {event.DESCRIPTOR.name}",
            context=telemetry.extract(headers),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
        )
        return cls(event, durable, meters, arrival, raw, span)

    @property
    def attempt(self) -> int:
        """Delivery number of its message, from 1."""
        return self.arrival.attempt

    @property
    def tenant(self) -> str:
        """Tenant of the event: the last token of its subject."""
        return self.raw.tenant

    @property
    def document(self) -> str | None:
        """Document named in its `ce-subject` header, if any."""
        return self.raw.headers.get("ce-subject")

    @property
    def context(self) -> Context:
        """Trace context of its span."""
        return trace.set_span_in_context(self.span, Context())

    def open(self) -> Delivery[E]:
        """Decodes the event for a handler.

        Raises:
            InvalidInputError: the event cannot be read.
        """
        raw = self.raw
        about, event = read(self.event, raw.subject, raw.headers, raw.payload)
        return Delivery(
            event=event,
            envelope=about,
            consumer=self.durable.name,
            attempt=self.attempt,
            stored_ns=self.arrival.stored_ns,
            context=self.context,
        )

    def glimpse(self) -> Unreadable:
        """What can be read of an event that `open` cannot read."""
        raw = self.raw
        return Unreadable(
            tenant=raw.tenant,
            seen=peek(self.event, raw.headers, raw.payload),
            sequence=self.arrival.sequence,
            stored_ns=self.arrival.stored_ns,
        )

    async def acknowledge(self, outcome: str = "handled") -> None:
        """Acknowledges the event: its work is done."""
        await self.arrival.acknowledge_one()
        self._end(outcome)

    async def nak(self, delay_s: float, outcome: str) -> None:
        """Returns the event to the broker, which delivers it again after a delay."""
        await self.arrival.nak(delay_s)
        self._end(outcome)

    async def terminate(self, reason: str) -> None:
        """Stops further deliveries of a dead letter. Not for an event of a pack."""
        await self.arrival.message.term()
        self.span.set_status(Status(StatusCode.ERROR, reason))
        self._end("dead")

    def hold(self) -> Msg:
        """Ends the work on the event; its message, which is returned, is not acknowledged."""
        self._end("held")
        return self.arrival.message

    def record(self, error: Exception) -> None:
        """Records a failed attempt."""
        self.span.record_exception(error)
        self.span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self.meters.outcome("failed").inc()

    def _end(self, outcome: str) -> None:
        self.ended = True
        self.span.set_attribute("aquifer.outcome", outcome)
        self.span.end()
        self.meters.outcome(outcome).inc()
        self.meters.seconds.observe(time.perf_counter() - self.started)
