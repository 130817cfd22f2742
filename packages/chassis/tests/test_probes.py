"""The probes of a real process while it starts, works, lacks something, hangs and ends."""

import asyncio
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from chassis.base import metrics, probes
from stack.ports import free_ports
from testkit.servers import TestBus, password_of

PROGRAM = Path(__file__).with_name("probed_service.py")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
Answer = tuple[int, str]
OK = (200, "ok\n")
STARTING = (503, "starting\n")
DRAINING = (503, "draining\n")
HUNG = (503, "event loop does not answer\n")


def ask(port: int, path: str) -> Answer:
    try:
        with OPENER.open(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@dataclass(frozen=True, slots=True)
class Probed:
    """The process, its ports and the folder by which it is told what to do."""

    process: asyncio.subprocess.Process
    folder: Path
    port: int
    grpc_port: int

    def tell(self, name: str) -> None:
        (self.folder / name).touch()

    def untell(self, name: str) -> None:
        (self.folder / name).unlink()

    async def ask(self, path: str) -> Answer:
        return await asyncio.to_thread(ask, self.port, path)

    async def all(self) -> tuple[Answer, Answer, Answer]:
        """What startup, ready and live answer."""
        return await self.ask("/startupz"), await self.ask("/readyz"), await self.ask("/livez")

    async def until(self, path: str, expected: Callable[[Answer], bool]) -> Answer:
        async with asyncio.timeout(30):
            while True:
                try:
                    if expected(answer := await self.ask(path)):
                        return answer
                except urllib.error.URLError:
                    assert self.process.returncode is None
                await asyncio.sleep(0.05)

    async def start(self) -> None:
        self.tell("start")
        await self.until("/readyz", lambda answer: answer == OK)

    async def health(self) -> int:
        """What the gRPC health service answers."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            answer = await HealthStub(channel).Check(HealthCheckRequest(), timeout=20)
        status: int = answer.status
        return status


@pytest.fixture
async def probed(bus: TestBus, tmp_path: Path) -> AsyncIterator[Probed]:
    """A process that starts when it is told to."""
    port, grpc_port = free_ports(2)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), str(tmp_path)),
        env={
            "PATH": os.defpath,
            "AQUIFER_LISTEN": f"127.0.0.1:{grpc_port}",
            "AQUIFER_METRICS_LISTEN": f"127.0.0.1:{port}",
            "AQUIFER_NATS_URL": bus.url,
            "AQUIFER_NATS_USER": "auth",
            "AQUIFER_NATS_PASSWORD": password_of("auth"),
            "AQUIFER_AUTH_ADDRESS": "127.0.0.1:1",
        },
    )
    one = Probed(process, tmp_path, port, grpc_port)
    try:
        await one.until("/livez", lambda answer: answer == OK)
        yield one
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_start_that_takes_long_is_alive_and_not_started(probed: Probed):
    assert await probed.all() == (STARTING, STARTING, OK)
    await asyncio.sleep(1)
    assert await probed.all() == (STARTING, STARTING, OK)
    await probed.start()
    assert await probed.all() == (OK, OK, OK)
    assert await probed.health() == HealthCheckResponse.SERVING


async def test_a_start_that_blocks_the_loop_is_alive(probed: Probed):
    probed.tell("hang")
    await asyncio.sleep(probes.ANSWER_S)
    assert await probed.all() == (STARTING, STARTING, OK)


async def test_what_is_missing_is_told_and_ends_nothing(probed: Probed):
    await probed.start()
    probed.tell("away")
    missing = await probed.until("/readyz", lambda answer: answer != OK)
    assert missing == (503, "store does not answer\n")
    assert await probed.health() == HealthCheckResponse.NOT_SERVING
    assert await probed.all() == (OK, missing, OK)
    probed.untell("away")
    await probed.until("/readyz", lambda answer: answer == OK)


async def test_a_loop_that_hangs_is_neither_alive_nor_ready(probed: Probed):
    await probed.start()
    probed.tell("hang")
    assert await probed.until("/livez", lambda answer: answer != OK) == HUNG
    assert await probed.all() == (OK, HUNG, HUNG)
    status, text = await probed.ask("/metrics")
    assert status == 200
    assert "aquifer_rpc_duration_seconds" in text
    probed.untell("hang")
    assert await probed.until("/livez", lambda answer: answer == OK)
    assert await probed.all() == (OK, OK, OK)


async def test_a_process_that_drains_is_alive_and_not_ready(probed: Probed):
    await probed.start()
    probed.process.send_signal(signal.SIGTERM)
    await probed.until("/readyz", lambda answer: answer == DRAINING)
    # For longer than the readiness is computed again.
    await asyncio.sleep(1)
    assert await probed.all() == (OK, DRAINING, OK)
    probed.tell("close")
    async with asyncio.timeout(20):
        assert await probed.process.wait() == 0


def test_nothing_makes_a_process_that_drains_ready_again():
    readiness = probes.Readiness()
    readiness.drain()
    readiness.set(())
    assert readiness.reasons == ("draining",)
    assert not readiness.was_ready


async def test_other_paths_do_not_exist(probed: Probed):
    for path in ("/", "/metrics/", "/livez/x", "/../metrics"):
        assert await probed.ask(path) == (404, "no such path\n")
    assert await probed.ask("/livez?verbose") == OK


async def test_metrics_are_served_on_loopback_until_closed():
    server = probes.serve(":0", probes.Readiness(), asyncio.get_running_loop())
    metrics.EVENTS.labels("DocumentIndexed", "query-DocumentIndexed", "handled").inc()
    status, text = await asyncio.to_thread(ask, server.port, "/metrics")
    assert status == 200
    assert (
        'aquifer_events_total{consumer="query-DocumentIndexed",event="DocumentIndexed",outcome="handled"}'
        in text
    )
    assert server.server.server_address[0] == "127.0.0.1"
    server.close()
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(ask, server.port, "/metrics")
