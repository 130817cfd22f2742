"""Limits the answers that an engine writes at once, and those that wait for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from chassis.base.errors import OverloadedError
from inference.generation_metrics import ENGINE_REQUESTS

# So many times those that run may wait.
WAITING_TIMES: Final = 4


@dataclass(slots=True)
class Admission:
    """At most `concurrency` calls of a model run at once; `WAITING_TIMES` as many wait in order."""

    model: str
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
        self._add(waiting=1)
        try:
            await self._slots.acquire()
        finally:
            self._add(waiting=-1)
        self._add(running=1)
        try:
            yield
        finally:
            self._add(running=-1)
            self._slots.release()

    def _add(self, *, waiting: int = 0, running: int = 0) -> None:
        self.waiting += waiting
        self.running += running
        ENGINE_REQUESTS.labels(self.model, "waiting").set(self.waiting)
        ENGINE_REQUESTS.labels(self.model, "running").set(self.running)
