"""A revoked key is refused by every process within five seconds, also by one started later."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest

from aquifer.auth.v1.auth_service_pb2 import CreateApiKeyRequest, RevokeApiKeyRequest
from aquifer.ingest.v1.ingest_service_pb2 import GetDocumentRequest
from aquifer.query.v1.query_service_pb2 import AskRequest, SearchRequest
from aquifer.query.v1.query_service_pb2_grpc import QueryServiceStub
from aquifer_cli.client import Client, open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import from_rpc
from stack.ports import free_ports
from stack.programs import Service

pytestmark = pytest.mark.timeout(300)

REVOKED_WITHIN_S = 5.0


@pytest.fixture
def replica(stack) -> Iterator[Service]:
    """A second process of query, not started yet."""
    first = stack.parts["query"]
    part = Service(
        "query",
        port=free_ports(1)[0],
        environment={**first._environment, "AQUIFER_METRICS_LISTEN": ""},
        folder=stack.data.path,
        guardian=stack.guardian,
        log=stack.data.log("query-replica"),
    )
    yield part
    part.stop()


async def reason_of(address: str, token: str) -> str:
    """Reason a search with `token` is refused for at `address`; empty when it is served."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            await QueryServiceStub(channel).Search(
                SearchRequest(question="anything"),
                timeout=20,
                metadata=[("authorization", f"Bearer {token}")],
            )
        except grpc.aio.AioRpcError as error:
            return from_rpc(error).reason
    return ""


async def refused_after_s(address: str, token: str, since: float) -> float:
    """Seconds from `since` until `address` refuses the token as revoked."""
    while await reason_of(address, token) != "KEY_REVOKED":
        assert time.monotonic() - since < 2 * REVOKED_WITHIN_S
        await asyncio.sleep(0.05)
    return time.monotonic() - since


async def new_key(client: Client) -> tuple[str, str]:
    created = await client.call(
        client.auth.CreateApiKey,
        CreateApiKeyRequest(display_name="short-lived", scopes=["search", "ask"], valid_days=1),
    )
    return created.key.key_id, created.api_key


async def token_of(endpoints: Endpoints, api_key: str) -> str:
    async with open_client(replace(endpoints, api_key=api_key)) as client:
        [(_, bearer)] = await client.credentials()
    return bearer.removeprefix("Bearer ")


def test_two_replicas_refuse_one_of_them_started_after_the_revocation(stack, replica):
    endpoints = stack.endpoints

    async def revoked_then_started() -> tuple[float, str]:
        async with open_client(endpoints) as operator:
            key_id, api_key = await new_key(operator)
            token = await token_of(endpoints, api_key)
            assert await reason_of(endpoints.services["query"], token) == ""
            since = time.monotonic()
            await operator.call(operator.auth.RevokeApiKey, RevokeApiKeyRequest(key_id=key_id))
            took_s = await refused_after_s(endpoints.services["query"], token, since)
        await asyncio.to_thread(replica.start)
        return took_s, await reason_of(replica.address, token)

    took_s, later = asyncio.run(revoked_then_started())
    assert took_s <= REVOKED_WITHIN_S
    assert later == "KEY_REVOKED"


def test_the_exchange_itself_refuses_a_revoked_key(stack):
    endpoints = stack.endpoints

    async def run() -> str:
        async with open_client(endpoints) as operator:
            key_id, api_key = await new_key(operator)
            await operator.call(operator.auth.RevokeApiKey, RevokeApiKeyRequest(key_id=key_id))
        try:
            await token_of(endpoints, api_key)
        except grpc.aio.AioRpcError as error:
            return from_rpc(error).reason
        return ""

    assert asyncio.run(run()) == "KEY_REVOKED"


def test_a_scope_that_is_missing_is_named(stack):
    endpoints = stack.endpoints

    async def run() -> str:
        async with open_client(endpoints) as operator:
            _, api_key = await new_key(operator)
        async with open_client(replace(endpoints, api_key=api_key)) as client:
            try:
                await client.ingest.GetDocument(
                    GetDocumentRequest(name="collections/a/documents/b"),
                    metadata=await client.credentials(),
                    timeout=20,
                )
            except grpc.aio.AioRpcError as error:
                return from_rpc(error).reason
        return ""

    assert asyncio.run(run()) == "SCOPE_MISSING"


def test_a_client_that_hangs_up_leaves_a_service_that_answers(stack):
    endpoints = stack.endpoints

    async def run() -> str:
        async with open_client(endpoints) as client:
            stream = client.query.Ask(
                AskRequest(question="What is there?"),
                timeout=60,
                metadata=await client.credentials(),
            )
            async for step in stream:
                assert step.WhichOneof("step") == "started"
                break
            stream.cancel()
            [(_, bearer)] = await client.credentials()
        return await reason_of(endpoints.services["query"], bearer.removeprefix("Bearer "))

    assert asyncio.run(run()) == ""
