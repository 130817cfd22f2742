"""What `aquifer status` makes of services that refuse."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from aquifer.auth.v1.auth_service_pb2 import ExchangeTokenResponse
from aquifer.auth.v1.auth_service_pb2_grpc import (
    AuthServiceServicer,
    add_AuthServiceServicer_to_server,
)
from aquifer.ops.v1.status_service_pb2 import ConsumerBacklog, GetStatusResponse
from aquifer.ops.v1.status_service_pb2_grpc import (
    StatusServiceServicer,
    add_StatusServiceServicer_to_server,
)
from aquifer.services import NAMES
from aquifer_cli import servers
from aquifer_cli import status as reporting
from aquifer_cli.client import open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import EXIT_UNAVAILABLE, CommandError
from aquifer_cli.screen import Screen
from aquifer_cli.servers import SERVERS


class Auth(AuthServiceServicer):
    async def ExchangeToken(self, request, context):
        answer = ExchangeTokenResponse(access_token="token")
        answer.expire_time.GetCurrentTime()
        answer.expire_time.seconds += 600
        return answer


class Refusing(StatusServiceServicer):
    def __init__(self, code, reason):
        detail = Any()
        detail.Pack(ErrorInfo(reason=reason))
        self.status = rpc_status.to_status(Status(code=code, message="no", details=[detail]))

    async def GetStatus(self, request, context):
        await context.abort_with_status(self.status)


def refusing(code, reason):
    return serving(Refusing(code, reason))


@asynccontextmanager
async def serving(status):
    server = grpc.aio.server()
    add_AuthServiceServicer_to_server(Auth(), server)
    add_StatusServiceServicer_to_server(status, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    services = dict.fromkeys(NAMES, address)
    endpoints = Endpoints(services=services, traces="", tenant="default", api_key="key")
    try:
        async with open_client(endpoints) as client:
            yield client
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(Code.PERMISSION_DENIED, "SCOPE_MISSING"), (Code.UNAUTHENTICATED, "KEY_REVOKED")],
)
async def test_a_fault_of_the_key_is_none_of_the_parts(code, reason):
    async with refusing(code, reason) as client:
        with pytest.raises(CommandError) as refusal:
            await reporting.gather(client)
    assert refusal.value.reason == reason
    assert refusal.value.hint


async def test_a_part_that_can_not_say_is_not_ready():
    async with refusing(Code.UNAVAILABLE, "DATABASE_UNAVAILABLE") as client:
        state = await reporting.gather(client)
    assert [part["not_ready"] for part in state["parts"]] == [["DATABASE_UNAVAILABLE"]] * 4
    for key in ("version", "consumers", "stages", "dead_letters"):
        assert [part[key] for part in state["parts"]] == [None] * 4


async def test_what_can_not_be_read_is_shown_as_unknown_and_never_as_zero(capsys):
    async with refusing(Code.UNAVAILABLE, "DATABASE_UNAVAILABLE") as client:
        reporting.show(Screen(machine=False), await reporting.gather(client))
    shown = capsys.readouterr().out
    assert "unfinished documents: unknown\n" in shown
    assert "unknown of auth, inference, query, ingest" in shown
    assert "dead letters: unknown in auth, unknown in inference" in shown


class Quiet(StatusServiceServicer):
    """Its broker and its database are away."""

    async def GetStatus(self, request, context):
        return GetStatusResponse(
            service="query",
            ready=False,
            not_ready=["bus does not answer"],
            consumers=[ConsumerBacklog(durable="query-ChunksEmbedded")],
        )


async def test_a_service_without_broker_and_database_has_no_zeroes(capsys):
    async with serving(Quiet()) as client:
        state = await reporting.gather(client)
        reporting.show(Screen(machine=False), state)
    assert state["parts"][0]["stages"] is None
    assert state["parts"][0]["consumers"][0]["pending"] is None
    shown = capsys.readouterr().out
    assert "0 of 4 consumers have work or wait, 4 are unknown" in shown
    assert "bus does not answer" in shown
    assert "unfinished documents: unknown\n" in shown


async def test_parts_that_hang_are_reported_within_five_seconds(tmp_path):
    """A stopped process: its socket takes connections and nothing ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        endpoints = Endpoints(
            services=dict.fromkeys(NAMES, address),
            parts=dict.fromkeys(SERVERS, address) | {"traces": f"http://{address}"},
            data_dir=str(tmp_path),
            traces="",
            tenant="default",
            api_key="key",
        )
        began = time.monotonic()
        asked = asyncio.create_task(servers.gather(endpoints))
        async with open_client(endpoints) as client:
            with pytest.raises(CommandError) as refusal:
                await reporting.gather(client)
        found = await asked
    assert time.monotonic() - began < 5
    assert refusal.value.exit_code == EXIT_UNAVAILABLE
    assert [server["part"] for server in found] == list(SERVERS)
    assert [server["ready"] for server in found] == [False] * len(SERVERS)
    assert all(server["disk_free_bytes"] > 0 for server in found)


async def test_parts_of_another_machine_are_unknown():
    endpoints = Endpoints(services={}, traces="", tenant="", api_key="key")
    found = await servers.gather(endpoints)
    assert [(server["ready"], server["disk_free_bytes"]) for server in found] == [
        (None, None)
    ] * len(SERVERS)
