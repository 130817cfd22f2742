"""The smallest process that consumes one event."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import Message
from nats.js.errors import NotFoundError

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from chassis.base.postgres import Database
from chassis.events.bound import BoundDurable
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.outbox import EQUAL, Outbox
from chassis.events.router import EventBroker, EventRouter, Handler
from chassis.events.settlement import Settlement
from chassis.events.work import GuardedTransactions
from testkit.servers import TestBus


def prepare(
    bus: Bus,
    handler: Handler,
    *,
    event: type[Message] = ChunksEmbedded,
    service: str = "query",
    on_dead: Handler | None = None,
    batch: int = 1,
    groups: int = 4,
    **injected: object,
) -> EventBroker:
    """A broker with one subscription, not started."""
    router = EventRouter()
    router.on(event, batch=batch, groups=groups, on_dead=on_dead)(handler)
    return EventBroker(bus, service, router.subscriptions, DeadLetters(bus, service), injected)


@asynccontextmanager
async def consume_events(
    bus: Bus, handler: Handler, **options: Any
) -> AsyncIterator[Settlement[ChunksEmbedded]]:
    """Handles an event until the end of the block, then drains like a process."""
    broker = prepare(bus, handler, **options)
    task = asyncio.get_running_loop().create_task(broker.run())
    try:
        yield broker.settlements[0]
    finally:
        await broker.drain(2)
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def run_relay(
    database: Database, bus: Bus, service: str = "query", weights: Mapping[str, float] = EQUAL
) -> AsyncIterator[GuardedTransactions]:
    """Units of work of a service; the relay of its outbox runs until the end of the block."""
    outbox = Outbox(database, bus, service, weights)
    relay = asyncio.get_running_loop().create_task(outbox.relay())
    try:
        yield GuardedTransactions(database, outbox)
    finally:
        relay.cancel()
        await asyncio.wait([relay])


async def wait_until_settled(bus: TestBus, *settlements: Settlement[Any]) -> None:
    """Waits until everything in the streams of the durables was delivered and acknowledged."""
    async with asyncio.timeout(60), bus.connect("provisioner") as admin:
        for settlement in settlements:
            while not await is_settled(admin, settlement.bound):
                await asyncio.sleep(0.02)


async def is_settled(admin: Bus, bound: BoundDurable) -> bool:
    """Whether a durable has delivered the newest message of its subject, and none is in work.

    The broker counts a message as pending a moment after it has confirmed it to the publisher: the
    counts alone may show nothing to do right after a publication.
    """
    if not bound.is_connected:
        return False
    stream = admin.jetstream
    try:
        newest = await stream.get_last_msg(bound.durable.stream, bound.durable.subject)
        last = newest.seq or 0
    except NotFoundError:
        last = 0
    info = await bound.info()
    delivered = info.delivered.stream_seq if info.delivered else 0
    return not info.num_pending and not info.num_ack_pending and delivered >= last


async def wait_until_missing(settlement: Settlement[ChunksEmbedded], words: str) -> None:
    """Waits until the durable is reported missing with these words."""
    async with asyncio.timeout(20):
        while words not in settlement.bound.missing:
            await asyncio.sleep(0.02)
