"""Consume events: every delivery ends acknowledged, handed back, or as a dead letter."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from chassis.base import metrics, telemetry
from chassis.base.errors import (
    ConflictError,
    FailedPreconditionError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Delivery
from chassis.events.envelope import E, decode, envelope
from chassis.events.inbox import AlreadyAppliedError, Inbox
from chassis.events.pull import Puller
from chassis.events.topology import ACK_WAIT_S, Durable

log = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

BLAMED_ATTEMPTS = 5
CRASH_DELIVERIES = 20
BACKOFF_FIRST_S = 1.0
BACKOFF_LAST_S = 60.0
DEAD_FULL_S = 300.0
PAUSE_FIRST_S = 0.25
PAUSE_LAST_S = 5.0

Handler = Callable[[E, Delivery], Awaitable[None]]
OnDead = Callable[[E, Delivery, ServiceError], Awaitable[None]]


class Consumer(Generic[E]):
    """One durable of this process: pulls, handles side by side, settles.

    * A dependency that is away or full (`UnavailableError`, `OverloadedError`) is nobody's fault:
      the consumer stops pulling, keeps what it holds alive and tries again until it answers.
    * Any other `ServiceError` is final: the event becomes a dead letter at once.
    * Every other exception is blamed on the event: retried after a growing, jittered delay,
      `BLAMED_ATTEMPTS` times, then a dead letter.
    * An event delivered `CRASH_DELIVERIES` times has taken its process along too often: it becomes
      a dead letter without being run again. The broker counts deliveries before work starts.

    `on_dead` runs before an event becomes a dead letter, so that its document can fail with it.
    """

    def __init__(
        self,
        bus: Bus,
        durable: Durable,
        event: type[E],
        handler: Handler[E],
        dead_letters: DeadLetters,
        *,
        inbox: Inbox | None,
        on_dead: OnDead[E] | None,
        concurrency: int,
    ) -> None:
        self.durable = durable
        self.event = event
        self._bus = bus
        self._handler = handler
        self._dead_letters = dead_letters
        self._inbox = inbox
        self._on_dead = on_dead
        self._concurrency = concurrency
        self._held: dict[asyncio.Task[None], Msg] = {}
        self._blamed: dict[str, int] = {}
        self._waiting: dict[asyncio.Task[Any], str] = {}
        self._stopping = False
        self.puller = Puller(bus, durable, self._accept, self._free, concurrency)

    @property
    def pause_reason(self) -> str:
        """Reason of the dependency this consumer waits for; empty while it works."""
        return next(iter(self._waiting.values()), "")

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.puller.run())
            group.create_task(self._heartbeat())

    async def stop(self, grace_s: float) -> None:
        """Takes nothing new, lets what runs finish within `grace_s`, hands the rest back."""
        self._stopping = True
        for task in self._waiting:
            task.cancel()
        if self._held:
            await asyncio.wait(set(self._held), timeout=grace_s)
        for task in list(self._held):
            task.cancel()
        if self._held:
            await asyncio.wait(set(self._held), timeout=2.0)

    def _free(self) -> int:
        if self._stopping or self._waiting:
            return 0
        return self._concurrency - len(self._held)

    def _accept(self, message: Msg) -> None:
        task = asyncio.get_running_loop().create_task(self._settle(message))
        self._held[task] = message
        metrics.EVENT_QUEUE_AGE_SECONDS.labels(
            self.event.DESCRIPTOR.name, self.durable.name
        ).observe(_age_s(message))
        task.add_done_callback(self._released)

    def _released(self, task: asyncio.Task[None]) -> None:
        self._held.pop(task, None)
        self._waiting.pop(task, None)
        self.puller.changed()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("event.unsettled", exc_info=error, extra={"consumer": self.durable.name})

    async def _heartbeat(self) -> None:
        """Keeps everything in hand from being delivered elsewhere meanwhile."""
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            for message in list(self._held.values()):
                try:
                    await message.in_progress()
                except NatsError as error:
                    log.warning("event.heartbeat_failed", extra={"error": repr(error)})

    async def _settle(self, message: Msg) -> None:
        """Brings one delivery to its end inside its own trace."""
        started = time.perf_counter()
        headers = message.headers or {}
        token = otel_context.attach(telemetry.extract(headers))
        try:
            with (
                telemetry.document_scope(
                    message.subject.rsplit(".", 1)[-1], headers.get("ce-subject")
                ),
                tracer.start_as_current_span(
                    f"process {self.event.DESCRIPTOR.name}",
                    kind=SpanKind.CONSUMER,
                    attributes=self._attributes(message),
                ) as span,
            ):
                outcome = await self._patiently(message)
                span.set_attribute("aquifer.outcome", outcome)
        except asyncio.CancelledError:
            await message.nak(delay=0.1)
            raise
        finally:
            otel_context.detach(token)
        labels = (self.event.DESCRIPTOR.name, self.durable.name)
        metrics.EVENTS.labels(*labels, outcome).inc()
        metrics.EVENT_SECONDS.labels(*labels).observe(time.perf_counter() - started)

    def _attributes(self, message: Msg) -> dict[str, Any]:
        headers = message.headers or {}
        return {
            "messaging.system": "nats",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.template": f"{self.event.DESCRIPTOR.full_name}.{{tenant}}",
            "messaging.consumer.group.name": self.durable.name,
            "messaging.message.id": headers.get("ce-id", ""),
            "aquifer.delivery": message.metadata.num_delivered,
            "aquifer.queue_age_ms": round(_age_s(message) * 1000),
        }

    async def _patiently(self, message: Msg) -> str:
        """Settles a delivery however long a dependency stays away; names the outcome."""
        pause_s = PAUSE_FIRST_S
        task = asyncio.current_task()
        assert task is not None
        while True:
            try:
                outcome = await self._once(message)
            except (UnavailableError, OverloadedError) as error:
                self._waiting[task] = error.reason
                log.warning(
                    "event.waiting", extra={"reason": error.reason, "consumer": self.durable.name}
                )
                await asyncio.sleep(max(pause_s, error.retry_after_s / 4) * _jitter())
                pause_s = min(pause_s * 2, PAUSE_LAST_S)
            else:
                self._waiting.pop(task, None)
                return outcome

    async def _once(self, message: Msg) -> str:
        """One attempt: handle, publish what it emitted, acknowledge."""
        try:
            await self._handle(message.subject, message.headers or {}, message)
        except ConflictError:
            await message.nak(delay=0.2 * _jitter())
            return "retried"
        except (UnavailableError, OverloadedError):
            raise
        except ServiceError as error:
            return await self._bury(message, error)
        except Exception as error:
            # The edge of the process: an unknown failure costs a retry, never the event.
            log.exception("event.failed", extra={"consumer": self.durable.name})
            return await self._blame(message, error)
        self._blamed.pop(_key(message), None)
        await message.ack()
        return "handled"

    async def _handle(self, subject: str, headers: dict[str, str], message: Msg) -> None:
        if message.metadata.num_delivered >= CRASH_DELIVERIES:
            raise CrashLoopError(message.metadata.num_delivered)
        await self.handle(subject, headers, message.data, message.metadata.num_delivered)

    async def handle(
        self, subject: str, headers: dict[str, str], payload: bytes, attempt: int
    ) -> None:
        """Runs the handler on an event and sends what it emitted.

        Raises:
            ServiceError: as the handler does, or for an event that can not be read.
        """
        delivery = self._delivery(subject, headers, attempt)
        event = decode(self.event, payload, delivery.envelope.tenant)
        try:
            await self._handler(event, delivery)
        except AlreadyAppliedError:
            log.info("event.repeated", extra={"event_id": delivery.envelope.event_id})
        await self._send(delivery)

    def _delivery(self, subject: str, headers: dict[str, str], attempt: int) -> Delivery:
        return Delivery(
            envelope(self.event, subject, headers),
            consumer=self.durable.name,
            inbox=self._inbox,
            attempt=attempt,
        )

    async def _send(self, delivery: Delivery) -> None:
        if delivery.outgoing:
            await self._bus.publish_all(delivery.outgoing)
            await delivery.sent()

    async def _blame(self, message: Msg, error: Exception) -> str:
        """Counts a failure against the event: another try later, or the end."""
        span = trace.get_current_span()
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        metrics.EVENTS.labels(self.event.DESCRIPTOR.name, self.durable.name, "failed").inc()
        key = _key(message)
        self._blamed[key] = self._blamed.get(key, 0) + 1
        if self._blamed[key] >= BLAMED_ATTEMPTS:
            return await self._bury(message, AttemptsExhaustedError(self._blamed[key]))
        delay_s = min(BACKOFF_FIRST_S * 2 ** (self._blamed[key] - 1), BACKOFF_LAST_S) * _jitter()
        await message.nak(delay=delay_s)
        return "retried"

    async def _bury(self, message: Msg, error: ServiceError) -> str:
        """Lets the document fail, keeps the event as a dead letter, and only then ends it."""
        trace.get_current_span().set_status(Status(StatusCode.ERROR, error.reason))
        log.error("event.dead", extra={"reason": error.reason, "consumer": self.durable.name})
        await self._tell(message, error)
        try:
            await self._dead_letters.put(self.event.DESCRIPTOR.name, message, error)
        except OverloadedError as full:
            # Whose events fill the dead letters must not hold up everybody else's.
            log.error("event.dead_waits", extra={"reason": full.reason})  # noqa: TRY400
            await message.nak(delay=DEAD_FULL_S * _jitter())
            return "retried"
        self._blamed.pop(_key(message), None)
        await message.term()
        return "dead"

    async def _tell(self, message: Msg, error: ServiceError) -> None:
        if self._on_dead is None:
            return
        try:
            headers = message.headers or {}
            delivery = self._delivery(message.subject, headers, message.metadata.num_delivered)
            event = decode(self.event, message.data, delivery.envelope.tenant)
        except ServiceError:
            return  # what can not be read names no document; the dead letter itself keeps why
        try:
            await self._on_dead(event, delivery, error)
        except AlreadyAppliedError:
            log.info("event.repeated", extra={"event_id": delivery.envelope.event_id})
        await self._send(delivery)


class AttemptsExhaustedError(FailedPreconditionError):
    """Every try failed with an error that is blamed on the event."""

    def __init__(self, attempts: int) -> None:
        super().__init__(
            "ATTEMPTS_EXHAUSTED", f"{attempts} tries failed; the log holds why", attempts=attempts
        )


class CrashLoopError(FailedPreconditionError):
    """Delivered so often without an end that it must be what ends the process."""

    def __init__(self, deliveries: int) -> None:
        super().__init__(
            "CRASH_LOOP", f"{deliveries} deliveries without an end", deliveries=deliveries
        )


def _key(message: Msg) -> str:
    return f"{message.metadata.stream}.{message.metadata.sequence.stream}"


def _jitter() -> float:
    return random.uniform(0.7, 1.3)  # noqa: S311  (spreads retries, keeps no secret)


def _age_s(message: Msg) -> float:
    return max(0.0, time.time() - message.metadata.timestamp.timestamp())
