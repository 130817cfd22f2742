"""Ingest behind a real gRPC connection, and its parser with real child processes."""

from collections.abc import AsyncIterator

import grpc
import pytest

from aquifer.ingest.v1.ingest_service_pb2_grpc import (
    IngestServiceStub,
    add_IngestServiceServicer_to_server,
)
from ingest.parsing.parser import Parser, ParserLimits
from services.ingest.tests.conftest import Rig

from .doors import Client, Tokens, guarded_server


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[Client]:
    tokens = Tokens()
    server = await guarded_server(tokens)
    add_IngestServiceServicer_to_server(rig.wired.rpc, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    target = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(target) as channel:
        yield Client(IngestServiceStub(channel), tokens, rig, target)
    await server.stop(1)


@pytest.fixture
def parser() -> Parser:
    """Not entered: a document gets its own child, and none is started for a next one."""
    return Parser(ParserLimits())
