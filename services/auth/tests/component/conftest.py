"""The whole service in this process, behind a real gRPC server, on a registry in memory."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from auth.app import Adapters, wire
from auth.keys import Peppers, new_key
from auth.rpc import ACCESS
from auth.tokens import Ed25519Signer
from auth.usecases.bootstrap import FirstKeys
from auth.usecases.ports import Clock, Registry
from chassis.identity.revocations import Revocations
from chassis.identity.tokens import Verifier
from chassis.rpc.server import create_server, server_interceptors


@dataclass(frozen=True)
class Refusal:
    """How a call failed, as a client sees it."""

    code: str
    reason: str
    facts: dict[str, str]
    fields: list[str]
    raw: bytes


@dataclass
class Client:
    """A client's view of the service."""

    stub: AuthServiceStub
    first: FirstKeys
    revocations: Revocations

    async def login(self, api_key: str) -> list[tuple[str, str]]:
        """Metadata of a caller who holds this key."""
        answer = await self.stub.ExchangeToken(pb.ExchangeTokenRequest(api_key=api_key))
        return [("authorization", f"Bearer {answer.access_token}")]

    async def operator(self) -> list[tuple[str, str]]:
        return await self.login(self.first.operator.reveal())

    async def service(self, name: str = "query") -> list[tuple[str, str]]:
        return await self.login(self.first.services[name].reveal())

    async def make_tenant(self, tenant: str) -> None:
        """Another tenant than the one the operator's key belongs to."""
        await self.stub.CreateTenant(
            pb.CreateTenantRequest(tenant=tenant, display_name=tenant),
            metadata=await self.operator(),
        )

    async def refusal(self, call: Awaitable[object]) -> Refusal:
        """How `call` fails; it must."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        status = rpc_status.from_call(raised.value)  # type: ignore[arg-type]
        assert status is not None
        info, fields = ErrorInfo(), BadRequest()
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(fields)
        return Refusal(
            code=raised.value.code().name,
            reason=info.reason,
            facts=dict(info.metadata),
            fields=[violation.field for violation in fields.field_violations],
            raw=status.SerializeToString(deterministic=True),
        )


@pytest.fixture
async def client(
    memory: Registry,
    peppers: Peppers,
    clock: Clock,
    signing_key: str,
    bootstrap_platform: Callable[[Registry], Awaitable[FirstKeys]],
) -> AsyncIterator[Client]:
    signer = Ed25519Signer(signing_key)

    async def keys() -> str:
        return signer.jwks()

    verifier = Verifier(keys)
    revocations = Revocations(bus_connected=lambda: True)
    revocations.mark_polled(0.0)
    server, _ = await create_server(
        server_interceptors("auth", verifier, revocations, ACCESS), ACCESS
    )
    wire(
        server,
        Adapters(
            registry=memory,
            signer=signer,
            peppers=peppers,
            clock=clock,
            new_key=new_key,
            new_token_id=lambda: str(uuid.uuid4()),
        ),
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Client(AuthServiceStub(channel), await bootstrap_platform(memory), revocations)
    finally:
        await server.stop(None)
