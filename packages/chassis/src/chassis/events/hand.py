"""A message in hand: its span, its metrics, and how it ends."""

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
from chassis.events.delivery import Delivery
from chassis.events.envelope import E, decode, envelope
from chassis.events.topology import Durable

tracer = trace.get_tracer(__name__)

_FIELDS_WITHOUT_DOMAIN = 9


class Meters:
    """The metrics of one durable, looked up once."""

    def __init__(self, event: type[Message], durable: Durable) -> None:
        self._labels = (str(event.DESCRIPTOR.name), durable.name)
        self.age_s = metrics.EVENT_QUEUE_AGE_SECONDS.labels(*self._labels)
        self.seconds = metrics.EVENT_SECONDS.labels(*self._labels)
        self._outcomes: dict[str, Counter] = {}

    def outcome(self, name: str) -> Counter:
        """The counter of an outcome."""
        if name not in self._outcomes:
            self._outcomes[name] = metrics.EVENTS.labels(*self._labels, name)
        return self._outcomes[name]


@dataclass(slots=True, eq=False)
class Hand(Generic[E]):
    """One delivery of one event, from its arrival to its acknowledgement; has one span."""

    event: type[E]
    durable: Durable
    meters: "Meters"
    message: Msg
    span: trace.Span
    attempt: int
    sequence: int
    ended: bool = False
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, event: type[E], durable: Durable, meters: "Meters", message: Msg) -> Self:
        """Takes a message into hand and starts its span, in the trace that it came in."""
        headers, metadata = message.headers or {}, message.metadata
        age_s = max(0.0, time.time() - metadata.timestamp.timestamp())
        meters.age_s.observe(age_s)
        attributes: dict[str, Any] = {
            "messaging.system": "nats",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": event.DESCRIPTOR.full_name,
            "messaging.destination.template": f"{event.DESCRIPTOR.full_name}.{{tenant}}",
            "messaging.consumer.group.name": durable.name,
            "messaging.message.id": headers.get("ce-id", ""),
            "tenant.id": message.subject.rsplit(".", 1)[-1],
            "aquifer.delivery": metadata.num_delivered,
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
        return cls(
            event, durable, meters, message, span, metadata.num_delivered, metadata.sequence.stream
        )

    @property
    def tenant(self) -> str:
        """Whose event it is: the last token of its subject."""
        return self.message.subject.rsplit(".", 1)[-1]

    @property
    def document(self) -> str | None:
        """The document it says it is about."""
        return (self.message.headers or {}).get("ce-subject")

    @property
    def context(self) -> Context:
        """Trace context of its span."""
        return trace.set_span_in_context(self.span, Context())

    def open(self) -> Delivery[E]:
        """What a handler gets.

        Raises:
            InvalidInputError: it can not be read.
        """
        about = envelope(self.event, self.message.subject, self.message.headers or {})
        return Delivery(
            event=decode(self.event, self.message.data, about.tenant),
            envelope=about,
            consumer=self.durable.name,
            attempt=self.attempt,
            stored_ns=_stored_ns(self.message.reply),
            context=self.context,
        )

    async def acknowledge(self) -> None:
        """Ends it well."""
        await self.message.ack()
        self._end("handled")

    async def give_back(self, delay_s: float, outcome: str) -> None:
        """Has it delivered again, after a delay."""
        await self.message.nak(delay=delay_s)
        self._end(outcome)

    async def terminate(self, reason: str) -> None:
        """Ends it for good; it is kept as a dead letter."""
        await self.message.term()
        self.span.set_status(Status(StatusCode.ERROR, reason))
        self._end("dead")

    def record(self, error: Exception) -> None:
        """Notes an attempt that failed."""
        self.span.record_exception(error)
        self.span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self.meters.outcome("failed").inc()

    def _end(self, outcome: str) -> None:
        self.ended = True
        self.span.set_attribute("aquifer.outcome", outcome)
        self.span.end()
        self.meters.outcome(outcome).inc()
        self.meters.seconds.observe(time.perf_counter() - self.started)


def _stored_ns(reply: str) -> int:
    """When the broker stored a message: a field of its reply subject, to the nanosecond.

    `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.<sequence>.<sequence of the
    consumer>.<time>.<pending>[.<random>]`
    """
    fields = reply.split(".")
    return int(fields[7] if len(fields) == _FIELDS_WITHOUT_DOMAIN else fields[9])
