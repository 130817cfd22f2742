"""The event flow by itself, with the null embedder: one document, many, and none."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
import psycopg
from nats.aio.msg import Msg
from psycopg.conninfo import make_conninfo

from aquifer.ingest.v1.document_events_pb2 import DocumentIndexed
from aquifer.ingest.v1.ingest_service_pb2 import UploadDocumentRequest, UploadHeader
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer_cli.client import Client, open_client
from aquifer_cli.concurrency import run_concurrently
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.upload import send
from tests.bench import processes
from tests.bench.ceiling import SETTINGS
from tests.bench.corpus import Corpus
from tests.bench.figures import Aim, Figure, Row, median, spread
from tests.bench.running_stack import RunningStack, make_folder, run_stack
from tests.bench.upload import items_of

NAME = "flow"
TITLE = "the event flow by itself: null embedder, everything else as it is"
CALLS = 16
ALONE = 20
IDLE_S = 20.0
LIMIT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the servers have done so far."""

    transactions: int
    wal_syncs: int
    messages: int

    def since(self, before: "Counts", documents: int) -> "Mapping[str, float]":
        """Of each document."""
        return {
            "transactions": (self.transactions - before.transactions) / documents,
            "WAL syncs": (self.wal_syncs - before.wal_syncs) / documents,
            "messages NATS stored, each synced": (self.messages - before.messages) / documents,
        }


def measure(corpus: Corpus) -> Figure:
    """One stack; each kind of upload has its own documents."""
    with make_folder() as folder, run_stack(folder, SETTINGS) as running:
        rows = asyncio.run(_measure(running, corpus, Path(folder)))
    return Figure(name=NAME, title=TITLE, rows=rows)


async def _measure(running: RunningStack, corpus: Corpus, folder: Path) -> list[Row]:
    async with open_client(running.endpoints) as client:
        rows = [await _alone(client, corpus)]
        rows += await _counted(running, client, corpus, folder)
        rows += [await _calls(running, client, corpus), await _events(running, corpus)]
        rows += [_inbox(running), await _idle(running)]
    return rows


async def _alone(client: Client, corpus: Corpus) -> Row:
    """One document at a time: from the call to searchable."""
    took = []
    for number in range(-3, ALONE):
        [item] = items_of(corpus.lines[:1], f"alone-{number}")
        started = time.perf_counter()
        await send(client, [item], wait=True, on_done=lambda _: None)
        if number >= 0:
            took.append((time.perf_counter() - started) * 1e3)
    return Row(
        name="one document alone, sent to searchable",
        value=median(took),
        unit="ms",
        spread=spread(took),
        aim=Aim(sense="<=", limit=80),
        note=f"{ALONE} documents, as `aquifer import --wait` does; median",
    )


async def _counted(
    running: RunningStack, client: Client, corpus: Corpus, folder: Path
) -> list[Row]:
    """An import, and what the servers did meanwhile."""
    items = items_of(corpus.lines, "counted")
    before = await _count(running)
    await send(client, items, wait=True, on_done=lambda _: None)
    await asyncio.sleep(1.0)
    after = await _count(running)
    aims = {
        "messages NATS stored, each synced": Aim(sense="<=", limit=2.5),
        "WAL syncs": Aim(sense="<=", limit=0.3),
        "transactions": Aim(sense="<=", limit=2),
    }
    return [
        Row(name=f"{name}, import", value=value, unit="1/document", aim=aims[name])
        for name, value in after.since(before, len(items)).items()
    ]


async def _count(running: RunningStack) -> Counts:
    dsn = make_conninfo(running.stack.postgres.superuser_dsn, dbname="aquifer")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT xact_commit, (SELECT wal_sync FROM pg_stat_wal) FROM pg_stat_database"
            " WHERE datname = 'aquifer'"
        ).fetchone()
    assert row is not None
    jsz = running.stack.nats.monitoring("/jsz?streams=true")
    streams = [stream for account in jsz["account_details"] for stream in account["stream_detail"]]
    messages = sum(stream["state"]["last_seq"] for stream in streams)
    return Counts(transactions=row[0], wal_syncs=row[1], messages=messages)


async def _calls(running: RunningStack, client: Client, corpus: Corpus) -> Row:
    """One UploadDocument call for each document."""
    items = items_of(corpus.lines, "calls")
    credentials = await client.credentials()

    async def upload(number: int) -> None:
        content = items[number].open().read()

        async def parts() -> AsyncIterator[UploadDocumentRequest]:
            header = UploadHeader()
            header.CopyFrom(items[number].header)
            header.size_bytes = len(content)
            yield UploadDocumentRequest(header=header)
            yield UploadDocumentRequest(content=content)

        await client.ingest.UploadDocument(parts(), metadata=credentials, timeout=60)

    async with _indexed(running.endpoints, len(items)) as done:
        started = time.perf_counter()
        await run_concurrently(upload, range(len(items)), CALLS)
        await done.wait()
        wall_s = time.perf_counter() - started
    return Row(
        name="documents a second, one call each",
        value=len(items) / wall_s,
        unit="1/s",
        aim=Aim(sense=">=", limit=170),
        note=f"{CALLS} calls at a time",
    )


async def _events(running: RunningStack, corpus: Corpus) -> Row:
    """One upload event for each document."""
    items = items_of(corpus.lines, "events")
    known = running.endpoints
    async with _indexed(known, len(items)) as done:
        connection = await nats.connect(
            known.nats["url"], user=known.nats["user"], password=known.nats["password"]
        )
        started = time.perf_counter()
        for item in items:
            event = DocumentUploaded(
                tenant=known.tenant,
                document=item.header.document,
                file_name=item.header.file_name,
                media_type=item.header.media_type,
                content=item.open().read(),
            )
            headers = {
                "ce-specversion": "1.0",
                "ce-id": str(uuid.uuid4()),
                "ce-source": "/bench",
                "ce-type": DocumentUploaded.DESCRIPTOR.full_name,
                "Content-Type": "application/protobuf",
            }
            subject = f"{DocumentUploaded.DESCRIPTOR.full_name}.{known.tenant}"
            await connection.publish(subject, event.SerializeToString(), headers=headers)
        await connection.flush(timeout=60)
        await done.wait()
        wall_s = time.perf_counter() - started
        await connection.close()
    return Row(
        name="documents a second, upload events",
        value=len(items) / wall_s,
        unit="1/s",
        aim=Aim(sense=">=", limit=400),
    )


@asynccontextmanager
async def _indexed(known: Endpoints, count: int) -> AsyncIterator[asyncio.Event]:
    """Set once so many documents of the tenant have become searchable."""
    done, seen = asyncio.Event(), 0
    connection = await nats.connect(
        known.nats["url"], user=known.nats["user"], password=known.nats["password"]
    )

    async def on_indexed(_: Msg) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()

    await connection.subscribe(
        f"{DocumentIndexed.DESCRIPTOR.full_name}.{known.tenant}", cb=on_indexed
    )
    await connection.flush()
    try:
        async with asyncio.timeout(LIMIT_S):
            yield done
    finally:
        await connection.close()


def _inbox(running: RunningStack) -> Row:
    """The size of the inbox tables and their indexes, for each document."""
    dsn = make_conninfo(running.stack.postgres.superuser_dsn, dbname="aquifer")
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT pg_total_relation_size('ingest.inbox') + pg_total_relation_size('query.inbox'),"
            " (SELECT count(*) FROM ingest.versions)"
        ).fetchone()
    assert row is not None
    return Row(
        name="inbox kept",
        value=row[0] / row[1],
        unit="B/document",
        aim=Aim(sense="<=", limit=500),
        note="both services, indexes included",
    )


async def _idle(running: RunningStack) -> Row:
    """All parts, with nothing to do."""
    await asyncio.sleep(3.0)
    pids = processes.of(running.stack)
    before = processes.cpu_by_part(pids)
    await asyncio.sleep(IDLE_S)
    after = processes.cpu_by_part(pids)
    used = {name: after[name] - before[name] for name in pids if name != processes.CLIENT}
    busiest = sorted(used, key=lambda name: used[name])[-3:]
    most = ", ".join(f"{name} {used[name] / IDLE_S:.2%}" for name in busiest)
    return Row(
        name="idle: processor time of all parts",
        value=sum(used.values()) / IDLE_S * 100,
        unit="% of a core",
        aim=Aim(sense="<=", limit=2),
        note=f"{IDLE_S:.0f} s; most: {most}",
    )
