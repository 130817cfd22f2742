"""The vector process itself: what it survives, what it refuses, and how it ends."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import urllib.request
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import TracerProvider

from aquifer.query.vectors.v1 import vector_service_pb2 as pb
from aquifer.query.vectors.v1.vector_service_pb2_grpc import VectorServiceStub
from chassis.base.errors import UnavailableError
from query.retrieval.lexical import SparseVector, encode_passage, encode_question
from query.retrieval.vector_store import Point, Probe, TenantScope
from query.vectors.engine_client import EngineVectors, open_channel
from stack.ports import free_ports

WIDTH = 8
NO_TERMS = SparseVector((), ())
ACME = TenantScope("acme")

pytestmark = pytest.mark.timeout(300)


class Engine:
    """A vector process in a folder, which outlives it."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "socket"
        self.data = folder / "data"
        self.log = folder / "log"
        self.process: subprocess.Popen | None = None

    def start(self, **settings: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, env=os.environ | settings
            )

    def command(self, *, socket: Path | None = None, data: Path | None = None) -> list[object]:
        where = ["--socket", socket or self.socket, "--data", data or self.data]
        return [sys.executable, "-m", "query.vectors", *where]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def end(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(60)

    def events(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    @asynccontextmanager
    async def store(self, profile: str = "p"):
        async with open_channel(f"unix:{self.socket}") as channel:
            async with asyncio.timeout(60):
                await channel.channel_ready()
            yield EngineVectors(channel, profile=profile, dimensions=WIDTH)


@pytest.fixture
def engine(tmp_path):
    one = Engine(tmp_path)
    one.start()
    yield one
    if one.process.poll() is None:
        one.kill()


def point(number: int) -> Point:
    row = np.random.default_rng(number).standard_normal(WIDTH).astype(np.float32)
    return Point(
        point_id=str(uuid.UUID(int=number)),
        document=f"collections/c/documents/d{number // 10}",
        version=1,
        ordinal=number % 10,
        dense=row / np.linalg.norm(row),
        sparse=encode_passage(f"word{number} pump"),
    )


async def numbers(store: EngineVectors) -> set[int]:
    found, start = set(), None
    while True:
        page = await store.scroll(ACME, start=start)
        found |= {uuid.UUID(entry.point_id).int for entry in page.entries}
        if (start := page.next_id) is None:
            return found


async def test_acknowledged_points_survive_a_kill(engine):
    async with engine.store() as store:
        first = await store.prepare()
        await store.upsert(ACME, [point(n) for n in range(1, 1001)])
        await store.delete_points(ACME, [point(7).point_id])
        engine.kill()
    assert engine.socket.is_socket()
    engine.start()
    async with engine.store() as store:
        assert (await store.info()).store_id == first.store_id
        assert await numbers(store) == set(range(1, 1001)) - {7}
        for probe, number in (
            (Probe(dense=point(5).dense, sparse=NO_TERMS), 5),
            (Probe(dense=None, sparse=encode_question("word9")), 9),
        ):
            found = await store.search(ACME, probe)
            assert found.point_ids[0] == point(number).point_id


async def test_kills_amid_writes_lose_nothing_acknowledged(engine):
    acknowledged: set[int] = set()

    async def write(store: EngineVectors, first: int) -> None:
        for number in range(first, first + 100_000):
            try:
                await store.upsert(ACME, [point(number)])
            except UnavailableError:
                return
            acknowledged.add(number)

    for round_ in range(1, 3):
        async with engine.store() as store, asyncio.TaskGroup() as writers:
            await store.prepare()
            for writer in range(8):
                writers.create_task(write(store, 1_000_000 * (10 * round_ + writer)))
            before = len(acknowledged)
            await asyncio.sleep(0.2 * round_)
            async with asyncio.timeout(60):
                while len(acknowledged) == before:
                    await asyncio.sleep(0.01)
            engine.kill()
        engine.start()
    async with engine.store() as store:
        assert acknowledged <= await numbers(store)


async def test_a_client_finds_the_process_again_after_a_restart(engine):
    async with engine.store() as store:
        await store.prepare()
        await store.upsert(ACME, [point(1)])
        engine.kill()
        engine.start()
        reasons, counted = set(), None
        async with asyncio.timeout(60):
            while counted is None:
                try:
                    counted = await store.count(ACME)
                except UnavailableError as error:
                    reasons.add(error.reason)
        assert counted == 1
        assert reasons <= {"VECTORS_UNAVAILABLE"}


async def test_without_the_process_calls_fail_soon_and_by_name(tmp_path):
    async with open_channel(f"unix:{tmp_path / 'nobody'}") as channel:
        store = EngineVectors(channel, profile="p", dimensions=WIDTH)
        async with asyncio.timeout(20):
            with pytest.raises(UnavailableError) as refused:
                await store.count(ACME)
    assert refused.value.reason == "VECTORS_UNAVAILABLE"


async def test_only_its_user_can_reach_it_and_it_tells_its_health(engine):
    async with engine.store() as store:
        await store.prepare()
    assert stat.S_IMODE(engine.socket.stat().st_mode) == 0o600
    files = [engine.data, *engine.data.rglob("*")]
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    async with grpc.aio.insecure_channel(f"unix:{engine.socket}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "aquifer.query.vectors.v1.VectorService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


class Collector(TraceServiceServicer):
    """An OTLP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    async def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:
        for sent in request.resource_spans:
            [service] = [
                one.value.string_value
                for one in sent.resource.attributes
                if one.key == "service.name"
            ]
            spans = [span for scope in sent.scope_spans for span in scope.spans]
            self.spans += [(service, span) for span in spans]
        return ExportTraceServiceResponse()

    async def wait_for(self, name: str) -> tuple[str, Any]:
        async with asyncio.timeout(60):
            while True:
                for service, span in self.spans:
                    if span.name == name:
                        return service, span
                await asyncio.sleep(0.05)


@pytest.fixture
async def collector():
    server, one = grpc.aio.server(), Collector()
    add_TraceServiceServicer_to_server(one, server)
    one.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield one
    await server.stop(0)


SERVICE = "aquifer.query.vectors.v1.VectorService"


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


async def test_its_spans_join_the_callers_trace_and_it_has_metrics_and_probes(tmp_path, collector):
    [port] = free_ports(1)
    engine = Engine(tmp_path)
    engine.start(
        AQUIFER_OTLP_ENDPOINT=collector.endpoint, AQUIFER_METRICS_LISTEN=f"127.0.0.1:{port}"
    )
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    try:
        async with engine.store() as store:
            await store.prepare()
            await store.upsert(ACME, [point(1)])
            with tracer.start_as_current_span("the caller") as caller:
                await store.search(ACME, Probe(dense=point(1).dense, sparse=NO_TERMS))
        service, span = await collector.wait_for(f"{SERVICE}/Search")
        assert service == "vectors"
        assert span.kind == span.SPAN_KIND_SERVER
        assert int.from_bytes(span.trace_id) == caller.get_span_context().trace_id
        assert span.parent_span_id
        attributes = {one.key: one.value.string_value for one in span.attributes}
        assert attributes["tenant.id"] == "acme"
        assert attributes["rpc.response.status_code"] == "OK"
        page = await asyncio.to_thread(read, f"http://127.0.0.1:{port}/metrics")
        counted = f'aquifer_rpc_duration_seconds_count{{code="OK",method="{SERVICE}/Search"}} 1.0'
        assert counted in page
        assert 'aquifer_vector_calls{lane="read"} 0.0' in page
        async with asyncio.timeout(30):  # it is set from time to time
            while 'aquifer_vector_points{profile="p"} 1.0' not in page:
                await asyncio.sleep(0.2)
                page = await asyncio.to_thread(read, f"http://127.0.0.1:{port}/metrics")
        for probe in ("startupz", "readyz", "livez"):
            assert await asyncio.to_thread(read, f"http://127.0.0.1:{port}/{probe}") == "ok\n"
        assert engine.end() == 0
    finally:
        if engine.process.poll() is None:
            engine.kill()


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and domain of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    [packed] = rpc_status.from_call(refused.value).details[:1]
    info = ErrorInfo()
    assert packed.Unpack(info)
    return refused.value.code(), info.reason, info.domain


async def test_every_refusal_has_a_reason(engine):
    async with engine.store():
        pass
    async with grpc.aio.insecure_channel(f"unix:{engine.socket}") as channel:
        stub = VectorServiceStub(channel)
        raw = channel.unary_unary(f"/{SERVICE}/Search")
        unknown = channel.unary_unary(f"/{SERVICE}/Nothing")
        wrong = pb.CountRequest(profile="p", tenant="NO")
        invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
        for call, code, reason in (
            (raw(b"\xff\xff"), invalid, "REQUEST_UNREADABLE"),
            (unknown(b""), grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN"),
            (stub.Count(wrong), invalid, "TENANT_INVALID"),
            (stub.Info(pb.InfoRequest(profile="p")), missing, "STORE_MISSING"),
            (stub.Prepare(pb.PrepareRequest(profile="/")), invalid, "PROFILE_INVALID"),
            (stub.Upsert(pb.UpsertRequest(profile="p", tenant="acme")), invalid, "BATCH_RANGE"),
        ):
            assert await refusal(call) == (code, reason, "vectors.aquifer")


async def test_its_health_ends_before_it_does(engine):
    async with engine.store() as store:
        await store.prepare()
    async with grpc.aio.insecure_channel(f"unix:{engine.socket}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        first = await watch.read()
        ended = asyncio.ensure_future(asyncio.to_thread(engine.end))
        second = await watch.read()
        assert [first.status, second.status] == [
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
        ]
        assert await ended == 0


async def test_settings_it_cannot_read_are_refused(tmp_path):
    engine = Engine(tmp_path)
    engine.start(AQUIFER_TRACE_SAMPLE_RATIO="2")
    assert await asyncio.to_thread(engine.process.wait, 60) == 1
    assert engine.events() == ["vectors.refused"]


async def test_termination_finishes_what_runs_and_takes_nothing_new(engine):
    async with engine.store() as store:
        info = await store.prepare()
        batches = [[point(200 * n + m) for m in range(1, 201)] for n in range(60)]
        calls = [asyncio.ensure_future(store.upsert(ACME, batch)) for batch in batches]
        await calls[0]
        ended = asyncio.ensure_future(asyncio.to_thread(engine.end))
        assert await asyncio.gather(*calls) == [None] * len(batches)
        assert await ended == 0
        with pytest.raises(UnavailableError):
            await store.count(ACME)
    assert not engine.socket.exists()
    engine.start()
    async with engine.store() as store:
        again = await store.info()
    assert (again.store_id, again.points) == (info.store_id, 12_000)


async def run_refused(command: list[object]) -> bytes:
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 3
    return done.stdout


async def test_a_second_process_is_refused_and_the_first_goes_on(engine, tmp_path):
    async with engine.store() as store:
        await store.prepare()
        await store.upsert(ACME, [point(1)])
        reasons = await asyncio.gather(
            run_refused(engine.command(socket=tmp_path / "other")),
            run_refused(engine.command(data=tmp_path / "elsewhere")),
            run_refused(
                [sys.executable, "-m", "query.vectors", "--data", engine.data, "--compact"]
            ),
        )
        assert all(b"another process" in reason for reason in reasons)
        assert await store.count(ACME) == 1


async def test_a_path_no_socket_can_have_is_refused(tmp_path):
    taken = tmp_path / "file"
    taken.write_text("mine")
    engine = Engine(tmp_path)
    await asyncio.gather(
        run_refused(engine.command(socket=taken, data=tmp_path / "a")),
        run_refused(engine.command(socket=tmp_path / ("x" * 120), data=tmp_path / "b")),
    )
    assert taken.read_text() == "mine"


def spoil_config(store: Path) -> None:
    (store / "shard" / "edge_config.json").write_text("{")


def spoil_index(store: Path) -> None:
    """The engine panics over it, where it raises over other damage."""
    for path in (store / "shard").rglob("payload_index/*-null/has_values/status.dat"):
        os.truncate(path, 0)


def spoil_ids(store: Path) -> None:
    """The engine opens it without a word, and has fewer points."""
    for path in (store / "shard").rglob("mutable_id_tracker.mappings"):
        os.truncate(path, path.stat().st_size // 2)
    # What the log still holds would heal it.
    for path in (store / "shard" / "wal").iterdir():
        path.unlink()


def spoil_payloads(store: Path) -> None:
    """The engine opens it without a word, and fails once it must read them."""
    for path in (store / "shard").rglob("payload_storage/page_0.dat"):
        with path.open("r+b") as file:
            file.write(b"\xff" * 8192)
    for path in (store / "shard" / "wal").iterdir():
        path.unlink()


def spoil_record(store: Path) -> None:
    (store / "store.json").write_text('{"store_id": "?"}')


def spoil_process(store: Path) -> None:
    """As if opening it had killed the process each time."""
    record = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps(record | {"loads": 3}))


SPOILS = {
    "config": spoil_config,
    "index": spoil_index,
    "ids": spoil_ids,
    "payloads": spoil_payloads,
    "record": spoil_record,
    "process": spoil_process,
}


async def test_lost_and_damaged_stores_show_their_loss(engine):
    ids = {}
    for profile in (*SPOILS, "lost", "sound"):
        async with engine.store(profile) as store:
            ids[profile] = (await store.prepare()).store_id
            await store.upsert(ACME, [point(n) for n in range(1, 301)])
    assert await asyncio.to_thread(engine.end) == 0
    for profile, spoil in SPOILS.items():
        spoil(engine.data / profile)
    shutil.rmtree(engine.data / "lost")
    engine.start()
    async with engine.store("sound") as store:
        assert (await store.info()).store_id == ids["sound"]
        assert await store.count(ACME) == 300
    for profile in (*SPOILS, "lost"):
        async with engine.store(profile) as store:
            with pytest.raises(UnavailableError) as missing:
                await store.count(ACME)
            assert missing.value.reason == "VECTORS_STORE_MISSING"
            again = await store.prepare()
            assert again.store_id != ids[profile]
            assert again.points == 0
    assert engine.events().count("store.set_aside") == len(SPOILS)
    assert all((engine.data / ".damaged" / profile / "shard").is_dir() for profile in SPOILS)


async def test_a_store_with_another_layout_is_built_again(engine):
    async with engine.store() as store:
        before = await store.prepare()
        await store.upsert(ACME, [point(1)])
    assert await asyncio.to_thread(engine.end) == 0
    [path] = engine.data.glob("*/store.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"layout": record["layout"] - 1}))
    engine.start()
    async with engine.store() as store:
        after = await store.prepare()
    assert after.store_id != before.store_id
    assert after.points == 0
    assert "store.set_aside" in engine.events()


async def scroll(store: EngineVectors) -> None:
    with pytest.raises(UnavailableError):
        await store.scroll(ACME)


async def upsert(store: EngineVectors) -> None:
    """Acknowledged, for the log has it; what fails is the flush that follows."""
    await store.upsert(ACME, [point(1)])


@pytest.mark.parametrize(
    ("damage", "met"), [(b"\xff" * 8192, scroll), (b"\x01\0\0\0" * 2048, upsert)]
)
async def test_an_engine_that_cannot_go_on_ends_the_process(engine, damage, met):
    """The supervisor's next start looks at the store anew."""
    async with engine.store() as store:
        await store.prepare()
        await store.upsert(ACME, [point(n) for n in range(1, 1001)])
    await asyncio.to_thread(engine.end)  # brings what is pending into the mapped file
    engine.start()
    async with engine.store() as store:
        for path in (engine.data / "p" / "shard").rglob("payload_storage/tracker.dat"):
            with path.open("r+b") as file:
                file.write(damage)
        await met(store)
        assert await asyncio.to_thread(engine.process.wait, 60) == 1


async def test_the_space_of_removed_points_is_given_back_while_nobody_serves(engine):
    async with engine.store() as store:
        await store.prepare()
        await store.upsert(ACME, [point(n) for n in range(1, 2001)])
        await store.delete_points(ACME, [point(n).point_id for n in range(1, 1501)])
    await asyncio.to_thread(engine.end)
    before = {path.name for path in (engine.data / "p" / "shard" / "segments").iterdir()}
    command = [sys.executable, "-m", "query.vectors", "--data", engine.data, "--compact"]
    done = await asyncio.to_thread(subprocess.run, command, timeout=60, check=False)
    assert done.returncode == 0
    after = {path.name for path in (engine.data / "p" / "shard" / "segments").iterdir()}
    assert not before & after
    engine.start()
    async with engine.store() as store:
        assert await numbers(store) == set(range(1501, 2001))
