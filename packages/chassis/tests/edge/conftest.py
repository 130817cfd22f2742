"""A real server on loopback whose four methods, one of each arity, do what a test asks for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.base.telemetry import ScopeProcessor
from chassis.identity.revocations import Revocations
from chassis.identity.tokens import Verifier
from chassis.rpc.channel import open_channel
from chassis.rpc.server import PUBLIC, any_of, create_server, server_interceptors

# For what comes in a moment, also on a machine that is slow.
WAIT_S = 20.0
ECHO = "chassis.tests.v1.EchoService"
ARITIES = ("Unary", "Download", "Upload", "Chat")
ACCESS = {f"{ECHO}/{name}": any_of("echo", "internal") for name in ARITIES} | {
    f"{ECHO}/Open": PUBLIC
}


def _declare() -> None:
    """Make the service known to the descriptor pool, as a generated module would."""
    file = descriptor_pb2.FileDescriptorProto(
        name="chassis/tests/v1/echo.proto",
        package="chassis.tests.v1",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    service = file.service.add(name="EchoService")
    for name in (*ARITIES, "Open"):
        service.method.add(
            name=name,
            input_type=".google.protobuf.StringValue",
            output_type=".google.protobuf.StringValue",
            client_streaming=name in {"Upload", "Chat"},
            server_streaming=name in {"Download", "Chat"},
        )
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


_declare()


class Echo:
    """Gives back what it was sent, or does what `does` says instead."""

    def __init__(self) -> None:
        self.does: Callable[[], Any] | None = None
        self.calls = 0
        self.context: Any = None
        self.parts: Callable[[str], Iterable[str]] = str.split
        self.sent = 0
        self.closed = asyncio.Event()
        self.closed_inside_call = False

    async def _work(self, context: Any) -> Any:
        self.calls += 1
        self.context = context
        return None if self.does is None else await self.does()

    async def single(self, request: StringValue, context: Any) -> StringValue:
        return await self._work(context) or StringValue(value=request.value)

    async def download(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        try:
            for part in self.parts(request.value):
                self.sent += 1
                yield StringValue(value=part)
            await self._work(context)
        finally:
            self.closed_inside_call = trace.get_current_span().is_recording()
            self.closed.set()

    async def upload(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        parts = [request.value async for request in requests]
        return await self._work(context) or StringValue(value=" ".join(parts))

    async def chat(
        self, requests: AsyncIterator[StringValue], context: Any
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield StringValue(value=request.value)
        await self._work(context)

    def handlers(self) -> dict[str, Any]:
        codec = (StringValue.FromString, StringValue.SerializeToString)
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.single, *codec),
            "Open": grpc.unary_unary_rpc_method_handler(self.single, *codec),
            "Download": grpc.unary_stream_rpc_method_handler(self.download, *codec),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload, *codec),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat, *codec),
        }


class Mint:
    """Signs what auth would sign, or anything else."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.kid = "key-1"

    def jwks(self) -> str:
        public = jwt.algorithms.OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": self.kid, "alg": "EdDSA", "use": "sig"}]})

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        return {
            "iss": "aquifer.auth",
            "aud": "aquifer",
            "sub": "user:ada",
            "tenant": "acme",
            "key": "k1",
            "scope": "echo",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
        } | changes

    def token(
        self, *, typ: str = "at+jwt", kid: str | None = None, signer: Any = None, **changes: Any
    ) -> str:
        present = {k: v for k, v in self.claims(**changes).items() if v is not None}
        header = {"typ": typ, "kid": kid or self.kid}
        return jwt.encode(present, signer or self.private, algorithm="EdDSA", headers=header)


@dataclass
class World:
    """The server, what it is made of, and plain or sibling-style clients of it."""

    echo: Echo
    mint: Mint
    verifier: Verifier
    revocations: Revocations
    spans: InMemorySpanExporter
    tracer: Any
    stack: AsyncExitStack
    port: int = 0
    server: grpc.aio.Server | None = None
    health: Any = None
    jwks_fetched: list[float] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def plain(self) -> grpc.aio.Channel:
        """Connected, so that no deadline of a call pays for it."""
        channel = await self.stack.enter_async_context(grpc.aio.insecure_channel(self.address))
        async with asyncio.timeout(WAIT_S):
            await channel.channel_ready()
        return channel

    async def open_channel(self, **options: Any) -> grpc.aio.Channel:
        channel = open_channel(self.address, service="echo", tracer=self.tracer, **options)
        return await self.stack.enter_async_context(channel)

    def bearer(self, **changes: Any) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.mint.token(**changes)}")]

    def stub(self, channel: Any, method: str) -> Any:
        """A multi-callable as a generated stub would make it."""
        make = {
            "Download": channel.unary_stream,
            "Upload": channel.stream_unary,
            "Chat": channel.stream_stream,
        }.get(method, channel.unary_unary)
        return make(
            f"/{ECHO}/{method}",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )

    async def call(self, channel: Any, method: str, text: str = "a b", **options: Any) -> str:
        """One call of any arity; the received text, words joined by blanks."""
        options.setdefault("timeout", WAIT_S)

        async def parts() -> AsyncIterator[StringValue]:
            for part in text.split():
                yield StringValue(value=part)

        request = parts() if method in {"Upload", "Chat"} else StringValue(value=text)
        answer = self.stub(channel, method)(request, **options)
        if method in {"Download", "Chat"}:
            return " ".join([message.value async for message in answer])
        value: str = (await answer).value
        return value

    async def failure(self, answer: Awaitable[Any]) -> tuple[str, Status]:
        """The code's name and the rich status of a call that must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await answer
        status = rpc_status.from_call(failed.value)
        assert status is not None, failed.value
        return failed.value.code().name, status

    async def finished_spans(self, method: str = "") -> dict[str, ReadableSpan]:
        """Finished spans by kind; waits for the server, which ends its own after the client."""
        async with asyncio.timeout(WAIT_S):
            while True:
                spans = self.spans.get_finished_spans()
                found = {span.kind.name: span for span in spans if method in span.name}
                if "SERVER" in found:
                    return found
                await asyncio.sleep(0.02)


@pytest.fixture
def mint() -> Mint:
    return Mint()


@pytest.fixture
async def edge(mint: Mint) -> AsyncIterator[World]:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ScopeProcessor())
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("test")
    fetched: list[float] = []

    async def jwks() -> str:
        fetched.append(time.monotonic())
        return mint.jwks()

    verifier = Verifier(jwks)
    await verifier.load()
    revocations = Revocations(bus_connected=lambda: True)
    revocations.mark_polled(time.monotonic())
    async with AsyncExitStack() as stack:
        edge = World(
            Echo(), mint, verifier, revocations, spans, tracer, stack, jwks_fetched=fetched
        )
        interceptors = server_interceptors("echo", verifier, revocations, ACCESS, tracer=tracer)
        edge.server, edge.health = await create_server(interceptors, ACCESS)
        handlers = edge.echo.handlers()
        edge.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(ECHO, handlers),)
        )
        edge.port = edge.server.add_insecure_port("127.0.0.1:0")
        await edge.server.start()
        stack.push_async_callback(edge.server.stop, 0)
        yield edge


@pytest.fixture(params=ARITIES)
def arity(request: pytest.FixtureRequest) -> str:
    return str(request.param)
