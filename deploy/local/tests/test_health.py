"""A health check of a real server: what the launcher sees, and what other clients do not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from chassis.rpc.health import Health
from stack import health
from stack.health import Answer


@asynccontextmanager
async def serve_health(checks: Health, host: str = "127.0.0.1") -> AsyncIterator[str]:
    server = grpc.aio.server()
    add_HealthServicer_to_server(checks, server)
    address = f"{host}:{server.add_insecure_port(f'{host}:0')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


def own_address() -> str:
    """The address others reach this machine by; loopback on one without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


async def check(address: str) -> Answer:
    return await asyncio.to_thread(health.check, address, 2.0)


async def test_a_server_that_does_not_serve_says_why_and_how_far_it_is():
    checks = Health([])
    checks.explain(("vector store is being rebuilt: 1 of 2", "Dienst fällt aus"), 7)
    async with serve_health(checks) as address:
        assert await check(address) == Answer(
            answered=True,
            problem="vector store is being rebuilt: 1 of 2; Dienst f?llt aus",
            progress=7,
        )
        checks.explain((), 7)
        await checks.set_all(HealthCheckResponse.SERVING)
        assert await check(address) == Answer(answered=True, problem="")


async def test_a_caller_from_another_machine_learns_the_state_alone():
    host = own_address()
    checks = Health([])
    checks.explain(("database does not answer",), 0)
    async with serve_health(checks, host) as address:
        local = host.startswith("127.")
        said = "database does not answer" if local else "health check says NOT_SERVING"
        assert await check(address) == Answer(answered=True, problem=said)


async def test_a_socket_where_nobody_answers_is_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        said = await asyncio.to_thread(health.check, f"127.0.0.1:{deaf.getsockname()[1]}", 0.3)
    assert not said.answered
    assert said.problem == "health check failed: DEADLINE_EXCEEDED"
