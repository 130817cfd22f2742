"""The NATS client that FastStream pulls from: binds to existing durables, pulls what fits.

FastStream calls `jetstream().pull_subscribe(...)` on a NATS client, and on the result `fetch` and
`unsubscribe`. The classes here implement these calls. They bind to a durable and never create one,
compare it with the contract, request only as many events as can be handled now, and return events
as they arrive.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NothingCameError
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError as JetStreamNotFoundError
from typing_extensions import override

from chassis.events.topology import Durable

CHECK_S = 10.0
AGAIN_S = 1.0
INFO_S = 2.0
RETURN_DELAY_S = 0.1
PULL_MAX_BYTES = 2 << 20
_NO_MESSAGES, _EXPIRED = "404", "408"

Capacity = Callable[[], Awaitable[int]]


class BoundDurable:
    """A durable of the contract, and what is wrong with the one on the server."""

    def __init__(self, durable: Durable) -> None:
        self.durable = durable
        self.missing = "not checked yet"
        self._client: Client | None = None
        self._checked = 0.0

    def connect(self, client: Client) -> None:
        """Sets the connection; to be called first."""
        self._client = client

    @property
    def is_connected(self) -> bool:
        """Whether the connection works now; False before `connect`."""
        return self._client is not None and bool(self._client.is_connected)

    async def wait_until_usable(self) -> None:
        """Waits until the durable exists and matches its declaration."""
        while self.missing or time.monotonic() - self._checked > CHECK_S:
            self._checked = time.monotonic()
            self.missing = await self._find_problem()
            if self.missing:
                await asyncio.sleep(AGAIN_S)

    async def info(self) -> ConsumerInfo:
        """The server's description of the durable."""
        assert self._client is not None, "connect comes first"
        info: ConsumerInfo = await JetStreamContext(self._client).consumer_info(
            self.durable.stream, self.durable.name, timeout=INFO_S
        )
        return info

    async def _find_problem(self) -> str:
        """Why the durable cannot be used; empty if it can."""
        if not self.is_connected:
            return "bus not connected"
        try:
            info = await self.info()
        except JetStreamNotFoundError:
            return f"durable {self.durable.name} not found: run `aquifer bus apply`"
        except (JetStreamError, NatsError, TimeoutError) as error:
            return f"bus does not answer ({type(error).__name__})"
        return find_differences(self.durable, info)


def find_differences(durable: Durable, info: ConsumerInfo) -> str:
    """Differences between a durable and its declaration; empty if there are none."""
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


class BoundClient(Client):
    """A NATS client with a JetStream context that binds to the durables in `pulled`."""

    def __init__(self) -> None:
        super().__init__()
        self.pulled: dict[str, tuple[BoundDurable, Capacity]] = {}

    @override
    def jetstream(self, **options: Any) -> JetStreamContext:
        return _BoundJetStream(self, **options)


class _BoundJetStream(JetStreamContext):
    def __init__(self, client: BoundClient, **options: Any) -> None:
        super().__init__(client, **options)
        self._client = client

    @override
    async def pull_subscribe(  # type: ignore[override]
        self, subject: str, *, durable: str, **_: Any
    ) -> "Pull":
        bound, capacity = self._client.pulled[durable]
        pull = Pull(self._client, bound, capacity)
        await pull.subscribe()
        return pull


class Pull:
    """The pull subscription of a durable: one request at a time, for as many events as fit."""

    def __init__(self, client: Client, bound: BoundDurable, capacity: Capacity) -> None:
        self._client = client
        self._bound = bound
        self._capacity = capacity
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._arrived: deque[Msg] = deque()
        self._news = asyncio.Event()
        self._requests = 0
        self._whole = 0

    async def subscribe(self) -> None:
        """Subscribes to the replies; to be called first."""
        self._subscription = await self._client.subscribe(
            f"{self._inbox}.*", cb=self._receive, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def _receive(self, message: Msg) -> None:
        self._arrived.append(message)
        self._news.set()

    async def fetch(self, batch: int, timeout: float) -> list[Msg]:  # noqa: ASYNC109
        """Waits for an event; returns it and the events that wait behind it, as many as fit.

        Raises:
            NothingCameError: no event came in time. Also raised at once for FastStream's second
                request for the rest of a batch.
        """
        self._whole = max(self._whole, batch)
        if batch < self._whole:
            raise NothingCameError
        await self._bound.wait_until_usable()
        count = min(await self._capacity(), batch)
        try:
            arrived = await self._request(count, timeout)
        except NatsError as error:
            # FastStream asks again at once; without a pause nothing else would run.
            await asyncio.sleep(AGAIN_S)
            raise NothingCameError from error
        if not arrived:
            raise NothingCameError
        return arrived

    async def _request(self, count: int, wait_s: float) -> list[Msg]:
        self._requests += 1
        reply, durable = f"{self._inbox}.{self._requests}", self._bound.durable
        # With both options, the server waits for a first event, sends what it has and ends the
        # request.
        body = {
            "batch": count,
            "max_bytes": PULL_MAX_BYTES,
            "no_wait": True,
            "expires": int(wait_s * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{durable.stream}.{durable.name}"
        await self._client.publish(subject, json.dumps(body).encode(), reply=reply)
        until, connections = time.monotonic() + wait_s + AGAIN_S, self._client.stats["reconnects"]
        arrived: list[Msg] = []
        while len(arrived) < count:
            if not self._arrived:
                # After a reconnection the server no longer knows the request.
                if time.monotonic() > until or self._client.stats["reconnects"] != connections:
                    break
                await self._wait_for_message()
                continue
            message = self._arrived.popleft()
            if message.reply:
                arrived.append(message)
            elif message.subject == reply:
                self._end_request(message)
                break
        return arrived

    async def _wait_for_message(self) -> None:
        """Waits for a message, at most a second."""
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await self._news.wait()

    def _end_request(self, message: Msg) -> None:
        """Records why the server ended a request."""
        headers = message.headers or {}
        status, why = headers.get("Status", ""), headers.get("Description", "")
        if status not in {_NO_MESSAGES, _EXPIRED} and "MaxBytes" not in why:
            # 409: deleted, leadership changed, server shutting down; 503: no responders.
            self._bound.missing = f"pull from {self._bound.durable.name} refused ({status} {why})"

    async def unsubscribe(self) -> None:
        """Ends the subscription and returns messages that were not fetched."""
        with suppress(NatsError):
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            for message in self._arrived:
                if message.reply:
                    await message.nak(delay=RETURN_DELAY_S)
