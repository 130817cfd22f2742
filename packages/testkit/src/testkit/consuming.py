"""The smallest process that consumes one event."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import Message

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from chassis.base.postgres import Database
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.outbox import EQUAL, Outbox
from chassis.events.router import EventBroker, EventRouter, Handler
from chassis.events.settlement import Settlement
from chassis.events.work import GuardedTransactions


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


async def wait_until_settled(settlement: Settlement[ChunksEmbedded]) -> None:
    """Waits until the durable has no pending and no unacknowledged messages."""
    async with asyncio.timeout(20):
        while True:
            info = await settlement.bound.info() if settlement.bound.is_connected else None
            if info and not info.num_pending and not info.num_ack_pending:
                return
            await asyncio.sleep(0.02)


async def wait_until_missing(settlement: Settlement[ChunksEmbedded], words: str) -> None:
    """Waits until the durable is reported missing with these words."""
    async with asyncio.timeout(20):
        while words not in settlement.bound.missing:
            await asyncio.sleep(0.02)
