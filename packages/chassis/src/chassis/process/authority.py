"""Fetches public keys and revocations from auth over gRPC."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aquifer.auth.v1.auth_service_pb2 import (
    GetJwksRequest,
    ListRevocationsRequest,
    ListRevocationsResponse,
)
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from chassis.base.paging import PAGE_MAX
from chassis.identity.tokens import TokenSource, send_no_credentials
from chassis.rpc.channel import open_channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Functions that return the public keys as a JWK set, and the revocations after a sequence."""

    keys: Callable[[], Awaitable[str]]
    revocations: Callable[[int], Awaitable[ListRevocationsResponse]]
    credentials: TokenSource


@asynccontextmanager
async def remote_authority(address: str, service_key: str) -> AsyncIterator[Authority]:
    """The authority at `address`, called with the API key of this service."""
    async with open_channel(address, service="auth", credentials=send_no_credentials) as public:
        credentials = TokenSource(public, service_key)
        async with open_channel(address, service="auth", credentials=credentials) as own:

            async def keys() -> str:
                answer = await AuthServiceStub(public).GetJwks(GetJwksRequest())
                return str(answer.keys_json)

            async def revocations(after: int) -> ListRevocationsResponse:
                request = ListRevocationsRequest(after=after, page_size=PAGE_MAX)
                answer: ListRevocationsResponse = await AuthServiceStub(own).ListRevocations(
                    request
                )
                return answer

            yield Authority(keys=keys, revocations=revocations, credentials=credentials)
