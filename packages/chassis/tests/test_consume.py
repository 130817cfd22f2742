"""Every delivery ends acknowledged, handed back or dead; every effect happens once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from aquifer.query.v1.passage_events_pb2 import VersionSearchable
from chassis.base.errors import InvalidInputError, ServiceError, UnavailableError
from chassis.base.postgres import Database, migrate, open_database
from chassis.events import consume
from chassis.events.bus import Bus
from chassis.events.consume import Consumer
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Delivery
from chassis.events.envelope import outgoing
from chassis.events.inbox import Inbox
from chassis.events.topology import ACK_WAIT_S, durable_of, stream_name
from testkit.servers import TestBus, TestDatabase

TENANT = "acme"


@pytest.fixture(scope="module")
def migrated(postgres: TestDatabase) -> TestDatabase:
    migrate(postgres.dsn("query_owner"), "query", ["chassis"])
    return postgres


@pytest.fixture
async def database(migrated: TestDatabase) -> AsyncIterator[Database]:
    migrated.truncate("query")
    async with open_database(migrated.dsn("query"), "query", 4) as database:
        yield database


def embedded(document: str = "collections/c/documents/d") -> ChunksEmbedded:
    prepared = ChunksPrepared(tenant=TENANT, document=document, version=1)
    return ChunksEmbedded(tenant=TENANT, prepared=prepared)


async def publish(bus: TestBus, event: ChunksEmbedded, event_id: str) -> None:
    async with bus.connect("inference") as own:
        await own.publish(outgoing(event, event_id=event_id), stream_name(ChunksEmbedded))


@asynccontextmanager
async def consuming(
    bus: Bus, handler, *, database: Database | None = None, on_dead=None, concurrency: int = 4
) -> AsyncIterator[Consumer[ChunksEmbedded]]:
    durable = durable_of(ChunksEmbedded, "query")
    consumer = Consumer(
        bus,
        durable,
        ChunksEmbedded,
        handler,
        DeadLetters(bus, "query"),
        inbox=Inbox(database, durable.name) if database else None,
        on_dead=on_dead,
        concurrency=concurrency,
    )
    task = asyncio.get_running_loop().create_task(consumer.run())
    try:
        yield consumer
    finally:
        await consumer.stop(2)
        task.cancel()
        await asyncio.wait([task])


# Any row will do.
EFFECT = "INSERT INTO outbox (tenant_id, subject, headers, payload) VALUES (%s, 'effect', '{}', '')"


async def settled(consumer: Consumer[ChunksEmbedded]) -> None:
    """Waits until the broker holds nothing for this consumer any more."""
    async with asyncio.timeout(20):
        while True:
            info = await consumer.puller.info()
            if not info.num_pending and not info.num_ack_pending:
                return
            await asyncio.sleep(0.02)


async def missing(consumer: Consumer[ChunksEmbedded], words: str) -> None:
    """Waits until the consumer has looked and says this of its durable."""
    async with asyncio.timeout(20):
        while words not in consumer.puller.missing:
            await asyncio.sleep(0.02)


async def test_a_handled_event_is_acknowledged_and_its_effect_published(bus, database):
    seen: list[str] = []

    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        async with delivery.once(document=event.prepared.document) as effect:
            seen.append(delivery.envelope.event_id)
            effect.emit(VersionSearchable(tenant=TENANT, document=event.prepared.document))

    await publish(bus, embedded(), "e1")
    async with bus.connect("query") as own, consuming(own, handler, database=database) as consumer:
        await settled(consumer)
    assert seen == ["e1"]
    async with bus.connect("provisioner") as admin:
        facts = await admin.jetstream.stream_info("FACTS_QUERY")
    assert facts.state.messages == 1


async def test_the_same_event_outside_the_brokers_window_has_one_effect(bus, database):
    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        async with delivery.once() as effect:
            await effect.tx.execute(EFFECT, [TENANT])
            effect.emit(VersionSearchable(tenant=TENANT, document="d"))

    async with bus.connect("inference") as inference:
        for copy in range(3):
            event = outgoing(embedded(), event_id="e1")
            # Another broker id each time: the inbox has to notice, not the broker.
            headers = {**event.headers, "Nats-Msg-Id": f"copy-{copy}"}
            await inference.jetstream.publish(event.subject, event.payload, headers=headers)
    async with bus.connect("query") as own, consuming(own, handler, database=database) as consumer:
        await settled(consumer)
    async with database.transaction(TENANT) as tx:
        effects = await (await tx.execute("SELECT count(*) AS n FROM outbox")).fetchone()
    assert effects == {"n": 1}
    async with bus.connect("provisioner") as admin:
        assert (await admin.jetstream.stream_info("FACTS_QUERY")).state.messages == 1


async def test_an_effect_that_fails_leaves_no_trace_and_is_tried_again(bus, database, monkeypatch):
    monkeypatch.setattr(consume, "BACKOFF_FIRST_S", 0.05)
    attempts: list[int] = []

    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        async with delivery.once() as effect:
            effect.emit(VersionSearchable(tenant=TENANT, document="d"))
            attempts.append(1)
            if len(attempts) < 3:
                raise RuntimeError("a bug that goes away")

    await publish(bus, embedded(), "e1")
    async with bus.connect("query") as own, consuming(own, handler, database=database) as consumer:
        await settled(consumer)
    assert len(attempts) == 3
    async with database.transaction(TENANT) as tx:
        rows = await (await tx.execute("SELECT count(*) AS n FROM inbox")).fetchone()
    assert rows == {"n": 1}


async def test_a_permanent_error_becomes_a_dead_letter_with_its_bytes(bus):
    told: list[str] = []

    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        raise InvalidInputError("VECTORS_SHAPE", "no")

    async def on_dead(event: ChunksEmbedded, delivery: Delivery, error: ServiceError) -> None:
        told.append(error.reason)

    await publish(bus, embedded("collections/c/documents/x"), "e9")
    async with bus.connect("query") as own:
        async with consuming(own, handler, on_dead=on_dead) as consumer:
            await settled(consumer)
        [letter] = await DeadLetters(own, "query").list(0, 10)
    assert told == ["VECTORS_SHAPE"]
    assert (letter.reason, letter.event_id, letter.tenant) == ("VECTORS_SHAPE", "e9", TENANT)
    assert letter.attempts == 1
    assert ChunksEmbedded.FromString(letter.payload).prepared.document.endswith("x")


@pytest.mark.parametrize(
    ("payload", "headers", "reason"),
    [
        (b"\xff\xff\xff", {}, "EVENT_UNDECODABLE"),
        (ChunksEmbedded(tenant="other").SerializeToString(), {}, "TENANT_MISMATCH"),
        (b"", {"ce-type": "aquifer.inference.v2.ChunksEmbedded"}, "SCHEMA_UNSUPPORTED"),
        (b"", {"ce-id": ""}, "EVENT_HEADER_MISSING"),
    ],
)
async def test_what_can_not_be_read_is_kept_with_a_reason(bus, payload, headers, reason):
    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        raise AssertionError("must not be called")

    event = outgoing(embedded(), event_id="e1")
    async with bus.connect("inference") as inference:
        await inference.jetstream.publish(
            event.subject, payload, headers={**event.headers, **headers}
        )
    async with bus.connect("query") as own:
        async with consuming(own, handler) as consumer:
            await settled(consumer)
        [letter] = await DeadLetters(own, "query").list(0, 10)
    assert letter.reason == reason
    assert letter.payload == payload


async def test_a_bug_is_tried_five_times_and_then_buried(bus, monkeypatch):
    monkeypatch.setattr(consume, "BACKOFF_FIRST_S", 0.02)
    attempts: list[int] = []

    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        raise RuntimeError("always")

    await publish(bus, embedded(), "e1")
    async with bus.connect("query") as own:
        async with consuming(own, handler) as consumer:
            await settled(consumer)
        [letter] = await DeadLetters(own, "query").list(0, 10)
    assert attempts == [1, 2, 3, 4, 5]
    assert letter.reason == "ATTEMPTS_EXHAUSTED"


async def test_an_absent_dependency_pauses_the_consumer_and_costs_no_attempt(bus, monkeypatch):
    monkeypatch.setattr(consume, "PAUSE_FIRST_S", 0.05)
    monkeypatch.setattr(consume, "PAUSE_LAST_S", 0.1)
    away, attempts = True, []

    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if away:
            raise UnavailableError("VECTORS_UNAVAILABLE", "away", retry_after_s=0)

    for number in range(20):
        await publish(bus, embedded(), f"e{number}")
    async with bus.connect("query") as own, consuming(own, handler, concurrency=2) as consumer:
        async with asyncio.timeout(30):
            while len(attempts) < 12:
                await asyncio.sleep(0.01)
        assert consumer.pause_reason == "VECTORS_UNAVAILABLE"
        info = await consumer.puller.info()
        assert info.num_ack_pending == 2, "it holds what it had and pulls no more"
        away = False
        await settled(consumer)
        assert consumer.pause_reason == ""
    assert set(attempts) == {1}, "nothing was delivered twice"


async def test_a_deleted_durable_is_noticed_and_never_made_again(bus):
    handled: list[str] = []

    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        handled.append(delivery.envelope.event_id)

    durable = durable_of(ChunksEmbedded, "query")
    async with bus.connect("provisioner") as admin:
        await admin.jetstream.delete_consumer(durable.stream, durable.name)
        async with bus.connect("query") as own, consuming(own, handler) as consumer:
            await missing(consumer, "not found")
            await asyncio.sleep(1.5)  # it looks again in between
            names = [c.name for c in await admin.jetstream.consumers_info(durable.stream)]
            assert names == []
            await publish(bus, embedded(), "e1")
            await bus.provision()
            async with asyncio.timeout(30):
                while handled != ["e1"]:
                    await asyncio.sleep(0.05)
            assert consumer.puller.missing == ""


async def test_a_durable_that_differs_from_the_contract_is_refused(bus):
    handled: list[str] = []

    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        handled.append(delivery.envelope.event_id)

    durable = durable_of(ChunksEmbedded, "query")
    async with bus.connect("provisioner") as admin:
        info = await admin.jetstream.consumer_info(durable.stream, durable.name)
        info.config.max_ack_pending = 7
        await admin.jetstream.add_consumer(durable.stream, info.config)
        await publish(bus, embedded(), "e1")
        async with bus.connect("query") as own, consuming(own, handler) as consumer:
            await missing(consumer, "max_ack_pending is 7")
        assert handled == []


async def test_stop_finishes_what_runs_and_hands_back_what_waits(bus):
    started, finished = asyncio.Event(), []

    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        if event.prepared.document == "slow":
            started.set()
            await asyncio.sleep(0.3)
            finished.append("slow")
        else:
            raise UnavailableError("AWAY", "away")

    await publish(bus, embedded("slow"), "e1")
    await publish(bus, embedded("waits"), "e2")
    async with bus.connect("query") as own:
        async with consuming(own, handler, concurrency=2) as consumer:
            await started.wait()
        assert finished == ["slow"]
        async with asyncio.timeout(20):
            while (await consumer.puller.info()).num_ack_pending > 1:
                await asyncio.sleep(0.02)
    async with bus.connect("query") as own:
        async with consuming(own, lambda event, delivery: asyncio.sleep(0)) as consumer:
            async with asyncio.timeout(ACK_WAIT_S / 2):
                await settled(consumer)


async def test_a_restarted_broker_is_found_again(bus):
    handled: list[str] = []

    async def handler(event: ChunksEmbedded, delivery: Delivery) -> None:
        handled.append(delivery.envelope.event_id)

    async with bus.connect("query") as own, consuming(own, handler):
        await publish(bus, embedded(), "before")
        async with asyncio.timeout(30):
            while handled != ["before"]:
                await asyncio.sleep(0.02)
        await asyncio.to_thread(bus.server.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(bus.server.start)
        await publish(bus, embedded(), "after")
        async with asyncio.timeout(60):
            while "after" not in handled:
                await asyncio.sleep(0.05)
