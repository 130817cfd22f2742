"""Every delivery ends acknowledged, returned or dead; every effect happens once.

These tests guard upgrades of FastStream and nats-py as well: they are what we rely on.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from faststream import Context

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from aquifer.query.v1.passage_events_pb2 import VersionSearchable
from chassis.base.errors import (
    ConflictError,
    InvalidInputError,
    ServiceError,
    UnavailableError,
)
from chassis.base.postgres import Database, migrate, open_database
from chassis.base.tenants import tenant_deleted_error
from chassis.events import bound, running_groups
from chassis.events import settlement as settling
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Batch
from chassis.events.envelope import encode_event
from chassis.events.topology import ACK_WAIT_S, durable_of
from testkit.consuming import consume_events, run_relay, wait_until_missing, wait_until_settled
from testkit.servers import TestBus, TestDatabase

TENANT = "acme"
# Any row will do.
EFFECT = (
    "INSERT INTO outbox (tenant_id, document, event, subject, headers, payload, place)"
    " VALUES (%s, %s, 'effect', 'effect', '{}', '', now())"
)


@pytest.fixture(scope="module")
def migrated(postgres: TestDatabase) -> TestDatabase:
    migrate(postgres.dsn("query_owner"), "query", ["chassis"])
    return postgres


@pytest.fixture
async def database(migrated: TestDatabase) -> AsyncIterator[Database]:
    migrated.clear("query")
    async with open_database(migrated.dsn("query"), "query", 4) as database:
        yield database


def embedded(document: str = "collections/c/documents/d", tenant: str = TENANT) -> ChunksEmbedded:
    prepared = ChunksPrepared(tenant=tenant, document=document, version=1)
    return ChunksEmbedded(tenant=tenant, prepared=prepared)


async def publish(bus: TestBus, *events: tuple[ChunksEmbedded, str], packed: bool = False) -> None:
    async with bus.connect("inference") as own:
        outgoings = [encode_event(event, event_id=name) for event, name in events]
        await own.publish_all(outgoings, packed=packed)


async def publish_many(
    bus: TestBus, count: int, tenant: str = TENANT, *, packed: bool = False
) -> None:
    events = ((embedded(f"d{n}", tenant), f"e{n}") for n in range(count))
    await publish(bus, *events, packed=packed)


async def effects(database: Database, tenant: str = TENANT) -> list[str]:
    """Documents an effect was noted for."""
    async with database.transaction(tenant) as tx:
        rows = await tx.execute("SELECT document FROM outbox WHERE event = 'effect' ORDER BY 1")
        return [row["document"] for row in await rows.fetchall()]


async def facts(bus: TestBus) -> int:
    async with bus.connect("provisioner") as admin:
        return (await admin.jetstream.stream_info("FACTS_QUERY")).state.messages


async def test_a_handled_event_is_acknowledged_and_its_effect_published(bus, database):
    seen: list[str] = []
    async with bus.connect("query") as own, run_relay(database, own) as work:

        async def handler(batch: Batch[ChunksEmbedded]) -> None:
            async with work.begin(batch.tenant, batch) as unit:
                for one in unit.fresh:
                    seen.append(one.envelope.event_id)
                    document = one.event.prepared.document
                    unit.emit(
                        VersionSearchable(tenant=TENANT, document=document),
                        about=document,
                        cause=one,
                    )

        await publish(bus, (embedded(), "e1"))
        async with consume_events(own, handler) as settlement:
            await wait_until_settled(bus, settlement)
            async with asyncio.timeout(10):
                while not await facts(bus):
                    await asyncio.sleep(0.02)
    assert seen == ["e1"]
    assert await facts(bus) == 1


@pytest.mark.parametrize("batch", [1, 16])
async def test_the_same_event_outside_the_brokers_window_has_one_effect(bus, database, batch):
    async with bus.connect("query") as own, run_relay(database, own) as work:

        async def handler(batch: Batch[ChunksEmbedded]) -> None:
            async with work.begin(batch.tenant, batch) as unit:
                for one in unit.fresh:
                    await unit.tx.execute(EFFECT, [TENANT, one.envelope.event_id])
                    unit.emit(VersionSearchable(tenant=TENANT, document="d"), cause=one)

        async with bus.connect("inference") as inference:
            for copy in range(3):
                event = encode_event(embedded(), event_id="e1")
                # Another broker id each time: the inbox has to notice, not the broker.
                headers = {**event.headers, "Nats-Msg-Id": f"copy-{copy}"}
                await inference.jetstream.publish(event.subject, event.payload, headers=headers)
        async with consume_events(own, handler, batch=batch) as settlement:
            await wait_until_settled(bus, settlement)
            async with asyncio.timeout(10):
                while not await facts(bus):
                    await asyncio.sleep(0.02)
    assert await effects(database) == ["e1"]
    assert await facts(bus) == 1


async def test_an_effect_that_fails_leaves_no_trace_and_is_tried_again(bus, database, monkeypatch):
    monkeypatch.setattr(settling, "BACKOFF_FIRST_S", 0.05)
    attempts: list[int] = []
    async with bus.connect("query") as own, run_relay(database, own) as work:

        async def handler(batch: Batch[ChunksEmbedded]) -> None:
            async with work.begin(batch.tenant, batch) as unit:
                [one] = unit.fresh
                await unit.tx.execute(EFFECT, [TENANT, "d"])
                attempts.append(one.attempt)
                if len(attempts) < 3:
                    raise RuntimeError("a bug that goes away")

        await publish(bus, (embedded(), "e1"))
        async with consume_events(own, handler) as settlement:
            await wait_until_settled(bus, settlement)
    assert len(attempts) == 3
    assert await effects(database) == ["d"]


@pytest.mark.parametrize("packed", [False, True])
async def test_events_that_wait_are_handled_together_in_their_order(bus, packed):
    batches: list[list[str]] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        batches.append([one.envelope.event_id for one in batch])
        assert [one.stored_ns for one in batch] == sorted(one.stored_ns for one in batch)
        await asyncio.sleep(0.05)

    await publish_many(bus, 100, packed=packed)
    async with bus.connect("query") as own, consume_events(own, handler, batch=32, groups=2) as one:
        await wait_until_settled(bus, one)
    assert sorted(name for batch in batches for name in batch) == sorted(
        f"e{n}" for n in range(100)
    )
    assert max(map(len, batches)) == 32
    assert len(batches) <= 6


@pytest.mark.parametrize("packed", [False, True])
async def test_one_bad_event_costs_its_neighbours_nothing(bus, database, packed):
    async with bus.connect("query") as own, run_relay(database, own) as work:

        async def handler(batch: Batch[ChunksEmbedded]) -> None:
            async with work.begin(batch.tenant, batch) as unit:
                for one in unit.fresh:
                    await unit.tx.execute(EFFECT, [TENANT, one.event.prepared.document])
                    if one.event.prepared.document == "d7":
                        raise InvalidInputError("VECTORS_SIZE", "no")

        await publish_many(bus, 20, packed=packed)
        async with consume_events(own, handler, batch=32) as settlement:
            await wait_until_settled(bus, settlement)
        [letter] = await DeadLetters(own, "query").list(0, 10)
    assert (letter.reason, letter.event_id, letter.attempts) == ("VECTORS_SIZE", "e7", 1)
    assert await effects(database) == sorted(f"d{n}" for n in range(20) if n != 7)


@pytest.mark.parametrize("packed", [False, True])
async def test_events_of_a_deleted_tenant_end_without_effect_or_dead_letter(bus, database, packed):
    await publish_many(bus, 3, packed=packed)
    await publish(bus, (embedded("d", "globex"), "other"), packed=packed)
    async with bus.connect("query") as own, run_relay(database, own) as work:
        async with database.transaction(TENANT) as tx:
            await tx.execute("INSERT INTO deleted_tenants (tenant_id) VALUES (%s)", [TENANT])

        async def handler(batch: Batch[ChunksEmbedded]) -> None:
            async with work.begin(batch.tenant, batch) as unit:
                for one in unit.fresh:
                    await unit.tx.execute(EFFECT, [batch.tenant, one.envelope.event_id])

        async with consume_events(own, handler, batch=16) as settlement:
            await wait_until_settled(bus, settlement)
        assert await DeadLetters(own, "query").count() == 0
    assert await effects(database) == []
    assert len(await effects(database, "globex")) == 1


async def test_an_event_that_fails_of_a_deleted_tenant_is_no_dead_letter(bus):
    await publish_many(bus, 1)

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        raise InvalidInputError("BROKEN", "no")

    async def on_dead(batch: Batch[ChunksEmbedded], error: ServiceError) -> None:
        raise tenant_deleted_error()

    async with bus.connect("query") as own:
        async with consume_events(own, handler, on_dead=on_dead) as settlement:
            await wait_until_settled(bus, settlement)
        assert await DeadLetters(own, "query").count() == 0


async def test_an_event_that_can_not_be_read_costs_its_neighbours_nothing(bus):
    handled: list[str] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        handled.extend(one.envelope.event_id for one in batch)

    await publish_many(bus, 5)
    async with bus.connect("inference") as inference:
        event = encode_event(embedded(), event_id="broken")
        await inference.jetstream.publish(event.subject, b"\xff\xff", headers=dict(event.headers))
    async with bus.connect("query") as own:
        async with consume_events(own, handler, batch=32) as settlement:
            await wait_until_settled(bus, settlement)
        [letter] = await DeadLetters(own, "query").list(0, 10)
    assert sorted(handled) == [f"e{n}" for n in range(5)]
    assert letter.reason == "EVENT_UNDECODABLE"


async def test_a_group_holds_events_of_one_tenant_and_tenants_go_side_by_side(bus):
    running, most, tenants = 0, 0, set()

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        nonlocal running, most
        assert {one.envelope.tenant for one in batch} == {batch.tenant}
        tenants.add(batch.tenant)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1)
        running -= 1

    for tenant in ("acme", "globex", "initech"):
        await publish_many(bus, 4, tenant)
    async with bus.connect("query") as own, consume_events(own, handler, batch=32, groups=1) as one:
        await wait_until_settled(bus, one)
    assert tenants == {"acme", "globex", "initech"}
    assert most == 3


async def test_what_was_delivered_often_is_tried_alone_and_last(bus, monkeypatch):
    monkeypatch.setattr(settling, "SUSPECT_DELIVERIES", 0)
    sizes: list[int] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        sizes.append(len(batch))

    await publish_many(bus, 6)
    async with bus.connect("query") as own, consume_events(own, handler, batch=32) as settlement:
        await wait_until_settled(bus, settlement)
    assert sizes == [1] * 6


async def test_an_event_delivered_too_often_is_buried_without_being_run(bus, monkeypatch):
    monkeypatch.setattr(settling, "CRASH_DELIVERIES", 1)

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        raise AssertionError("must not be called")

    await publish_many(bus, 2)
    async with bus.connect("query") as own:
        async with consume_events(own, handler, batch=8) as settlement:
            await wait_until_settled(bus, settlement)
        letters = await DeadLetters(own, "query").list(0, 10)
    assert [letter.reason for letter in letters] == ["CRASH_LOOP"] * 2


async def test_a_lone_event_waits_for_no_others(bus):
    took: list[float] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        took.append(time.monotonic())

    async with bus.connect("query") as own, consume_events(own, handler, batch=64) as settlement:
        await wait_until_settled(bus, settlement)
        for number in range(3):
            started = time.monotonic()
            await publish(bus, (embedded(), f"e{number}"))
            async with asyncio.timeout(10):
                while len(took) == number:
                    await asyncio.sleep(0.005)
            assert took[-1] - started < settling.ACK_WAIT_S / 4


async def test_two_events_that_meet_are_tried_again_soon(bus, monkeypatch):
    monkeypatch.setattr(settling, "CONFLICT_S", 0.01)
    attempts: list[int] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        attempts.append(batch[0].attempt)
        if len(attempts) < 8:
            raise ConflictError("DATABASE_CONFLICT", "two transactions met")

    await publish(bus, (embedded(), "e1"))
    async with bus.connect("query") as own, consume_events(own, handler) as settlement:
        await wait_until_settled(bus, settlement)
    assert attempts == [1, 2, 3, 4, 5, 6, 7, 8], "a conflict is blamed on nobody"


async def test_a_permanent_error_becomes_a_dead_letter_with_its_bytes(bus):
    reported: list[tuple[str, str]] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        raise InvalidInputError("VECTORS_SHAPE", "no")

    async def on_dead(
        batch: Batch[ChunksEmbedded], error: ServiceError, name: Annotated[str, Context()]
    ) -> None:
        reported.append((error.reason, name))

    await publish(bus, (embedded("collections/c/documents/x"), "e9"))
    async with bus.connect("query") as own:
        async with consume_events(own, handler, on_dead=on_dead, name="injected") as settlement:
            await wait_until_settled(bus, settlement)
        letters = DeadLetters(own, "query")
        [listed] = await letters.list(0, 10)
        letter = await letters.get(listed.dead_letter_id)
    assert reported == [("VECTORS_SHAPE", "injected")]
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
        (b"", {"ce-specversion": ""}, "EVENT_HEADER_MISSING"),
        (b"", {"ce-specversion": "0.3"}, "EVENT_SPEC_VERSION"),
        (b"", {"Content-Type": "application/json"}, "EVENT_CONTENT_TYPE"),
        (b"", {"Content-Type": "text/plain"}, "EVENT_CONTENT_TYPE"),
    ],
)
async def test_what_can_not_be_read_is_kept_with_a_reason(bus, payload, headers, reason):
    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        raise AssertionError("must not be called")

    event = encode_event(embedded(), event_id="e1")
    async with bus.connect("inference") as inference:
        await inference.jetstream.publish(
            event.subject, payload, headers={**event.headers, **headers}
        )
    async with bus.connect("query") as own:
        async with consume_events(own, handler) as settlement:
            await wait_until_settled(bus, settlement)
        letters = DeadLetters(own, "query")
        [listed] = await letters.list(0, 10)
        letter = await letters.get(listed.dead_letter_id)
    assert letter.reason == reason
    assert letter.payload == payload


async def test_a_bug_is_tried_five_times_and_then_buried(bus, monkeypatch):
    monkeypatch.setattr(settling, "BACKOFF_FIRST_S", 0.02)
    attempts: list[int] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        attempts.append(batch[0].attempt)
        raise RuntimeError("always")

    await publish(bus, (embedded(), "e1"))
    async with bus.connect("query") as own:
        async with consume_events(own, handler) as settlement:
            await wait_until_settled(bus, settlement)
        [letter] = await DeadLetters(own, "query").list(0, 10)
    # From the fourth delivery on it is tried alone, which it is anyway.
    assert attempts == [1, 2, 3, 4, 5]
    assert letter.reason == "ATTEMPTS_EXHAUSTED"


@pytest.mark.parametrize(("batch", "groups", "held"), [(1, 2, 2), (8, 2, 16)])
async def test_an_absent_dependency_pauses_the_durable_and_costs_no_attempt(
    bus, monkeypatch, batch, groups, held
):
    monkeypatch.setattr(settling, "PAUSE_FIRST_S", 0.05)
    monkeypatch.setattr(settling, "PAUSE_LAST_S", 0.1)
    away, attempts = True, []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        attempts.extend(one.attempt for one in batch)
        if away:
            raise UnavailableError("VECTORS_UNAVAILABLE", "away", retry_after_s=0)

    await publish_many(bus, 40)
    async with bus.connect("query") as own:
        async with consume_events(own, handler, batch=batch, groups=groups) as settlement:
            async with asyncio.timeout(30):
                while len(attempts) < 4 * held:
                    await asyncio.sleep(0.01)
            assert settlement.pause_reason == "VECTORS_UNAVAILABLE"
            info = await settlement.bound.info()
            assert info.num_ack_pending == held, "it holds what it had and pulls no more"
            away = False
            await wait_until_settled(bus, settlement)
            assert settlement.pause_reason == ""
    assert set(attempts) == {1}, "nothing was delivered twice"


async def test_a_deleted_durable_is_noticed_and_never_made_again(bus):
    handled: list[str] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        handled.extend(one.envelope.event_id for one in batch)

    durable = durable_of(ChunksEmbedded, "query")
    async with bus.connect("provisioner") as admin, bus.connect("query") as own:
        async with consume_events(own, handler) as settlement:
            await wait_until_settled(bus, settlement)
            await admin.jetstream.delete_consumer(durable.stream, durable.name)
            await wait_until_missing(settlement, "not found")
            before = own.client.stats["out_msgs"]
            await asyncio.sleep(1.5)
            # It looks again in between, but does not spin.
            assert 1 <= own.client.stats["out_msgs"] - before <= 8
            names = [c.name for c in await admin.jetstream.consumers_info(durable.stream)]
            assert names == []
            await publish(bus, (embedded(), "e1"))
            await bus.provision()
            async with asyncio.timeout(30):
                while handled != ["e1"]:
                    await asyncio.sleep(0.05)
            assert settlement.bound.missing == ""


async def test_a_durable_that_differs_from_the_contract_is_refused(bus):
    handled: list[str] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        handled.extend(one.envelope.event_id for one in batch)

    durable = durable_of(ChunksEmbedded, "query")
    async with bus.connect("provisioner") as admin:
        info = await admin.jetstream.consumer_info(durable.stream, durable.name)
        info.config.max_ack_pending = 7
        await admin.jetstream.add_consumer(durable.stream, info.config)
        await publish(bus, (embedded(), "e1"))
        async with bus.connect("query") as own, consume_events(own, handler) as settlement:
            await wait_until_missing(settlement, "max_ack_pending is 7")
        assert handled == []


async def test_stop_finishes_what_runs_and_hands_back_what_waits(bus):
    started, finished = asyncio.Event(), []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        if batch[0].event.prepared.document == "slow":
            started.set()
            await asyncio.sleep(0.3)
            finished.append("slow")
        else:
            raise UnavailableError("AWAY", "away")

    async def do_nothing(batch: Batch[ChunksEmbedded]) -> None:
        return

    await publish(bus, (embedded("slow"), "e1"), (embedded("waits"), "e2"))
    async with bus.connect("query") as own:
        async with consume_events(own, handler, groups=2):
            await started.wait()
        assert finished == ["slow"]
    async with bus.connect("query") as own, consume_events(own, do_nothing) as settlement:
        async with asyncio.timeout(ACK_WAIT_S / 2):
            await wait_until_settled(bus, settlement)


async def test_a_restarted_broker_is_found_again(bus):
    handled: list[str] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        handled.extend(one.envelope.event_id for one in batch)

    async with bus.connect("query") as own, consume_events(own, handler, batch=8):
        await publish(bus, (embedded(), "before"))
        async with asyncio.timeout(30):
            while handled != ["before"]:
                await asyncio.sleep(0.02)
        await asyncio.to_thread(bus.server.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(bus.server.start)
        await publish(bus, (embedded(), "after"))
        async with asyncio.timeout(60):
            while "after" not in handled:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("packed", [False, True])
async def test_memory_of_a_consumer_is_bounded_in_bytes(bus, monkeypatch, packed):
    """Hundreds of small events are in work together, but only as many large ones as fit."""
    monkeypatch.setattr(running_groups, "BYTES_MAX", 1 << 20)
    monkeypatch.setattr(bound, "PULL_MAX_BYTES", 256 << 10)
    size, free = 60 << 10, asyncio.Event()
    highest, handled = 0, 0

    async def hold(batch: Batch[ChunksEmbedded]) -> None:
        nonlocal handled
        await free.wait()
        handled += len(batch)

    events = []
    for number in range(100):
        event = embedded(f"d{number}")
        event.vectors = b"x" * size
        events.append((event, f"e{number}"))
    await publish(bus, *events, packed=packed)
    async with bus.connect("query") as own, consume_events(own, hold, groups=128) as settlement:
        async with asyncio.timeout(20):
            while settlement.running.size_bytes < running_groups.BYTES_MAX:
                await asyncio.sleep(0.02)
        for _ in range(20):
            highest = max(highest, settlement.running.size_bytes)
            await asyncio.sleep(0.02)
        free.set()
        await wait_until_settled(bus, settlement)
    assert handled == 100
    assert highest <= running_groups.BYTES_MAX + bound.PULL_MAX_BYTES
