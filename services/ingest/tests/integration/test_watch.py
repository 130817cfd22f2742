"""Hundreds of watchers over a real connection, a real broker and a real database."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import grpc
import psycopg
import pytest
from psycopg.rows import DictRow

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_events_pb2 import VersionAccepted
from aquifer.ingest.v1.document_pb2 import DocumentState
from aquifer.ingest.v1.ingest_service_pb2_grpc import (
    IngestServiceStub,
    add_IngestServiceServicer_to_server,
)
from aquifer.query.v1.passage_events_pb2 import VersionSearchable
from chassis.events.bus import Bus
from ingest.gateways import FactFeed
from ingest.usecases.documents.progress import ProgressEstimates
from ingest.usecases.documents.read_documents import WatchDocument, WatchDocuments
from ingest.usecases.documents.read_newest import ReadNewest
from ingest.usecases.documents.watchers import Watchers
from services.ingest.tests.conftest import NAME, TENANT, Rig
from testkit.servers import TestBus

from .doors import Tokens, guarded_server

WATCHERS = 300
MANY = 1_000
# A server takes 256 calls of one connection.
CONNECTIONS = 5
IDLE_S = 5.0
INDEXED = DocumentState.DOCUMENT_STATE_INDEXED


@dataclass
class Replica:
    """One process of ingest that serves watchers; the rig stands for another that does the work."""

    rig: Rig
    watchers: Watchers
    sibling: Bus
    stubs: list[Any]
    tokens: Tokens

    def watch(self, name: str, number: int = 0) -> Any:
        return self.stubs[number % CONNECTIONS].WatchDocument(
            pb.WatchDocumentRequest(name=name), metadata=self.tokens.metadata(), timeout=60
        )

    async def index(self, name: str) -> None:
        """The other replica gets a document indexed, and publishes the change."""
        await self.rig.prepare(name=name)
        await self.sibling.publish_all(await self.rig.searchable(name=name))


@pytest.fixture
async def replica(rig: Rig, bus: TestBus) -> AsyncIterator[Replica]:
    async with AsyncExitStack() as stack:
        own, sibling = [await stack.enter_async_context(bus.connect("ingest")) for _ in range(2)]
        estimates = ProgressEstimates(sweeper=rig.sweeper)
        watchers = Watchers(
            begin=rig.begin, feed=FactFeed(own), estimates=estimates, limit=2 * MANY
        )
        own.on_reconnected.append(watchers.notice_all)
        rpc = replace(
            rig.wired.rpc,
            watch=WatchDocument(
                read=ReadNewest(begin=rig.begin), watchers=watchers, estimates=estimates
            ),
            watch_many=WatchDocuments(watchers=watchers, estimates=estimates),
        )
        tokens = Tokens()
        server = await guarded_server(tokens)
        add_IngestServiceServicer_to_server(rpc, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        options = [("grpc.use_local_subchannel_pool", 1)]
        stubs = [
            IngestServiceStub(
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
                )
            )
            for _ in range(CONNECTIONS)
        ]
        serving = asyncio.create_task(watchers.run())
        stack.callback(serving.cancel)
        yield Replica(rig, watchers, sibling, stubs, tokens)


def transactions(rows: psycopg.Connection[DictRow]) -> int:
    row = rows.execute(
        "SELECT xact_commit + xact_rollback AS n FROM pg_stat_database"
        " WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row["n"])


@pytest.fixture
def no_autovacuum(rig: Rig) -> Iterator[None]:
    """PostgreSQL counts the transactions of its own vacuum among those of the services."""
    rig.rows.execute("ALTER SYSTEM SET autovacuum = off")
    rig.rows.execute("SELECT pg_reload_conf()")
    yield
    rig.rows.execute("ALTER SYSTEM RESET autovacuum")
    rig.rows.execute("SELECT pg_reload_conf()")


@pytest.mark.usefixtures("no_autovacuum")
async def test_idle_watchers_cost_no_queries_and_see_a_change_at_once(replica: Replica):
    names = [f"collections/c/documents/{number}" for number in range(WATCHERS // 2)]
    for name in names:
        await replica.rig.upload(name=name)
    # Each of the first half watches a document of its own, all others the same one.
    watched = names + [names[0]] * (WATCHERS - len(names))
    calls = [replica.watch(name, number) for number, name in enumerate(watched)]
    first = await asyncio.gather(*(call.read() for call in calls))
    assert all(reply.document.state != INDEXED for reply in first)
    # The database counts with a delay: what this connection did before may be up to 10 s late.
    replica.rig.rows.execute("SELECT pg_stat_force_next_flush()")
    await asyncio.sleep(2.5)
    before = transactions(replica.rig.rows)
    await asyncio.sleep(IDLE_S)
    # The relays of two replicas look at their outbox once a second each.
    assert transactions(replica.rig.rows) - before < 25

    async def indexed_at(call: Any) -> float:
        while (await call.read()).document.state != INDEXED:
            pass
        return time.monotonic()

    arrivals = [asyncio.ensure_future(indexed_at(call)) for call in calls]
    await replica.index(names[0])
    changed_at = time.monotonic()
    shared = [arrivals[0], *arrivals[len(names) :]]
    assert max(await asyncio.gather(*shared)) - changed_at < 1.0
    for number, name in enumerate(names[1:20], 1):
        await replica.index(name)
        changed_at = time.monotonic()
        assert await arrivals[number] - changed_at < 1.0
    for arrival, call in zip(arrivals, calls, strict=True):
        arrival.cancel()
        call.cancel()


async def test_a_thousand_watchers_leave_the_database_to_the_other_calls(replica: Replica):
    """On the pool of an ordinary service; each watches a document of its own."""
    rig, batch = replica.rig, 100
    names = [f"collections/c/documents/{number}" for number in range(MANY)]
    for start in range(0, MANY, batch):
        await asyncio.gather(*(rig.upload(name=name) for name in names[start : start + batch]))
    rig.rows.execute("SELECT pg_stat_force_next_flush()")
    await asyncio.sleep(2.5)
    before = transactions(rig.rows)
    calls = [replica.watch(name, number) for number, name in enumerate(names)]
    opening = asyncio.gather(*(call.read() for call in calls))
    took: list[float] = []

    async def read_another() -> None:
        began = time.monotonic()
        request = pb.GetDocumentRequest(name=names[len(took) % MANY])
        metadata = replica.tokens.metadata()
        await replica.stubs[-1].GetDocument(request, metadata=metadata, timeout=5)
        took.append(time.monotonic() - began)

    while not opening.done():
        await read_another()
    assert all(reply.document.state != INDEXED for reply in await opening)
    rig.rows.execute("SELECT pg_stat_force_next_flush()")
    await asyncio.sleep(2.5)
    assert transactions(rig.rows) - before - len(took) < MANY / 4

    async def indexed(call: Any) -> None:
        while (await call.read()).document.state != INDEXED:
            pass

    arrivals = asyncio.gather(*map(indexed, calls))
    for start in range(0, MANY, batch):
        some = names[start : start + batch]
        await rig.deliver(*(VersionAccepted(tenant=TENANT, document=n, version=1) for n in some))
        sent = await rig.deliver(
            *(VersionSearchable(tenant=TENANT, document=n, version=1) for n in some)
        )
        await replica.sibling.publish_all(sent)
        await read_another()
    async with asyncio.timeout(30):
        while not arrivals.done():
            await read_another()
    await arrivals


async def test_what_is_uploaded_after_the_subscription_is_not_missed(replica: Replica):
    request = pb.WatchDocumentsRequest(collection="reports")
    call = replica.stubs[0].WatchDocuments(request, metadata=replica.tokens.metadata(), timeout=60)
    assert (await call.read()).WhichOneof("update") == "subscribed"
    await replica.rig.upload()
    await replica.index(NAME)
    async with asyncio.timeout(10):
        while (update := await call.read()).document.state != INDEXED:
            assert update.document.name == NAME
    call.cancel()


async def test_a_broker_that_was_away_is_followed_again(replica: Replica, bus: TestBus):
    await replica.rig.upload()
    call = replica.watch(NAME)
    await call.read()
    await bus.reset()
    async with asyncio.timeout(30):
        while not replica.sibling.is_connected:
            await asyncio.sleep(0.05)
        await replica.index(NAME)
        while (await call.read()).document.state != INDEXED:
            pass
    call.cancel()
