"""Pulls events from a durable that exists: binds, never creates, asks only for what it can take."""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo
from nats.js.errors import Error as JetStreamError

from chassis.events.bus import Bus
from chassis.events.topology import Durable

log = logging.getLogger(__name__)

PULL_EXPIRES_S = 10.0
CHECK_S = 5.0
# Places that fall free within this time are asked for together.
GATHER_S = 0.002


@dataclass(slots=True)
class _Request:
    """A pull request the server still holds: how many it owes, until when (monotonic)."""

    owed: int
    until: float


class Puller:
    """Hands each message of one durable to `deliver`, at most `credit()` of `places` at a time.

    nats-py's own fetch waits for a full batch once its first message came; this keeps requests
    open for exactly the free places, so a message is never held back and never waits in line here.
    """

    def __init__(
        self,
        bus: Bus,
        durable: Durable,
        deliver: Callable[[Msg], None],
        credit: Callable[[], int],
        places: int,
    ) -> None:
        self._bus = bus
        self._durable = durable
        self._deliver = deliver
        self._credit = credit
        self._places = places
        self._requests: deque[_Request] = deque()
        self._changed = asyncio.Event()
        self._inbox = ""
        self.missing = "not checked yet"

    def changed(self) -> None:
        """Tells the puller that there may be more credit."""
        self._changed.set()

    async def run(self) -> None:
        """Pulls until cancelled; checks the durable at start, on any refusal and regularly."""
        await self._bus.first_connection()
        self._bus.on_reconnected.append(self._forget_requests)
        self._inbox = self._bus.client.new_inbox()
        subscription = await self._bus.client.subscribe(
            self._inbox, cb=self._on_message, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        try:
            checked = 0.0
            while True:
                self._changed.clear()
                if self.missing or time.monotonic() - checked > CHECK_S:
                    self.missing = await self._difference()
                    checked = time.monotonic()
                if not self.missing:
                    await self._ask()
                await self._wait(1.0 if self.missing else CHECK_S)
        finally:
            await _unsubscribe(subscription)

    async def _wait(self, limit_s: float) -> None:
        # Not asyncio.wait_for: in Python 3.11 it can swallow a cancellation.
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        if self._credit() < self._places:
            await asyncio.sleep(GATHER_S)

    def _forget_requests(self) -> None:
        """A server that was away holds none of them any more."""
        self._requests.clear()
        self.missing = self.missing or "reconnected, not checked yet"
        self.changed()

    async def _ask(self) -> None:
        now = time.monotonic()
        while self._requests and self._requests[0].until < now:
            self._requests.popleft()
        owed = sum(request.owed for request in self._requests)
        free = self._credit() - owed
        if free <= 0:
            return
        # Counted as owed a little longer than the server holds it: its goodbye may be under way.
        self._requests.append(_Request(free, now + PULL_EXPIRES_S + 1.0))
        body = {"batch": free, "expires": int(PULL_EXPIRES_S * 1e9)}
        await self._bus.client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._durable.stream}.{self._durable.name}",
            json.dumps(body).encode(),
            reply=self._inbox,
        )

    async def _on_message(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status is None or message.reply:
            if self._requests:
                self._requests[0].owed -= 1
                if self._requests[0].owed <= 0:
                    self._requests.popleft()
            self._deliver(message)
            return
        if self._requests:
            self._requests.popleft()
        if status not in {"404", "408"}:
            # 409: deleted, leadership moved, server going down; 503: nobody answers for it.
            self.missing = f"pull refused ({status})"
            self._requests.clear()
        self.changed()

    async def info(self) -> ConsumerInfo:
        """The durable as the server knows it."""
        info: ConsumerInfo = await self._bus.jetstream.consumer_info(
            self._durable.stream, self._durable.name, timeout=2.0
        )
        return info

    async def _difference(self) -> str:
        """What keeps this consumer from working as declared; empty when nothing does."""
        if not self._bus.connected:
            self._requests.clear()
            return "bus not connected"
        try:
            info = await self.info()
        except (JetStreamError, NatsError, TimeoutError) as error:
            return f"durable {self._durable.name} not found ({type(error).__name__})"
        return difference(self._durable, info)


def difference(durable: Durable, info: ConsumerInfo) -> str:
    """How a durable differs from its declaration; empty when it does not."""
    config = info.config
    expected = {
        "filter_subject": durable.subject,
        "ack_wait": durable.ack_wait_s,
        "max_deliver": durable.max_deliver,
        "max_ack_pending": durable.max_ack_pending,
    }
    wrong = [
        f"{key} is {getattr(config, key)}, not {value}"
        for key, value in expected.items()
        if getattr(config, key) != value
    ]
    return f"durable {durable.name}: {', '.join(wrong)}" if wrong else ""


async def _unsubscribe(subscription: Subscription) -> None:
    try:
        await subscription.unsubscribe()
    except NatsError as error:
        log.debug("pull.unsubscribe_failed", extra={"error": repr(error)})
