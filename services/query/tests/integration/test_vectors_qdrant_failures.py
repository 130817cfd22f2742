"""What the Qdrant adapter makes of a server that fails: real connections, canned answers."""

import asyncio
import json
import socket
import uuid
from contextlib import asynccontextmanager

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from chassis.base.errors import (
    FailedPreconditionError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from query.retrieval.lexical import SparseVector
from query.retrieval.vector_store import Point, TenantScope
from query.vectors import qdrant
from query.vectors.qdrant import QdrantVectors

ACME = TenantScope("acme")
POINT = Point(
    point_id=str(uuid.UUID(int=1)),
    document="collections/c/documents/d",
    version=1,
    ordinal=0,
    dense=np.ones(2, dtype=np.float32),
    sparse=SparseVector((), ()),
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def serve_answer(status: str, body: object, headers: str = "", *, hangs: bool = False):
    """A store whose server gives every request the same answer, or none."""
    over = asyncio.Event()
    connections: list[asyncio.Task[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        if hangs:
            await over.wait()
        sent = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        head += f"Content-Length: {len(sent)}\r\n{headers}\r\n"
        writer.write(head.encode() + sent)
        writer.close()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = AsyncQdrantClient(url=f"http://127.0.0.1:{port}", check_compatibility=False)
    try:
        yield QdrantVectors(client, profile="p", dimensions=2, new_id=uuid.uuid4)
    finally:
        over.set()
        await client.close()
        server.close()
        await asyncio.gather(*connections)


async def failure(store: QdrantVectors) -> ServiceError:
    with pytest.raises(ServiceError) as failed:
        await store.count(ACME)
    return failed.value


async def test_a_server_in_trouble_is_unavailable():
    async with serve_answer("503 Service Unavailable", {"status": {"error": "starting"}}) as store:
        failed = await failure(store)
    assert isinstance(failed, UnavailableError)
    assert failed.reason == "VECTORS_UNAVAILABLE"


async def test_a_lost_collection_is_told_apart():
    async with serve_answer("404 Not Found", {"status": {"error": "no collection"}}) as store:
        failed = await failure(store)
    assert isinstance(failed, UnavailableError)
    assert failed.reason == "VECTORS_STORE_MISSING"


async def test_a_server_that_sheds_load_says_when_to_come_back():
    busy = {"status": {"error": "busy"}}
    async with serve_answer("429 Too Many Requests", busy, "Retry-After: 7\r\n") as store:
        failed = await failure(store)
    assert isinstance(failed, OverloadedError)
    assert failed.retry_after_s == 7


async def test_a_server_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(qdrant, "READ_TIMEOUT_S", 0.1)
    async with serve_answer("200 OK", {}, hangs=True) as store:
        failed = await failure(store)
    assert failed.reason == "VECTORS_UNAVAILABLE"


@pytest.mark.parametrize("status", ["acknowledged", "wait_timeout"])
async def test_a_write_that_is_not_finished_is_not_acknowledged(status):
    result = {"result": {"operation_id": 1, "status": status}, "status": "ok", "time": 0}
    async with serve_answer("200 OK", result) as store:
        with pytest.raises(UnavailableError):
            await store.upsert(ACME, [POINT])


async def test_an_old_server_is_refused():
    async with serve_answer("200 OK", {"title": "qdrant", "version": "1.18.3"}) as store:
        with pytest.raises(FailedPreconditionError) as refused:
            await store.prepare()
    assert refused.value.reason == "QDRANT_TOO_OLD"


async def test_nobody_there_is_unavailable():
    port = free_port()
    for client in (
        AsyncQdrantClient(url=f"http://127.0.0.1:{port}", check_compatibility=False),
        qdrant.open_client(f"http://127.0.0.1:{port}", grpc_port=port),
    ):
        failed = await failure(QdrantVectors(client, profile="p", dimensions=2, new_id=uuid.uuid4))
        assert failed.reason == "VECTORS_UNAVAILABLE"
        await client.close()
