"""Work that a process repeats for as long as it runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from chassis.base.errors import ServiceError
from chassis.process.process import Loop

log = logging.getLogger(__name__)

PAUSE_MIN_S: Final = 0.5


def make_loop(
    pause_s: float, work: Callable[[], Awaitable[object]], *, wake: asyncio.Event | None = None
) -> Loop:
    """Makes a loop that repeats work, also after a round in which a dependency was unavailable.

    `wake` ends a pause, but not before `PAUSE_MIN_S`.
    """
    awake = wake or asyncio.Event()

    async def loop() -> None:
        while True:
            awake.clear()
            try:
                await work()
            except ServiceError as error:
                log.warning(
                    "work.waiting",
                    extra={
                        "work": getattr(work, "__name__", type(work).__name__),
                        "reason": error.reason,
                    },
                )
            await asyncio.sleep(min(pause_s, PAUSE_MIN_S))
            with suppress(TimeoutError):
                await asyncio.wait_for(awake.wait(), pause_s)

    return loop
