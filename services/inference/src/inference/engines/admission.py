"""Limits the answers that an engine writes at once, and those that wait for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from chassis.base.errors import OverloadedError

# So many times those that run may wait.
WAITING_TIMES: Final = 4


@dataclass(slots=True)
class Admission:
    """At most `concurrency` calls run at once; `WAITING_TIMES` as many wait in order of arrival."""

    concurrency: int
    waiting: int = 0
    running: int = 0
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.concurrency)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Waits for a free place.

        Raises:
            OverloadedError: ENGINE_BUSY.
        """
        if self.waiting >= WAITING_TIMES * self.concurrency:
            raise OverloadedError(
                "ENGINE_BUSY",
                f"{self.waiting} calls wait for the engine already",
                waiting=self.waiting,
            )
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()
