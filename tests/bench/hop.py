"""One exactly-once hop of the chassis, over a bare publish with its ack and a bare commit.

One event at a time, eight side by side, and in two groups of up to 32.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psycopg
import uvloop
from nats.js import JetStreamContext

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from aquifer.query.v1.passage_events_pb2 import VersionSearchable
from chassis.base.postgres import migrate, open_database
from chassis.events.delivery import Batch, Size
from chassis.events.envelope import Outgoing, encode_event
from stack.guardian import Guardian
from testkit.consuming import consume_events, run_relay
from testkit.servers import TestBus, TestDatabase, start_bus, start_database
from tests.bench.figures import Aim, Figure, Row, median, spread
from tests.bench.running_stack import make_folder

NAME = "hop"
TITLE = "one exactly-once hop: pulled, committed with its inbox row, published, acknowledged"
TENANT = "bench"
DOCUMENT = "collections/bench/documents/bench"
SIZES = {"1 at a time": Size(1, 1), "8 side by side": Size(1, 8), "groups of 32": Size(32, 2)}
LIMIT_S = 120.0
INSERT = "INSERT INTO inbox (tenant_id, key) VALUES (%s, %s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds for one event: of the clock, and of this process's processor time."""

    wall_s: float
    cpu_s: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(wall_s=self.wall_s + other.wall_s, cpu_s=self.cpu_s + other.cpu_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """A broker that syncs every write, and a database with the inbox of query."""

    bus: TestBus
    database: TestDatabase


def measure(events: int, repetitions: int) -> Figure:
    """Hop and floors in turn, one at a time and eight at a time."""
    with (
        make_folder() as folder,
        Guardian() as guardian,
        start_bus(folder, guardian) as bus,
        start_database(folder, guardian) as database,
    ):
        migrate(database.dsn("query_owner"), "query", ["chassis"])
        servers = Servers(bus=bus, database=database)
        rows = [row for name in SIZES for row in _rows(servers, events, repetitions, name)]
    return Figure(name=NAME, title=TITLE, rows=rows)


def _rows(servers: Servers, events: int, repetitions: int, suffix: str) -> list[Row]:
    size = SIZES[suffix]
    side_by_side = min(size.batch * size.groups, 8)
    hops, floors = [], []
    parts: list[tuple[Cost, Cost]] = []
    for _ in range(repetitions):
        published = uvloop.run(publish(servers, events, side_by_side))
        committed = uvloop.run(commit(servers, events, side_by_side))
        hops.append(uvloop.run(hop(servers, events, size)))
        floors.append(published + committed)
        parts.append((published, committed))
    return [
        Row(
            name=f"hop, {suffix}",
            value=median([each.wall_s for each in hops]) * 1e3,
            unit="ms",
            spread=spread([each.wall_s * 1e3 for each in hops]),
            floor=median([each.wall_s for each in floors]) * 1e3,
            ratio=median([f.wall_s / h.wall_s for f, h in zip(floors, hops, strict=True)]),
            aim=Aim(sense=">=", limit=0.6, of="ratio"),
            note="ratio: floor over hop; floor: publish and commit; wall time for an event",
        ),
        Row(
            name=f"CPU of the consuming process, {suffix}",
            value=median([each.cpu_s for each in hops]) * 1e6,
            unit="us",
            spread=spread([each.cpu_s * 1e6 for each in hops]),
            floor=median([each.cpu_s for each in floors]) * 1e6,
            ratio=median([f.cpu_s / h.cpu_s for f, h in zip(floors, hops, strict=True)]),
            note="ratio: floor over hop; broker and database not counted",
        ),
        *(
            Row(name=f"{label}, {suffix}", value=median(walls) * 1e3, unit="ms")
            for label, walls in (
                ("floor: raw publish and ack", [each.wall_s for each, _ in parts]),
                ("floor: bare insert and commit", [each.wall_s for _, each in parts]),
            )
        ),
    ]


async def publish(servers: Servers, events: int, side_by_side: int) -> Cost:
    """Of an event: nats-py's own publish of the event a hop emits."""
    await servers.bus.reset()
    async with servers.bus.connect("query") as bus:
        jetstream: JetStreamContext = bus.jetstream

        ready = [_searchable(f"raw-{number}") for number in range(_with_warming(events))]

        async def one(number: int) -> None:
            event = ready[number]
            await jetstream.publish(event.subject, event.payload, headers=dict(event.headers))

        return await _timed(one, events, side_by_side)


async def commit(servers: Servers, events: int, side_by_side: int) -> Cost:
    """Of a row: one insert and its commit, each worker on a connection of its own."""
    servers.database.clear("query")
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
            await connection.execute(INSERT, [TENANT, uuid.UUID(int=number)])
            free.put_nowait(connection)

        return await _timed(one, events, side_by_side)


async def hop(servers: Servers, events: int, size: Size) -> Cost:
    """Of an event through the chassis' consumer, from one handler's start to the last's.

    Twice as many events as are handled at a time are handled before anything is counted.
    """
    in_hand = size.batch * size.groups
    warm = 2 * in_hand
    await servers.bus.reset()
    servers.database.clear("query")
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(servers.bus.connect("inference"))
        # Only what comes in groups comes in packs.
        embedded = [_embedded(number) for number in range(events + warm)]
        await source.publish_all(embedded, packed=size.batch > 1)
        bus = await stack.enter_async_context(servers.bus.connect("query"))
        database = await stack.enter_async_context(
            open_database(servers.database.dsn("query"), "query", 8)
        )
        begun: list[tuple[Cost, int]] = []
        handled, done = 0, asyncio.Event()
        work = await stack.enter_async_context(run_relay(database, bus))

        async def handler(batch: Batch[ChunksEmbedded]) -> None:
            nonlocal handled
            begun.append((_now(), handled))
            handled += len(batch)
            async with work.begin(batch.tenant, batch) as unit:
                for delivery in unit.fresh:
                    unit.emit(_searchable_message(), about=DOCUMENT, cause=delivery)
            if handled == events + warm:
                done.set()

        async with consume_events(bus, handler, batch=size.batch, groups=size.groups):
            async with asyncio.timeout(LIMIT_S):
                await done.wait()
    first = next(index for index, (_, before) in enumerate(begun) if before >= warm)
    (start, before), (end, after) = begun[first], begun[-1]
    return _each(start, end, after - before)


async def _timed(work: Callable[[int], Awaitable[None]], count: int, side_by_side: int) -> Cost:
    """Of each of `count` calls, by as many workers, after a tenth of them to warm up."""
    warm = _with_warming(count) - count

    async def phase(first: int, last: int) -> None:
        numbers = iter(range(first, last))

        async def worker() -> None:
            for number in numbers:
                await work(number)

        await asyncio.gather(*(worker() for _ in range(side_by_side)))

    await phase(0, warm)
    started = _now()
    await phase(warm, warm + count)
    return _each(started, _now(), count)


def _with_warming(count: int) -> int:
    return count + count // 10


def _now() -> Cost:
    return Cost(wall_s=time.perf_counter(), cpu_s=time.process_time())


def _each(first: Cost, last: Cost, count: int) -> Cost:
    return Cost(
        wall_s=(last.wall_s - first.wall_s) / count, cpu_s=(last.cpu_s - first.cpu_s) / count
    )


def _searchable(event_id: str) -> Outgoing:
    return encode_event(_searchable_message(), event_id=event_id, document=DOCUMENT)


def _searchable_message() -> VersionSearchable:
    return VersionSearchable(tenant=TENANT, document=DOCUMENT, version=1)


def _embedded(number: int) -> Outgoing:
    prepared = ChunksPrepared(tenant=TENANT, document=DOCUMENT, version=1)
    event = ChunksEmbedded(tenant=TENANT, prepared=prepared)
    return encode_event(event, event_id=str(uuid.UUID(int=number)), document=DOCUMENT)
