"""What a transaction stores is published once, by whoever finds it, in turn, in its own trace."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from nats.js.errors import NotFoundError
from opentelemetry.sdk.trace import TracerProvider

from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from aquifer.query.v1.passage_events_pb2 import AnswerProduced
from chassis.base import telemetry
from chassis.base.errors import InvalidInputError
from chassis.base.postgres import Database, migrate, open_database
from chassis.events import outbox as publishing
from chassis.events.bus import Bus
from chassis.events.outbox import Outbox
from chassis.events.pack import unpack
from chassis.events.work import Transactions
from testkit.consuming import run_relay
from testkit.servers import TestBus, TestDatabase

TENANT = "acme"


@pytest.fixture(scope="module")
def dsns(postgres: TestDatabase) -> dict[str, str]:
    for service in ("query", "ingest"):
        migrate(postgres.dsn(f"{service}_owner"), service, ["chassis"])
    return {service: postgres.dsn(service) for service in ("query", "ingest")}


@asynccontextmanager
async def open_outbox(
    bus: TestBus, postgres: TestDatabase, dsns: dict[str, str], service: str = "query"
) -> AsyncIterator[tuple[Database, Bus]]:
    postgres.clear(service)
    async with open_database(dsns[service], service, 4) as database, bus.connect(service) as own:
        yield database, own


async def count(bus: TestBus, stream: str) -> int:
    """Events in a stream, those in packs among them."""
    async with bus.connect("provisioner") as admin:
        state = (await admin.jetstream.stream_info(stream)).state
        found = 0
        for sequence in range(max(1, state.first_seq), state.last_seq + 1):
            with suppress(NotFoundError):
                found += len(unpack(await admin.jetstream.get_msg(stream, seq=sequence)))
        return found


async def subjects(bus: TestBus, stream: str, first: int) -> list[str]:
    """The subjects of the first messages of a stream."""
    async with bus.connect("provisioner") as admin:
        start = (await admin.jetstream.stream_info(stream)).state.first_seq
        messages = [
            await admin.jetstream.get_msg(stream, seq=start + offset) for offset in range(first)
        ]
    return [message.subject or "" for message in messages]


async def rows(database: Database) -> int:
    async with database.sweep() as tx:
        row = await (await tx.execute("SELECT count(*) AS n FROM outbox")).fetchone()
    return row["n"]


async def wait_until_empty(database: Database) -> None:
    async with asyncio.timeout(60):
        while await rows(database):
            await asyncio.sleep(0.02)


async def answer(work: Transactions, number: int, tenant: str = TENANT) -> None:
    async with work.begin(tenant) as unit:
        unit.emit(AnswerProduced(tenant=tenant, answer_id=str(number)), key=("answer", number))


async def prepare(
    work: Transactions,
    tenant: str,
    document: str,
    batches: int = 1,
    *,
    interactive: bool = False,
) -> None:
    async with work.begin(tenant) as unit:
        for batch in range(batches):
            event = ChunksPrepared(tenant=tenant, document=document, batch=batch)
            unit.emit(event, about=document, key=(tenant, document, batch), interactive=interactive)


async def test_events_leave_right_after_their_transaction(bus, postgres, dsns):
    async with (
        open_outbox(bus, postgres, dsns) as (database, own),
        run_relay(database, own) as work,
    ):
        for number in range(300):
            await answer(work, number)
        async with asyncio.timeout(10):
            while await count(bus, "FACTS_QUERY") < 300:
                await asyncio.sleep(0.02)
        await wait_until_empty(database)
    assert await count(bus, "FACTS_QUERY") == 300


async def test_two_relays_publish_what_a_dead_process_left_behind_once(
    bus, postgres, dsns, monkeypatch
):
    monkeypatch.setattr(publishing, "STALE_S", 0.1)
    async with open_outbox(bus, postgres, dsns) as (database, own):
        # No relay runs here: as if the process had died after each commit.
        dead = Transactions(database, Outbox(database, own, "query"))
        for number in range(300):
            await answer(dead, number)
        assert await rows(database) == 300
        async with run_relay(database, own), run_relay(database, own):
            await wait_until_empty(database)
    assert await count(bus, "FACTS_QUERY") == 300


async def test_an_event_of_a_transaction_that_fails_never_leaves(bus, postgres, dsns):
    async with (
        open_outbox(bus, postgres, dsns) as (database, own),
        run_relay(database, own) as work,
    ):
        with pytest.raises(RuntimeError):
            async with work.begin(TENANT) as unit:
                unit.emit(AnswerProduced(tenant=TENANT), key=("a1",))
                raise RuntimeError
        assert await rows(database) == 0
        await asyncio.sleep(0.1)
    assert await count(bus, "FACTS_QUERY") == 0


async def test_an_event_too_large_for_its_stream_fails_its_transaction(bus, postgres, dsns):
    async with (
        open_outbox(bus, postgres, dsns) as (database, own),
        run_relay(database, own) as work,
    ):
        with pytest.raises(InvalidInputError) as refused:
            async with work.begin(TENANT) as unit:
                unit.emit(AnswerProduced(tenant=TENANT, model="x" * (1 << 20)), key=("a1",))
        assert refused.value.reason == "EVENT_TOO_LARGE"
        assert await rows(database) == 0


async def test_an_event_without_key_and_cause_is_a_fault_of_ours(bus, postgres, dsns):
    async with (
        open_outbox(bus, postgres, dsns) as (database, own),
        run_relay(database, own) as work,
    ):
        with pytest.raises(TypeError):
            async with work.begin(TENANT) as unit:
                unit.emit(AnswerProduced(tenant=TENANT))


async def test_events_wait_while_the_broker_is_away(bus, postgres, dsns):
    async with (
        open_outbox(bus, postgres, dsns) as (database, own),
        run_relay(database, own) as work,
    ):
        await asyncio.to_thread(bus.server.kill)
        for number in range(3):
            await answer(work, number)
        await asyncio.sleep(0.5)
        assert await rows(database) == 3
        await asyncio.to_thread(bus.server.start)
        await wait_until_empty(database)
    assert await count(bus, "FACTS_QUERY") == 3


async def test_a_relay_outlives_a_database_that_goes_away(bus, postgres, dsns):
    async with (
        open_outbox(bus, postgres, dsns) as (database, own),
        run_relay(database, own) as work,
    ):
        await answer(work, 1)
        await asyncio.to_thread(postgres.server.kill)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(postgres.server.start)
        async with asyncio.timeout(60):
            while not await database.is_reachable():
                await asyncio.sleep(0.1)
        await answer(work, 2)
        await wait_until_empty(database)
    assert await count(bus, "FACTS_QUERY") == 2


async def test_only_some_work_lies_in_the_stream_and_tenants_take_turns(
    bus, postgres, dsns, monkeypatch
):
    monkeypatch.setattr(publishing, "RELEASED_MAX", 10)
    async with (
        open_outbox(bus, postgres, dsns, "ingest") as (database, own),
        run_relay(database, own, "ingest") as work,
    ):
        for number in range(60):
            await prepare(work, "acme", f"d{number}")
        await prepare(work, "globex", "late")
        await asyncio.sleep(0.5)
        assert await count(bus, "WORK_INGEST") == 10
        assert await rows(database) >= 51
        arrived = [message async for message in consume(bus, 61)]
        await wait_until_empty(database)
    assert Counter(tenant for tenant, _, _ in arrived) == {"acme": 60, "globex": 1}
    assert [tenant for tenant, _, _ in arrived].index("globex") <= 11
    mine = [document for tenant, document, _ in arrived if tenant == "acme"]
    assert mine == [f"d{number}" for number in range(60)]


async def test_tenants_take_turns_in_memory_too(bus, postgres, dsns):
    async with open_outbox(bus, postgres, dsns) as (database, own):
        outbox = Outbox(database, own, "query")
        work = Transactions(database, outbox)
        for number in range(200):
            await answer(work, number)
        await answer(work, 0, "globex")
        relay = asyncio.create_task(outbox.relay())
        await wait_until_empty(database)
        relay.cancel()
        await asyncio.wait([relay])
    # Those of one window travel side by side.
    first = await subjects(bus, "FACTS_QUERY", first=publishing.WINDOW)
    assert "aquifer.query.v1.AnswerProduced.globex" in first
    assert await count(bus, "FACTS_QUERY") == 201


async def test_a_short_document_overtakes_a_long_one_of_its_tenant(
    bus, postgres, dsns, monkeypatch
):
    monkeypatch.setattr(publishing, "RELEASED_MAX", 10)
    async with (
        open_outbox(bus, postgres, dsns, "ingest") as (database, own),
        run_relay(database, own, "ingest") as work,
    ):
        await prepare(work, "acme", "long", batches=200)
        await prepare(work, "acme", "short")
        arrived = [message async for message in consume(bus, 201)]
    documents = [document for _, document, _ in arrived]
    assert documents.index("short") < 40
    assert [batch for _, document, batch in arrived if document == "long"] == list(range(200))


async def test_tenants_share_the_release_in_proportion_to_their_weights(
    bus, postgres, dsns, monkeypatch
):
    """One place in the stream: then every release takes one event, and nothing evens out."""
    monkeypatch.setattr(publishing, "RELEASED_MAX", 1)
    weights = {"acme": 3.0}
    async with (
        open_outbox(bus, postgres, dsns, "ingest") as (database, own),
        run_relay(database, own, "ingest", weights) as work,
    ):
        for tenant in ("acme", "globex", "initech"):
            for number in range(30):
                await prepare(work, tenant, f"d{number}")
        arrived = [tenant async for tenant, _, _ in consume(bus, 90)]
        await wait_until_empty(database)
    first = Counter(arrived[1:41])
    assert abs(first["acme"] - 24) <= 2
    assert abs(first["globex"] - 8) <= 2
    assert abs(first["initech"] - 8) <= 2


async def test_a_new_tenant_waits_for_no_older_events_of_many_others(
    bus, postgres, dsns, monkeypatch
):
    monkeypatch.setattr(publishing, "RELEASED_MAX", 1)
    async with (
        open_outbox(bus, postgres, dsns, "ingest") as (database, own),
        run_relay(database, own, "ingest") as work,
    ):
        for number in range(20):
            for tenant in ("acme", "globex", "initech"):
                await prepare(work, tenant, f"d{number}")
        taken = consume(bus, 61)
        for _ in range(10):
            await anext(taken)
        await prepare(work, "newcomer", "late")
        after = [tenant async for tenant, _, _ in taken]
        await wait_until_empty(database)
    # The one in the stream, then a turn of each other tenant.
    assert after.index("newcomer") <= 5


async def test_an_interactive_event_goes_ahead_of_its_own_tenants_others(
    bus, postgres, dsns, monkeypatch
):
    monkeypatch.setattr(publishing, "RELEASED_MAX", 10)
    async with (
        open_outbox(bus, postgres, dsns, "ingest") as (database, own),
        run_relay(database, own, "ingest") as work,
    ):
        for number in range(60):
            await prepare(work, "acme", f"d{number}")
        await prepare(work, "acme", "single", interactive=True)
        # It has a place in the stream although the others take all of theirs; one of them follows.
        await asyncio.sleep(0.5)
        assert await count(bus, "WORK_INGEST") == 12
        arrived = [document async for _, document, _ in consume(bus, 61)]
        await wait_until_empty(database)
    assert arrived.index("single") <= 11
    assert len(arrived) == 61


async def test_interactive_events_take_turns_and_stop_no_others(bus, postgres, dsns, monkeypatch):
    monkeypatch.setattr(publishing, "RELEASED_MAX", 2)
    monkeypatch.setattr(publishing, "INTERACTIVE_MORE", 2)
    async with (
        open_outbox(bus, postgres, dsns, "ingest") as (database, own),
        run_relay(database, own, "ingest") as work,
    ):
        for number in range(20):
            await prepare(work, "acme", f"bulk{number}")
        for number in range(40):
            await prepare(work, "acme", f"single{number}", interactive=True)
        await prepare(work, "globex", "single", interactive=True)
        arrived = [one async for one in consume(bus, 61)]
        await wait_until_empty(database)
    order = [(tenant, document) for tenant, document, _ in arrived]
    assert order.index(("globex", "single")) <= 8
    # Bulk events leave while interactive ones still wait, but fewer of them.
    singles = [at for at, (_, document) in enumerate(order) if document.startswith("single")]
    bulk_before = sum(document.startswith("bulk") for _, document in order[: singles[-1]])
    assert bulk_before >= 3
    assert sum(document.startswith("bulk") for _, document in order[: singles[20]]) <= 20


async def consume(bus: TestBus, many: int) -> AsyncIterator[tuple[str, str, int]]:
    """Takes prepared chunks one by one, as a slow consumer does."""
    durable = "inference-ChunksPrepared"
    async with bus.connect("inference") as own, asyncio.timeout(60):
        puller = await own.jetstream.pull_subscribe_bind(durable, "WORK_INGEST")
        while many > 0:
            [message] = await puller.fetch(1, timeout=20)
            events = [ChunksPrepared.FromString(one.payload) for one in unpack(message)]
            await message.ack_sync()
            many -= len(events)
            for event in events:
                yield event.tenant, event.document, event.batch


async def test_a_row_is_invisible_to_another_tenant(bus, postgres, dsns):
    async with open_outbox(bus, postgres, dsns) as (database, _):
        async with database.transaction(TENANT) as tx:
            await tx.execute(
                "INSERT INTO inbox (tenant_id, key) VALUES (%s, gen_random_uuid())", [TENANT]
            )
        async with database.transaction("other") as tx:
            assert await (await tx.execute("SELECT * FROM inbox")).fetchall() == []
        async with database.sweep() as tx:
            assert len(await (await tx.execute("SELECT * FROM inbox")).fetchall()) == 1


async def test_the_event_carries_the_trace_of_its_transaction(bus, postgres, dsns):
    tracer = TracerProvider().get_tracer("test")
    async with (
        open_outbox(bus, postgres, dsns) as (database, own),
        run_relay(database, own) as work,
    ):
        with tracer.start_as_current_span("upload") as span:
            await answer(work, 1)
        await wait_until_empty(database)
    async with bus.connect("provisioner") as admin:
        message = await admin.jetstream.get_msg("FACTS_QUERY", seq=1)
    parent = telemetry.extract(message.headers)
    [remote] = parent.values()
    assert remote.get_span_context().trace_id == span.get_span_context().trace_id
