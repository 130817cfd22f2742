"""The state of the parts of a stack that are not services: broker, database, stores."""

import asyncio
import json
import shutil
import struct
import urllib.request
from collections.abc import Mapping
from typing import Any, TypedDict
from urllib.error import URLError

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from aquifer_cli.endpoints import Endpoints

SERVERS = ("nats", "postgres", "vectors", "traces")
ASK_S = 2.0
DISK_LOW_BYTES = 1 << 30
# PostgreSQL's SSLRequest, which is answered without a login.
_TLS_REQUEST = struct.pack("!ii", 8, 80_877_103)
_FAILURES = (OSError, URLError, ValueError, TimeoutError, grpc.RpcError, EOFError)


class Server(TypedDict):
    """A part that is not a service; None means unknown."""

    part: str
    address: str
    ready: bool | None
    version: str | None
    not_ready: list[str]
    disk_free_bytes: int | None
    store_bytes: int | None
    store_max_bytes: int | None


async def gather(endpoints: Endpoints) -> list[Server]:
    """Asks every part at the same time, within `ASK_S`; only for a stack on this machine."""
    free = await asyncio.to_thread(_disk_free, endpoints.data_dir)
    return list(await asyncio.gather(*(_ask(endpoints, part, free) for part in SERVERS)))


async def _ask(endpoints: Endpoints, part: str, disk_free_bytes: int | None) -> Server:
    address = endpoints.parts.get(part, "")
    server = Server(
        part=part,
        address=address,
        ready=None,
        version=None,
        not_ready=[],
        disk_free_bytes=disk_free_bytes if address else None,
        store_bytes=None,
        store_max_bytes=None,
    )
    if not address:
        server["not_ready"] = ["unknown: this command can only ask the parts of `aquifer up`"]
        return server
    try:
        async with asyncio.timeout(ASK_S):
            match part:
                case "nats":
                    await _ask_nats(address, server)
                case "postgres":
                    await _ask_postgres(address)
                case "vectors":
                    await _ask_health(address)
                case _:
                    await asyncio.to_thread(_get, f"{address}/ready")
    except _FAILURES as error:
        server["ready"] = False
        server["not_ready"] = [f"does not answer ({type(error).__name__})"]
    else:
        server["ready"] = True
    if disk_free_bytes is not None and disk_free_bytes < DISK_LOW_BYTES:
        server["not_ready"].append("its disk is nearly full")
    return server


async def _ask_nats(address: str, server: Server) -> None:
    await asyncio.to_thread(_get, f"{address}/healthz")
    known: Mapping[str, Any] = json.loads(await asyncio.to_thread(_get, f"{address}/varz"))
    server["version"] = known.get("version")
    jetstream = known.get("jetstream", {})
    server["store_bytes"] = jetstream.get("stats", {}).get("storage")
    server["store_max_bytes"] = jetstream.get("config", {}).get("max_storage")


async def _ask_postgres(address: str) -> None:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(_TLS_REQUEST)
        await reader.readexactly(1)
    finally:
        writer.close()


async def _ask_health(address: str) -> None:
    """Checks that the gRPC health of the server is SERVING."""
    async with grpc.aio.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        answer = await check(HealthCheckRequest(), timeout=ASK_S)
    if answer.status != HealthCheckResponse.SERVING:
        raise ValueError("not serving")


def _get(url: str) -> bytes:
    request = urllib.request.Request(url)  # noqa: S310  (from our own endpoints.json)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=ASK_S) as answer:
        body: bytes = answer.read(1 << 20)
        return body


def _disk_free(folder: str) -> int | None:
    """Free bytes in the data folder of the stack; None if unknown."""
    if not folder:
        return None
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
