"""A small asyncio client of Aquifer: channels, a token that renews itself, a deadline per call."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from aquifer.auth.v1.auth_service_pb2 import ExchangeTokenRequest
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from aquifer.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from aquifer.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from aquifer.query.v1.conversation_service_pb2_grpc import ConversationServiceStub
from aquifer.query.v1.prompt_service_pb2_grpc import PromptServiceStub
from aquifer.query.v1.query_service_pb2_grpc import QueryServiceStub
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import from_rpc

CALL_S = 30.0
OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 8 << 20),
    # A waiting stream detects a service that is gone.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
]


class Client:
    """Stubs of every service, and the metadata that authenticates a call.

    Use `async with open_client(endpoints) as client`, then
    `await client.query.Search(request, timeout=5, metadata=await client.credentials())`.
    """

    def __init__(self, endpoints: Endpoints, channels: dict[str, grpc.aio.Channel]) -> None:
        self.endpoints = endpoints
        self.channels = channels
        self.auth = AuthServiceStub(channels["auth"])
        self.ingest = IngestServiceStub(channels["ingest"])
        self.query = QueryServiceStub(channels["query"])
        self.conversations = ConversationServiceStub(channels["query"])
        self.prompts = PromptServiceStub(channels["query"])
        self.inference = InferenceServiceStub(channels["inference"])
        self._token = ""
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()

    async def credentials(self) -> list[tuple[str, str]]:
        """Metadata of an authenticated call; exchanges the key again at half the token's life.

        Raises:
            grpc.aio.AioRpcError: as auth answered; see `sign_in` and `call` for failures with a
                reason.
        """
        async with self._renewing:
            if time.time() >= self._renew_at:
                answer = await self.auth.ExchangeToken(
                    ExchangeTokenRequest(api_key=self.endpoints.api_key), timeout=CALL_S
                )
                self._token = answer.access_token
                left_s = answer.expire_time.ToMilliseconds() / 1000 - time.time()
                self._renew_at = time.time() + left_s / 2
        return [("authorization", f"Bearer {self._token}")]

    async def sign_in(self) -> None:
        """Exchanges the key, to check it.

        Raises:
            CommandError: the key is not accepted, or auth cannot be reached.
        """
        try:
            await self.credentials()
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error

    async def call(
        self, method: Callable[..., Awaitable[Any]], request: Any, *, timeout_s: float = CALL_S
    ) -> Any:
        """One authenticated unary call.

        Raises:
            CommandError: with the reason of the service.
        """
        try:
            return await method(request, timeout=timeout_s, metadata=await self.credentials())
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error


@asynccontextmanager
async def open_client(endpoints: Endpoints) -> AsyncIterator[Client]:
    """Channels to every service, closed at the end."""
    channels = {
        name: grpc.aio.insecure_channel(address, options=OPTIONS)
        for name, address in endpoints.services.items()
    }
    try:
        yield Client(endpoints, channels)
    finally:
        for channel in channels.values():
            await channel.close()
