"""What `aquifer status` makes of services that refuse."""

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
from aquifer.ops.v1.status_service_pb2_grpc import (
    StatusServiceServicer,
    add_StatusServiceServicer_to_server,
)
from aquifer.services import NAMES
from aquifer_cli import status as reporting
from aquifer_cli.client import open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import CommandError


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


@asynccontextmanager
async def refusing(code, reason):
    server = grpc.aio.server()
    add_AuthServiceServicer_to_server(Auth(), server)
    add_StatusServiceServicer_to_server(Refusing(code, reason), server)
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
