"""Joins small pieces of an answer, because every message on the wire has a price."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from inference.generation import ReasoningDelta, Step, TextDelta

# A message costs 0.1 ms of processor time; a reader notices nothing below 10 ms.
WINDOW_S = 0.010
# So many steps may wait for a reader that is slower than the engine.
STEPS_MAX = 256

# A step, the error that the engine failed with, or the end.
_Item = Step | Exception | None


async def coalesce(
    steps: AsyncGenerator[Step, None], window_s: float = WINDOW_S
) -> AsyncGenerator[Sequence[Step], None]:
    """The steps in the same order, in packs of what came within a window; texts are joined.

    The first pack is sent without waiting. Closing the generator closes `steps`.
    """
    ready: asyncio.Queue[_Item] = asyncio.Queue(STEPS_MAX)

    async def pump() -> None:
        try:
            async with aclosing(steps):
                async for step in steps:
                    await ready.put(step)
        except Exception as error:  # noqa: BLE001  (raised where the steps are read)
            await ready.put(error)
        else:
            await ready.put(None)

    pumping = asyncio.create_task(pump())
    try:
        next_s = time.monotonic()
        while True:
            first = await ready.get()
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            pack, last = _take(ready, first)
            if pack:
                yield list(_join(pack))
            if isinstance(last, Exception):
                raise last
            if last is None:
                return
            next_s = time.monotonic() + window_s
    finally:
        pumping.cancel()
        await asyncio.wait([pumping])


def _take(ready: asyncio.Queue[_Item], first: _Item) -> tuple[list[Step], _Item]:
    """The steps that are there, and the last item: one of them, or the end."""
    pack, last = [], first
    while isinstance(last, Step):
        pack.append(last)
        if ready.empty():
            break
        last = ready.get_nowait()
    return pack, last


def _join(steps: Sequence[Step]) -> Iterator[Step]:
    """Neighbouring texts of the same kind as one."""
    held: TextDelta | ReasoningDelta | None = None
    for step in steps:
        if held is not None and type(step) is type(held):
            assert isinstance(step, TextDelta | ReasoningDelta)
            held = type(held)(held.text + step.text)
            continue
        if held is not None:
            yield held
        held = step if isinstance(step, TextDelta | ReasoningDelta) else None
        if held is None:
            yield step
    if held is not None:
        yield held
