"""Wrong keys do not keep services and users from their tokens."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from testkit.servers import TestBus, TestDatabase

from .flood import KINDS, make_mistyped_key, make_shapeless_key, make_unknown_key
from .test_process import refusal, running

FLOOD = Path(__file__).with_name("flood.py")
SERVED_WITHIN_S = 2.0
CONNECTIONS, OUTSTANDING = 4, 256
EXCHANGES = 10


@asynccontextmanager
async def flood_with(address: str, kind: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(FLOOD), address, kind, str(CONNECTIONS), str(OUTSTANDING)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"started\n"
        yield
    finally:
        process.kill()
        await process.wait()


async def exchange_in_s(address: str, api_key: str) -> float:
    """How long one exchange takes on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        started = time.monotonic()
        await AuthServiceStub(channel).ExchangeToken(
            pb.ExchangeTokenRequest(api_key=api_key), timeout=30
        )
        return time.monotonic() - started


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_wrong_keys_delays_nobody_else(
    tables: TestDatabase, bus: TestBus, signing_key: str, tmp_path: Path, kind: str
) -> None:
    async with running(tables, bus, signing_key, tmp_path / "auth.log") as auth:
        service, user = auth.first.services["query"].reveal(), auth.first.operator.reveal()
        async with flood_with(auth.address, kind):
            took_s = [
                await exchange_in_s(auth.address, key)
                for _ in range(EXCHANGES)
                for key in (service, user)
            ]
        assert max(took_s) < SERVED_WITHIN_S, took_s


async def test_a_key_with_a_wrong_checksum_is_refused_without_the_database(
    tables: TestDatabase, bus: TestBus, signing_key: str, tmp_path: Path
) -> None:
    async with running(tables, bus, signing_key, tmp_path / "auth.log") as auth:
        tables.server.kill()
        try:
            for make_key in (
                make_mistyped_key,
                make_shapeless_key,
                lambda: make_mistyped_key()[:-1],
            ):
                started = time.monotonic()
                refused = await refusal(auth.login(make_key()))
                assert refused is grpc.StatusCode.UNAUTHENTICATED
                assert time.monotonic() - started < SERVED_WITHIN_S
            assert await refusal(auth.login(make_unknown_key())) is grpc.StatusCode.UNAVAILABLE
        finally:
            tables.server.start()
