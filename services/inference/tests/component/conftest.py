"""The service as `app.py` wires it, behind a real gRPC server and on a real broker."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from aquifer.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from chassis.authority import remote_authority
from chassis.bus import Bus
from chassis.dead_letters import DeadLetters
from chassis.identity import Verifier
from chassis.revocations import Revocations
from chassis.rpc import create_server, server_interceptors
from chassis.service import Process
from inference.app import SERVICE, Adapters, wire
from inference.batching import Batcher, Engine
from inference.engines.extractive import Extractive
from inference.engines.null import NullEmbedder
from inference.rpc import ACCESS
from inference.settings import Settings
from testkit.servers import TestBus

KEY_ID = "key-1"
NOWHERE = "127.0.0.1:1"


class Signer:
    """Signs tokens as auth does."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()

    async def keys(self) -> str:
        public = jwt.algorithms.OKPAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": KEY_ID, "alg": "EdDSA", "use": "sig"}]})

    def bearer(self, scope: str) -> tuple[str, str]:
        now = int(time.time())
        claims = {
            "iss": "aquifer.auth",
            "aud": "aquifer",
            "sub": "user:ada",
            "tenant": "acme",
            "key": "k1",
            "scope": scope,
            "iat": now,
            "nbf": now,
            "exp": now + 600,
        }
        header = {"typ": "at+jwt", "kid": KEY_ID}
        token = jwt.encode(claims, self._private, algorithm="EdDSA", headers=header)
        return "authorization", f"Bearer {token}"


@dataclass(frozen=True, slots=True)
class House:
    """The service with both doors open; `consumer` is its only one."""

    process: Process
    batcher: Batcher
    stub: Any
    signer: Signer

    @property
    def consumer(self) -> Any:
        return self.process.consumers[0]

    def caller(self, scope: str = "models") -> dict[str, Any]:
        return {"metadata": [self.signer.bearer(scope)], "timeout": 20}

    async def settled(self) -> None:
        """Waits until the broker holds nothing for the service any more."""
        async with asyncio.timeout(20):
            while True:
                info = await self.consumer.puller.info()
                if not info.num_pending and not info.num_ack_pending:
                    return
                await asyncio.sleep(0.02)


async def failure(call: Awaitable[object]) -> tuple[str, str]:
    """Code and reason of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    status = rpc_status.from_call(failed.value)
    assert status is not None, failed.value
    info = ErrorInfo()
    status.details[0].Unpack(info)
    return failed.value.code().name, info.reason


async def _open_process(bus: Bus, signer: Signer, stack: AsyncExitStack) -> tuple[Process, str]:
    verifier = Verifier(signer.keys)
    await verifier.load()
    revocations = Revocations(bus_connected=lambda: True)
    revocations.polled(time.monotonic())
    server, _ = await create_server(
        server_interceptors(SERVICE, verifier, revocations, ACCESS), ACCESS
    )
    process = Process(
        name=SERVICE,
        bus=bus,
        server=server,
        dead_letters=DeadLetters(bus, SERVICE),
        authority=await stack.enter_async_context(remote_authority(NOWHERE, "")),
        stack=stack,
    )
    return process, f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"


@asynccontextmanager
async def _working(process: Process) -> AsyncIterator[None]:
    await process.server.start()
    [consumer] = process.consumers
    task = asyncio.get_running_loop().create_task(consumer.run())
    try:
        yield
    finally:
        await asyncio.gather(process.server.stop(1), consumer.stop(1))
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def open_house(bus: TestBus) -> AsyncIterator[Callable[[Engine], Awaitable[House]]]:
    """Opens the service over an engine; what it says in answers is quoted from words alone."""
    signer = Signer()
    async with AsyncExitStack() as stack:

        async def open_over(engine: Engine) -> House:
            own = await stack.enter_async_context(bus.connect(SERVICE))
            batcher = await stack.enter_async_context(Batcher(engine))
            process, address = await _open_process(own, signer, stack)
            vocabulary = engine if hasattr(engine, "rarity") else NullEmbedder()
            adapters = Adapters(embedder=batcher, generator=Extractive(batcher, vocabulary))
            settings = Settings(
                nats_url=bus.url,
                nats_user=SERVICE,
                nats_password="unused",
                auth_address=NOWHERE,
                prepared_concurrency=4,
            )
            wire(process, adapters, settings)
            await stack.enter_async_context(_working(process))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            return House(process, batcher, InferenceServiceStub(channel), signer)

        yield open_over
