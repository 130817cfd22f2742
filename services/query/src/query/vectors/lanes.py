"""Thread pools with bounded queues, for an engine that blocks."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, TypeVar

from prometheus_client import Gauge

from chassis.base.errors import DeadlineError, OverloadedError
from chassis.base.metrics import REGISTRY

T = TypeVar("T")

CALLS: Final = Gauge(
    "aquifer_vector_calls",
    "Calls that run or wait in the vector process, by lane: read or write.",
    ("lane",),
    registry=REGISTRY,
)


class Lane:
    """A pool of threads that takes at most `held_max` calls, including running ones.

    If the caller is cancelled, for example by its deadline, a waiting call never starts; a running
    one is finished and its result is dropped.
    """

    def __init__(self, name: str, *, threads: int, held_max: int, wait_max_s: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._held_max = held_max
        self._wait_max_s = wait_max_s
        self._held = 0
        self._ended_at = time.monotonic()
        self._calls = CALLS.labels(name)

    @property
    def idle_s(self) -> float:
        """Seconds since the last call ended; 0 while there is one."""
        return 0.0 if self._held else time.monotonic() - self._ended_at

    async def run(self, call: Callable[[], T]) -> T:
        """Run `call` in a thread of the lane, in the context of the caller.

        Raises:
            OverloadedError: VECTORS_BUSY, the lane is full.
            DeadlineError: VECTORS_SLOW, the call took longer than the lane allows.
        """
        if self._held >= self._held_max:
            raise OverloadedError(
                "VECTORS_BUSY",
                "too many calls wait for the vector engine; retry later",
                waiting=self._held,
            )
        loop = asyncio.get_running_loop()
        self._held += 1
        self._calls.inc()
        future = self._pool.submit(copy_context().run, call)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await self._wait_for(future)

    def close(self) -> None:
        """Finish running calls and drop waiting ones; blocks until the longest call ends."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _wait_for(self, future: Future[T]) -> T:
        try:
            async with asyncio.timeout(self._wait_max_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise DeadlineError(
                "VECTORS_SLOW",
                "the vector engine took too long; retry later",
                wait_max_s=self._wait_max_s,
            ) from error

    def _release(self) -> None:
        self._held -= 1
        self._calls.dec()
        self._ended_at = time.monotonic()
