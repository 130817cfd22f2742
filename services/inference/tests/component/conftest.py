"""The service as `app.py` wires it, behind a real gRPC server and on a real broker."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status
from pydantic import SecretStr

from aquifer.inference.v1 import generation_pb2
from aquifer.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from aquifer.inference.v1.model_service_pb2_grpc import ModelServiceStub
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.settlement import Settlement
from chassis.identity.revocations import Revocations
from chassis.identity.tokens import Verifier
from chassis.process.authority import remote_authority
from chassis.process.process import Process
from chassis.rpc.server import create_server, server_interceptors
from inference import model_rpc, rpc
from inference.app import SERVICE, Adapters, wire
from inference.batching import Batcher
from inference.engine import Engine
from inference.engines.bert import BertEncoder
from inference.engines.extractive import Extractive, Vocabulary
from inference.engines.null import NullEmbedder
from inference.settings import Settings
from testkit.consuming import wait_until_settled
from testkit.servers import TestBus

ACCESS = {**rpc.ACCESS, **model_rpc.ACCESS}
KEY_ID = "key-1"
NOWHERE = "127.0.0.1:1"


class Signer:
    """Signs tokens as auth does."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()

    async def keys(self) -> str:
        public = jwt.algorithms.OKPAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": KEY_ID, "alg": "EdDSA", "use": "sig"}]})

    def bearer(self, scope: str, tenant: str) -> tuple[str, str]:
        now = int(time.time())
        claims = {
            "iss": "aquifer.auth",
            "aud": "aquifer",
            "sub": "user:ada",
            "tenant": tenant,
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
class RunningService:
    """The running service, a client of it and its tokens."""

    bus: TestBus
    process: Process
    stub: Any
    models: Any
    signer: Signer

    @property
    def settlement(self) -> Settlement[Any]:
        """That of the chunks."""
        [settlement] = [one for one in self.process.settlements if one.event is ChunksPrepared]
        return settlement

    def caller(self, scope: str = "models", tenant: str = "acme") -> dict[str, Any]:
        return {"metadata": [self.signer.bearer(scope, tenant)], "timeout": 20}

    async def settled(self) -> None:
        """Waits until the broker holds nothing for the service any more."""
        await wait_until_settled(self.bus, *self.process.settlements)


async def failure(call: Awaitable[object], violated: str = "") -> tuple[str, str]:
    """Code and reason of a call that must fail; `violated` is the field that its details name."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    status = rpc_status.from_call(failed.value)  # type: ignore[arg-type]  # the stub knows sync calls only
    assert status is not None, failed.value
    info = ErrorInfo()
    status.details[0].Unpack(info)
    if violated:
        request = BadRequest()
        assert any(detail.Unpack(request) for detail in status.details), status
        assert violated in [one.field for one in request.field_violations]
    return failed.value.code().name, info.reason


async def _open_process(bus: Bus, signer: Signer, stack: AsyncExitStack) -> tuple[Process, str]:
    verifier = Verifier(signer.keys)
    await verifier.load()
    revocations = Revocations(bus_connected=lambda: True)
    revocations.mark_polled(time.monotonic())
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
    assert process.events is not None
    loops = [process.events.run, *process.loops]
    tasks = [asyncio.get_running_loop().create_task(loop()) for loop in loops]
    try:
        yield
    finally:
        await asyncio.gather(process.server.stop(1), process.events.drain(1))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def question(
    text: str, passages: Sequence[str] = (), **more: Any
) -> generation_pb2.GenerateRequest:
    """A question about passages, as query asks it."""
    block = generation_pb2.PassageBlock(
        passages=[generation_pb2.GenerationPassage(text=one) for one in passages]
    )
    parts = [generation_pb2.Part(passages=block)] if passages else []
    message = generation_pb2.Message(
        role=generation_pb2.ROLE_USER, parts=[*parts, generation_pb2.Part(text=text)]
    )
    return generation_pb2.GenerateRequest(messages=[message], **more)


def settings_for(bus: TestBus, **more: Any) -> Settings:
    return Settings(
        nats_url=bus.url,
        nats_user=SERVICE,
        nats_password=SecretStr("unused"),
        auth_address=NOWHERE,
        **more,
    )


Attach = Callable[[Process], Awaitable[None]]


@pytest.fixture
async def open_with(bus: TestBus) -> AsyncIterator[Callable[[Attach], Awaitable[RunningService]]]:
    """Starts a process after the service was attached to it."""
    signer = Signer()
    async with AsyncExitStack() as stack:

        async def opened(attach: Attach) -> RunningService:
            own = await stack.enter_async_context(bus.connect(SERVICE))
            process, address = await _open_process(own, signer, stack)
            await attach(process)
            await stack.enter_async_context(_working(process))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            return RunningService(
                bus, process, InferenceServiceStub(channel), ModelServiceStub(channel), signer
            )

        yield opened


@pytest.fixture
def open_service(open_with: Any) -> Callable[[Batcher, Vocabulary], Awaitable[RunningService]]:
    """Opens the service over an embedder of the test's own."""

    async def open_over(batcher: Batcher, vocabulary: Vocabulary) -> RunningService:
        async def attach(process: Process) -> None:
            generator = Extractive(batcher, vocabulary)
            wire(process, Adapters(embedder=batcher, generators=[generator]))

        service: RunningService = await open_with(attach)
        return service

    return open_over


@pytest.fixture
async def batcher(engine: BertEncoder) -> AsyncIterator[Batcher]:
    async with Batcher(engine) as batcher:
        yield batcher


@pytest.fixture
async def ticking_batcher(ticking: Engine) -> AsyncIterator[Batcher]:
    async with Batcher(ticking) as batcher:
        yield batcher


@pytest.fixture
async def service(open_service: Any, batcher: Batcher, engine: BertEncoder) -> RunningService:
    """Over the real model."""
    service: RunningService = await open_service(batcher, engine)
    return service


@pytest.fixture
async def ticking_service(open_service: Any, ticking_batcher: Batcher) -> RunningService:
    """Over an engine that does what a test asks for."""
    service: RunningService = await open_service(ticking_batcher, NullEmbedder())
    return service
