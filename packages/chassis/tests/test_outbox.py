"""What a transaction stores is published once, whoever relays it, in the trace it came about in."""

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider

from aquifer.query.v1.passage_events_pb2 import AnswerProduced
from chassis.base import telemetry
from chassis.base.postgres import migrate, open_database
from chassis.events.outbox import Outbox

TENANT = "acme"


@pytest.fixture(scope="module")
def dsn(postgres):
    migrate(postgres.dsn("query_owner"), "query", ["chassis"])
    return postgres.dsn("query")


async def stored(bus, name: str) -> int:
    async with bus.connect("provisioner") as admin:
        return (await admin.jetstream.stream_info(name)).state.messages


async def empty(database) -> bool:
    async with database.sweep() as tx:
        row = await (await tx.execute("SELECT count(*) AS n FROM outbox")).fetchone()
    return row["n"] == 0


async def test_two_relays_publish_every_event_once(bus, postgres, dsn):
    postgres.truncate("query")
    async with open_database(dsn, "query", 4) as database, bus.connect("query") as own:
        outbox = Outbox(database, own)
        for number in range(300):
            async with database.transaction(TENANT) as tx:
                event = AnswerProduced(tenant=TENANT, answer_id=str(number))
                await outbox.add(tx, event, event_id=f"a{number}")
        relays = [asyncio.ensure_future(Outbox(database, own).relay()) for _ in range(2)]
        async with asyncio.timeout(60):
            while not await empty(database):
                await asyncio.sleep(0.05)
        for relay in relays:
            relay.cancel()
        await asyncio.wait(relays)
    assert await stored(bus, "FACTS_QUERY") == 300


async def test_an_event_of_a_transaction_that_fails_never_leaves(bus, postgres, dsn):
    postgres.truncate("query")
    async with open_database(dsn, "query", 2) as database, bus.connect("query") as own:
        outbox = Outbox(database, own)
        with pytest.raises(RuntimeError):
            async with database.transaction(TENANT) as tx:
                await outbox.add(tx, AnswerProduced(tenant=TENANT), event_id="a1")
                raise RuntimeError
        assert await empty(database)
    assert await stored(bus, "FACTS_QUERY") == 0


async def test_events_wait_while_the_broker_is_away(bus, postgres, dsn):
    postgres.truncate("query")
    async with open_database(dsn, "query", 4) as database, bus.connect("query") as own:
        outbox = Outbox(database, own)
        relay = asyncio.ensure_future(outbox.relay())
        await asyncio.to_thread(bus.server.kill)
        async with database.transaction(TENANT) as tx:
            await outbox.add(tx, AnswerProduced(tenant=TENANT), event_id="a1")
        outbox.wake()
        await asyncio.sleep(0.5)
        assert not await empty(database)
        await asyncio.to_thread(bus.server.start)
        async with asyncio.timeout(60):
            while not await empty(database):
                await asyncio.sleep(0.05)
        relay.cancel()
        await asyncio.wait([relay])
    assert await stored(bus, "FACTS_QUERY") == 1


async def test_a_row_is_invisible_to_another_tenant(postgres, dsn):
    postgres.truncate("query")
    async with open_database(dsn, "query", 2) as database:
        async with database.transaction(TENANT) as tx:
            await tx.execute(
                "INSERT INTO inbox (tenant_id, consumer, event_id) VALUES (%s, 'c', 'e')", [TENANT]
            )
        async with database.transaction("other") as tx:
            assert await (await tx.execute("SELECT * FROM inbox")).fetchall() == []
        async with database.sweep() as tx:
            assert len(await (await tx.execute("SELECT * FROM inbox")).fetchall()) == 1


async def test_the_event_carries_the_trace_of_its_transaction(bus, postgres, dsn):
    postgres.truncate("query")
    tracer = TracerProvider().get_tracer("test")
    async with open_database(dsn, "query", 2) as database, bus.connect("query") as own:
        outbox = Outbox(database, own)
        with tracer.start_as_current_span("upload") as span:
            async with database.transaction(TENANT) as tx:
                await outbox.add(tx, AnswerProduced(tenant=TENANT), event_id="a1")
        relay = asyncio.ensure_future(outbox.relay())
        async with asyncio.timeout(60):
            while not await empty(database):
                await asyncio.sleep(0.02)
        relay.cancel()
        await asyncio.wait([relay])
    async with bus.connect("provisioner") as admin:
        message = await admin.jetstream.get_msg("FACTS_QUERY", seq=1)
    parent = telemetry.extract(message.headers)
    [remote] = parent.values()
    assert remote.get_span_context().trace_id == span.get_span_context().trace_id
