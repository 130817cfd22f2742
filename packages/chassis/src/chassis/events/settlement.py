"""Handles the events of a durable and acknowledges, retries or dead-letters each of them."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Generic

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link

from chassis.base import telemetry
from chassis.base.errors import (
    ConflictError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from chassis.base.tenants import TenantDeletedError
from chassis.events.arrival import Arrival
from chassis.events.bound import RETURN_DELAY_S, BoundDurable
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Batch, Delivery, Size, Unreadable
from chassis.events.envelope import E, Outgoing, read
from chassis.events.failures import AttemptsExhaustedError, CrashLoopError, Failures
from chassis.events.held import HeldEvents
from chassis.events.received import Meters, ReceivedEvent
from chassis.events.running_groups import RunningGroups
from chassis.events.topology import ACK_WAIT_S, Durable, is_work

log = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

BLAMED_ATTEMPTS = 5
CRASH_DELIVERIES = 20
SUSPECT_DELIVERIES = 3
BACKOFF_FIRST_S = 1.0
BACKOFF_LAST_S = 60.0
CONFLICT_S = 0.2
CONFLICT_LAST_S = 5.0
KEEP_ALIVE_S = ACK_WAIT_S / 3
PAUSE_FIRST_S = 0.25
PAUSE_LAST_S = 5.0

Handle = Callable[[Batch[E]], Awaitable[None]]
OnDead = Callable[[Batch[E], ServiceError], Awaitable[None]]
OnUnreadable = Callable[[Unreadable, ServiceError], Awaitable[None]]


class StoppingError(Exception):
    """The process stops while a dependency is unavailable; waiting events return to the bus."""


class Settlement(Generic[E]):
    """Settles the events of one durable in this process.

    * If a dependency is unavailable or full (`UnavailableError`, `OverloadedError`), no event is to
      blame: received events wait, kept alive on the bus, and no more events are pulled.
    * If a batch fails for another reason, its events are tried again one at a time. A
      `ConflictError` is then retried soon, after growing pauses. Any other `ServiceError` is final:
      the event becomes a dead letter. Any other exception counts against the event: it is retried
      after a growing, jittered delay, up to `BLAMED_ATTEMPTS` times; then it is a dead letter too.
    * An event of a deleted tenant (`TenantDeletedError`) ends without an effect.
    * An event that was delivered more than `SUSPECT_DELIVERIES` times may have crashed the process,
      so it is tried alone and last. At `CRASH_DELIVERIES` it becomes a dead letter without another
      try. The broker counts deliveries before work starts.
    * A failed event of a pack is published again as a single event, and so is every event of a pack
      that is delivered again. The rules above are about single events.

    Before an event becomes a dead letter `on_dead` runs, for example to fail its document, or
    `on_unreadable` if the event cannot be read.
    """

    def __init__(
        self,
        durable: Durable,
        event: type[E],
        handle: Handle[E],
        on_dead: OnDead[E] | None,
        on_unreadable: OnUnreadable | None,
        bus: Bus,
        dead_letters: DeadLetters,
        size: Size,
    ) -> None:
        self.bound = BoundDurable(durable)
        self.durable = durable
        self.event = event
        self.size = size
        self._handle = handle
        self._on_dead, self._on_unreadable = on_dead, on_unreadable
        self._bus = bus
        self._dead_letters = dead_letters
        self._meters = Meters(event, durable)
        self._failures = Failures()
        self._held = HeldEvents(dead_letters, durable.max_ack_pending)
        self._waiting: dict[int, str] = {}
        self._slots = asyncio.Semaphore(size.groups)
        self._changed, self._stopping = asyncio.Event(), asyncio.Event()
        self.running = RunningGroups(size.groups, ended=self._changed.set)

    @property
    def pause_reason(self) -> str:
        """Reason of the unavailable dependency; empty while there is none."""
        full = "DEAD_LETTERS_FULL" if self._held.is_full else ""
        return next(iter(self._waiting.values()), full)

    async def wait_for_capacity(self) -> int:
        """Waits until more events can be handled; returns how many."""
        while self._waiting or self._stopping.is_set() or self.running.is_full:
            self._changed.clear()
            await self._changed.wait()
        return (self.size.groups - len(self.running)) * self.size.batch

    def take(self, messages: Sequence[Msg]) -> None:
        """Starts work on received messages and returns at once."""
        packable = is_work(self.event)
        received: list[ReceivedEvent[E]] = []
        for message in messages:
            arrival = Arrival.read(message, may_be_pack=packable)
            if arrival.is_pack and arrival.attempt > 1:
                self.running.begin(self._split_pack(arrival), [arrival])
                continue
            received += [
                ReceivedEvent.start(self.event, self.durable, self._meters, arrival, raw)
                for raw in arrival.events
            ]
        for start in range(0, len(received), self.size.batch):
            group = received[start : start + self.size.batch]
            self.running.begin(self._settle_group(group), [one.arrival for one in group])

    async def stop(self, grace_s: float) -> None:
        """Waits `grace_s` for running groups, then returns the rest to the bus; takes no more."""
        self._stopping.set()
        await self.running.stop(grace_s)
        await self._held.release_all()

    async def keep_alive(self) -> None:
        """Extends the acknowledgement deadline of all messages in work, until cancelled."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            for arrival in self.running.arrivals():
                if not arrival.message.is_acked:
                    with suppress(NatsError):
                        await arrival.message.in_progress()
            await self._held.tend()

    async def handle(
        self,
        subject: str,
        headers: Mapping[str, str],
        payload: bytes,
        *,
        attempt: int,
        stored_ns: int,
    ) -> None:
        """Handles an event that an operator replays, outside of its durable.

        `stored_ns` is the time at which it was first stored: a replay does not count as a later
        upload.

        Raises:
            ServiceError: as the handler does, or if the event cannot be read.
        """
        about, event = read(self.event, subject, headers, payload)
        delivery = Delivery(
            event=event,
            envelope=about,
            consumer=self.durable.name,
            attempt=attempt,
            stored_ns=stored_ns,
            context=telemetry.extract(headers),
        )
        await self._handle(Batch(about.tenant, [delivery]))

    async def _split_pack(self, arrival: Arrival) -> None:
        """Publishes the events of a pack one by one: one of them may have crashed a process."""
        log.warning(
            "pack.split", extra={"consumer": self.durable.name, "events": len(arrival.events)}
        )
        try:
            await self._publish_alone(arrival.events)
            await arrival.message.ack()
        except StoppingError:
            log.info("events.returned", extra={"consumer": self.durable.name})
        finally:
            await arrival.nak(RETURN_DELAY_S)

    async def _publish_alone(self, events: Sequence[Outgoing]) -> None:
        await self._retry_while_unavailable(
            lambda: self._bus.publish_all(events, packed=False), events
        )

    async def _settle_group(self, received: Sequence[ReceivedEvent[E]]) -> None:
        """Settles a group: tenants at the same time, suspects alone and last."""
        together: dict[str, list[ReceivedEvent[E]]] = defaultdict(list)
        suspects = []
        for one in received:
            if one.attempt > SUSPECT_DELIVERIES:
                suspects.append(one)
            else:
                together[one.tenant].append(one)
        random.shuffle(suspects)
        try:
            async with self._slots:
                await asyncio.gather(*(self._finish(mine) for mine in together.values()))
                for one in suspects:
                    await self._finish([one])
        finally:
            for one in received:
                # Some are left only after a cancellation or a bug.
                if not one.ended:
                    await one.nak(RETURN_DELAY_S, "returned")

    async def _finish(self, received: Sequence[ReceivedEvent[E]]) -> None:
        """Handles events together and, where that fails, one by one."""
        try:
            await self._retry_while_unavailable(lambda: self._handle_once(received), received)
        except StoppingError:
            log.info("events.returned", extra={"consumer": self.durable.name})
        except TenantDeletedError:
            await self._drop(received)
        except Exception as error:  # noqa: BLE001  (`_end_failed` decides what follows)
            if len(received) == 1:
                await self._end_failed(received[0], error)
                return
            log.warning(
                "batch.split",
                extra={
                    "consumer": self.durable.name,
                    "events": len(received),
                    "error": repr(error),
                },
            )
            for one in received:
                await self._finish([one])

    async def _retry_while_unavailable(
        self, attempt: Callable[[], Awaitable[None]], waiting: Sequence[object]
    ) -> None:
        """Repeats an attempt for as long as a dependency is unavailable."""
        pause_s = PAUSE_FIRST_S
        try:
            while True:
                try:
                    return await attempt()
                except (UnavailableError, OverloadedError) as error:
                    self._waiting[id(waiting)] = error.reason
                    log.warning(
                        "event.waiting",
                        extra={"reason": error.reason, "consumer": self.durable.name},
                    )
                    await self._pause(max(pause_s, error.retry_after_s / 4) * _jitter())
                    pause_s = min(pause_s * 2, PAUSE_LAST_S)
        finally:
            self._waiting.pop(id(waiting), None)
            self._changed.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        if self._stopping.is_set():
            raise StoppingError

    async def _handle_once(self, received: Sequence[ReceivedEvent[E]]) -> None:
        """Makes one attempt: handles events and acknowledges them."""
        for one in received:
            if one.attempt >= CRASH_DELIVERIES:
                raise CrashLoopError(one.attempt)
        batch = Batch(received[0].tenant, [one.open() for one in received])
        with self._use_span(received):
            await self._handle(batch)
        for one in received:
            await one.acknowledge()
            self._failures.forget(one.arrival.sequence)

    @contextmanager
    def _use_span(self, received: Sequence[ReceivedEvent[E]]) -> Iterator[None]:
        """Runs one event in its own span, several in a new span that links to theirs."""
        if len(received) == 1:
            [one] = received
            with (
                telemetry.document_scope(one.tenant, one.document),
                trace.use_span(one.span, record_exception=False, set_status_on_exception=False),
            ):
                yield
            return
        with (
            telemetry.document_scope(received[0].tenant),
            tracer.start_as_current_span(
                f"process group {self.event.DESCRIPTOR.name}",
                context=Context(),
                links=[Link(one.span.get_span_context()) for one in received],
                attributes={"messaging.batch.message_count": len(received)},
            ),
        ):
            yield

    async def _end_failed(self, one: ReceivedEvent[E], error: Exception) -> None:
        """Decides what happens to a single event that failed."""
        if one.arrival.is_pack:
            await self._publish_unpacked(one, error)
            return
        match error:
            case ConflictError():
                delay_s = min(CONFLICT_S * 2 ** (one.attempt - 1), CONFLICT_LAST_S)
                await one.nak(delay_s * _jitter(), "retried")
            case ServiceError():
                await self._make_dead_letter(one, error)
            case _:
                await self._count_failure(one, error)

    async def _publish_unpacked(self, one: ReceivedEvent[E], error: Exception) -> None:
        """Publishes an event of a pack again as a single event, which is then retried."""
        log.warning("event.unpacked", extra={"consumer": self.durable.name, "error": repr(error)})
        one.record(error)
        try:
            await self._publish_alone([one.raw])
            await one.acknowledge("retried")
        except StoppingError:
            log.info("events.returned", extra={"consumer": self.durable.name})

    async def _count_failure(self, one: ReceivedEvent[E], error: Exception) -> None:
        """Counts a failure of the event; retries it later or makes it a dead letter."""
        log.error("event.failed", exc_info=error, extra={"consumer": self.durable.name})
        one.record(error)
        count = self._failures.add(one.arrival.sequence)
        if count >= BLAMED_ATTEMPTS:
            await self._make_dead_letter(one, AttemptsExhaustedError(count))
            return
        delay_s = min(BACKOFF_FIRST_S * 2 ** (count - 1), BACKOFF_LAST_S) * _jitter()
        await one.nak(delay_s, "retried")

    async def _make_dead_letter(self, one: ReceivedEvent[E], error: ServiceError) -> None:
        """Calls `on_dead`, stores the dead letter, and only then ends the event."""
        log.error("event.dead", extra={"reason": error.reason, "consumer": self.durable.name})
        try:
            await self._retry_while_unavailable(lambda: self._call_on_dead(one, error), [one])
            await self._retry_while_unavailable(lambda: self._store_dead_letter(one, error), [one])
        except TenantDeletedError:
            await self._drop([one])
        except StoppingError:
            log.info("events.returned", extra={"consumer": self.durable.name})

    async def _drop(self, received: Sequence[ReceivedEvent[E]]) -> None:
        """Ends events of a deleted tenant: its text must not become a dead letter either."""
        log.info("events.dropped", extra={"consumer": self.durable.name, "events": len(received)})
        for one in received:
            self._failures.forget(one.arrival.sequence)
            await one.acknowledge("dropped")

    async def _call_on_dead(self, one: ReceivedEvent[E], error: ServiceError) -> None:
        """Calls the handler of the service for events that become dead letters."""
        with self._use_span([one]):
            try:
                delivery = one.open()
            except ServiceError:
                if self._on_unreadable:
                    await self._on_unreadable(one.glimpse(), error)
                return
            if self._on_dead:
                await self._on_dead(Batch(one.tenant, [delivery]), error)

    async def _store_dead_letter(self, one: ReceivedEvent[E], error: ServiceError) -> None:
        """Stores an event as a dead letter and ends its delivery."""
        with self._use_span([one]):
            try:
                await self._dead_letters.put(self.event.DESCRIPTOR.name, one.arrival.message, error)
            except OverloadedError as full:
                # A tenant that fills the dead letters must not delay the events of others.
                log.error("event.dead_waits", extra={"reason": full.reason})  # noqa: TRY400
                self._held.hold(one.arrival.sequence, one.hold())
                return
        self._failures.forget(one.arrival.sequence)
        await one.terminate(error.reason)


def _jitter() -> float:
    return random.uniform(0.7, 1.3)  # noqa: S311  (spreads retries, keeps no secret)
