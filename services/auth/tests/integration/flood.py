"""A client that exchanges wrong keys without pause, as a process of its own.

    python flood.py HOST:PORT KIND CONNECTIONS OUTSTANDING

Ends by a signal only. Prints `started`, once every connection has had an answer.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace

import grpc

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from auth.keys import new_key

PATIENCE_S = 30.0


def make_unknown_key() -> str:
    """A key that only the database can refuse."""
    return new_key().reveal()


def make_mistyped_key() -> str:
    """A key whose checksum is wrong."""
    key = new_key()
    return f"{key.reveal()[:-6]}{replace(key, secret=key.secret[::-1]).reveal()[-6:]}"


def make_shapeless_key() -> str:
    """The longest text a request can hold besides its frame, and no key at all."""
    return "aqf_" + "x" * 64_000


KINDS: dict[str, Callable[[], str]] = {
    "unknown": make_unknown_key,
    "mistyped": make_mistyped_key,
    "shapeless": make_shapeless_key,
}


async def flood(address: str, make_key: Callable[[], str], connections: int, outstanding: int):
    answered = [asyncio.Event() for _ in range(connections)]
    options = [("grpc.use_local_subchannel_pool", 1)]

    async def exchange(stub: AuthServiceStub, key: pb.ExchangeTokenRequest, one: asyncio.Event):
        while True:
            try:
                await stub.ExchangeToken(key, timeout=PATIENCE_S)
            except grpc.aio.AioRpcError:
                one.set()

    async with asyncio.TaskGroup() as tasks:
        for one in answered:
            stub = AuthServiceStub(grpc.aio.insecure_channel(address, options=options))
            for _ in range(outstanding):
                request = pb.ExchangeTokenRequest(api_key=make_key())
                tasks.create_task(exchange(stub, request, one))
        for one in answered:
            await one.wait()
        print("started", flush=True)  # noqa: T201


if __name__ == "__main__":
    where, kind, *numbers = sys.argv[1:]
    asyncio.run(flood(where, KINDS[kind], *map(int, numbers)))
