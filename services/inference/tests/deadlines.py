"""A deadline, as a call of gRPC brings it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.rpc import server


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """As within a call that ends so soon."""
    token = server._deadline.set(asyncio.get_running_loop().time() + seconds)
    try:
        yield
    finally:
        server._deadline.reset(token)
