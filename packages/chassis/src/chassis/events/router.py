"""Declarations of the events that a service consumes, and the FastStream broker that runs them.

FastStream pulls events and injects parameters; `Settlement` handles and acknowledges the events.
Streams and durables follow from the contract and are never created here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faststream import AckPolicy, apply_types
from faststream.message import StreamMessage
from faststream.nats import JStream, NatsBroker, PullSub
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from typing_extensions import override

from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Size
from chassis.events.envelope import E
from chassis.events.provision import consumer_config
from chassis.events.settlement import Settlement
from chassis.events.topology import durable_of

log = logging.getLogger(__name__)

PULL_S = 10.0

Handler = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A handler, its event, and how many events it gets at once."""

    event: type[Message]
    handler: Handler
    size: Size
    on_dead: Handler | None
    on_unreadable: Handler | None


class EventRouter:
    """The subscriptions of a service."""

    def __init__(self) -> None:
        self.subscriptions: list[Subscription] = []

    def on(
        self,
        event: type[E],
        *,
        batch: int = 1,
        groups: int = 1,
        on_dead: Handler | None = None,
        on_unreadable: Handler | None = None,
    ) -> Callable[[Handler], Handler]:
        """Subscribes a handler to `event`.

        The handler gets a `Batch` of one tenant with up to `batch` events; up to `groups` batches
        are handled at the same time. Parameters annotated with FastStream's `Context()` are
        injected. Before an event becomes a dead letter, `on_dead` gets it as a batch of one, with
        the error; if it cannot be read, `on_unreadable` gets what can be read of it.
        """

        def register(handler: Handler) -> Handler:
            size = Size(batch, groups)
            self.subscriptions.append(Subscription(event, handler, size, on_dead, on_unreadable))
            return handler

        return register


class EventBroker(NatsBroker):
    """FastStream's broker on the connection of the process's bus; it does not close the bus."""

    def __init__(
        self,
        bus: Bus,
        service: str,
        subscriptions: Sequence[Subscription],
        dead_letters: DeadLetters,
        injected: Mapping[str, object],
    ) -> None:
        """Prepares every subscription; `injected` are the values of `Context()` by name."""
        super().__init__(logger=log, log_level=logging.DEBUG, apply_types=False)
        self._bus = bus
        for name, value in injected.items():
            self.context.set_global(name, value)
        self.settlements: list[Settlement[Any]] = []
        for one in subscriptions:
            self._subscribe(one, service, dead_letters)

    def _subscribe(self, one: Subscription, service: str, dead_letters: DeadLetters) -> None:
        settlement = Settlement(
            durable_of(one.event, service),
            one.event,
            self._inject(one.handler),
            self._inject(one.on_dead) if one.on_dead else None,
            self._inject(one.on_unreadable) if one.on_unreadable else None,
            self._bus,
            dead_letters,
            one.size,
        )
        self.settlements.append(settlement)
        self._bus.client.pulled[settlement.durable.name] = (
            settlement.bound,
            settlement.wait_for_capacity,
        )

        async def take(messages: list[Msg]) -> None:
            settlement.take(messages)

        self.subscriber(
            f"{one.event.DESCRIPTOR.full_name}.*",
            durable=settlement.durable.name,
            stream=JStream(settlement.durable.stream, declare=False),
            config=consumer_config(settlement.durable),
            pull_sub=PullSub(
                batch=True, batch_size=one.size.batch * one.size.groups, timeout=PULL_S
            ),
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            decoder=_leave_undecoded,
        )(take)

    def _inject(self, handler: Handler) -> Handler:
        # Without a serializer: a batch is passed on as it is.
        injected: Handler = apply_types(handler, serializer_cls=None, context__=self.context)
        return injected

    @override
    async def _connect(self) -> Client:
        await self._bus.wait_until_connected()
        for settlement in self.settlements:
            settlement.bound.connect(self._bus.client)
        self.config.connect(self._bus.client)
        return self._bus.client

    async def run(self) -> None:
        """Consumes until cancelled."""
        await self.start()
        async with asyncio.TaskGroup() as group:
            for settlement in self.settlements:
                group.create_task(settlement.keep_alive())

    async def drain(self, grace_s: float) -> None:
        """Stops pulling, waits `grace_s` for running groups and returns the rest to the bus.

        Stops the subscribers but not the broker, which would close the connection of the process.
        """
        await asyncio.gather(*(settlement.stop(grace_s) for settlement in self.settlements))
        await asyncio.gather(*(subscriber.stop() for subscriber in self.subscribers))


async def _leave_undecoded(message: StreamMessage[list[Msg]]) -> list[Msg]:
    """`Settlement` decodes events, so that an unreadable one does not fail the others."""
    return message.raw_message
