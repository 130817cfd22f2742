"""One exactly-once hop of the chassis, over a bare publish with its ack and a bare commit."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import psycopg
import uvloop
from nats.js import JetStreamContext

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from aquifer.query.v1.passage_events_pb2 import VersionSearchable
from chassis.consume import Consumer
from chassis.dead_letters import DeadLetters
from chassis.delivery import Delivery
from chassis.events import Outgoing, outgoing
from chassis.inbox import Inbox
from chassis.postgres import migrate, open_database
from chassis.topology import durable_of, stream_name
from stack.guardian import Guardian
from testkit.servers import TestBus, TestDatabase, running_bus, running_database
from tests.bench.figures import Aim, Figure, Row, median, spread
from tests.bench.house import fresh_folder

NAME = "hop"
TITLE = "one exactly-once hop: pulled, committed with its inbox row, published, acknowledged"
TENANT = "bench"
DOCUMENT = "collections/bench/documents/bench"
SIDE_BY_SIDE = (1, 8)
LIMIT_S = 120.0
INSERT = "INSERT INTO inbox (tenant_id, consumer, event_id, document) VALUES (%s, %s, %s, %s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """A broker that syncs every write, and a database with the inbox of query."""

    bus: TestBus
    database: TestDatabase


def measure(events: int, repetitions: int) -> Figure:
    """Hop and floors in turn, one at a time and eight at a time."""
    with (
        fresh_folder() as folder,
        Guardian() as guardian,
        running_bus(folder, guardian) as bus,
        running_database(folder, guardian) as database,
    ):
        migrate(database.dsn("query_owner"), "query", ["chassis"])
        servers = Servers(bus=bus, database=database)
        rows = [row for count in SIDE_BY_SIDE for row in _rows(servers, events, repetitions, count)]
    return Figure(name=NAME, title=TITLE, rows=rows)


def _rows(servers: Servers, events: int, repetitions: int, side_by_side: int) -> list[Row]:
    hops, publishes, commits = [], [], []
    for _ in range(repetitions):
        publishes.append(uvloop.run(publish(servers, events, side_by_side)))
        commits.append(uvloop.run(commit(servers, events, side_by_side)))
        hops.append(uvloop.run(hop(servers, events, side_by_side)))
    floors = [p + c for p, c in zip(publishes, commits, strict=True)]
    shares = [floor / each for floor, each in zip(floors, hops, strict=True)]
    suffix = f"{side_by_side} at a time"
    return [
        Row(
            name=f"hop, {suffix}",
            value=median(hops) * 1e3,
            unit="ms",
            spread=spread([each * 1e3 for each in hops]),
            floor=median(floors) * 1e3,
            ratio=median(shares),
            aim=Aim(sense=">=", limit=0.6, of="ratio"),
            note="ratio: floor over hop; floor: the two rows below; wall time for an event",
        ),
        Row(name=f"raw publish and ack, {suffix}", value=median(publishes) * 1e3, unit="ms"),
        Row(name=f"bare insert and commit, {suffix}", value=median(commits) * 1e3, unit="ms"),
    ]


async def publish(servers: Servers, events: int, side_by_side: int) -> float:
    """Seconds for an event: nats-py's own publish of the event a hop emits."""
    await servers.bus.reset()
    async with servers.bus.connect("query") as bus:
        jetstream: JetStreamContext = bus.jetstream

        async def one(number: int) -> None:
            event = _searchable(f"raw-{number}")
            await jetstream.publish(event.subject, event.payload, headers=dict(event.headers))

        return await _timed(one, events, side_by_side)


async def commit(servers: Servers, events: int, side_by_side: int) -> float:
    """Seconds for a row: one insert and its commit, each worker on a connection of its own."""
    servers.database.truncate("query")
    async with AsyncExitStack() as stack:
        free: asyncio.Queue[psycopg.AsyncConnection] = asyncio.Queue()
        for _ in range(side_by_side):
            connection = await psycopg.AsyncConnection.connect(
                servers.database.dsn("query"), autocommit=True
            )
            await stack.enter_async_context(connection)
            await connection.execute("SELECT set_config('app.tenant', %s, false)", [TENANT])
            free.put_nowait(connection)

        async def one(number: int) -> None:
            connection = await free.get()
            await connection.execute(INSERT, [TENANT, "bench", str(number), DOCUMENT])
            free.put_nowait(connection)

        return await _timed(one, events, side_by_side)


async def hop(servers: Servers, events: int, side_by_side: int) -> float:
    """Seconds for an event through the chassis' consumer, from one handler's start to the last's.

    One event is over at most `side_by_side` hops later than it started, so as many more events
    than counted lie in the stream.
    """
    await servers.bus.reset()
    servers.database.truncate("query")
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(servers.bus.connect("inference"))
        for number in range(events + side_by_side):
            await source.publish(_embedded(number), stream_name(ChunksEmbedded))
        bus = await stack.enter_async_context(servers.bus.connect("query"))
        database = await stack.enter_async_context(
            open_database(servers.database.dsn("query"), "query", side_by_side)
        )
        starts: list[float] = []
        done = asyncio.Event()

        async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
            starts.append(time.perf_counter())
            async with delivery.once(document=event.prepared.document) as effect:
                effect.emit(_searchable_message(), document=DOCUMENT)
            if len(starts) == events + side_by_side:
                done.set()

        durable = durable_of(ChunksEmbedded, "query")
        consumer = Consumer(
            bus,
            durable,
            ChunksEmbedded,
            handler,
            DeadLetters(bus, "query"),
            inbox=Inbox(database, durable.name),
            on_dead=None,
            concurrency=side_by_side,
        )
        await _run_until(consumer, done)
    return (starts[-1] - starts[side_by_side - 1]) / events


async def _run_until(consumer: Consumer[ChunksEmbedded], done: asyncio.Event) -> None:
    task = asyncio.get_running_loop().create_task(consumer.run())
    try:
        async with asyncio.timeout(LIMIT_S):
            await done.wait()
        await consumer.stop(2)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _timed(work: Callable[[int], Awaitable[None]], count: int, side_by_side: int) -> float:
    """Wall time over `count` calls, by as many workers, after a tenth of them to warm up."""
    warm = count // 10

    async def phase(first: int, last: int) -> None:
        numbers = iter(range(first, last))

        async def worker() -> None:
            for number in numbers:
                await work(number)

        await asyncio.gather(*(worker() for _ in range(side_by_side)))

    await phase(0, warm)
    started = time.perf_counter()
    await phase(warm, warm + count)
    return (time.perf_counter() - started) / count


def _searchable(event_id: str) -> Outgoing:
    return outgoing(_searchable_message(), event_id=event_id, document=DOCUMENT)


def _searchable_message() -> VersionSearchable:
    return VersionSearchable(tenant=TENANT, document=DOCUMENT, version=1)


def _embedded(number: int) -> Outgoing:
    prepared = ChunksPrepared(tenant=TENANT, document=DOCUMENT, version=1)
    event = ChunksEmbedded(tenant=TENANT, prepared=prepared)
    return outgoing(event, event_id=str(uuid.UUID(int=number)), document=DOCUMENT)
