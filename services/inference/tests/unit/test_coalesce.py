"""Small pieces travel together; nothing is lost, and nothing waits without need."""

import asyncio
import time

import pytest

from chassis.base.errors import UnavailableError
from inference.coalesce import STEPS_MAX, coalesce
from inference.generation import CitationMark, ReasoningDelta, TextDelta

MARK = CitationMark(passage=0, marker="[1]")


async def pieces(*steps, pause_s=0.0, error=None, closed=None):
    try:
        for step in steps:
            await asyncio.sleep(pause_s)
            yield step
        if error:
            raise error
    finally:
        if closed is not None:
            closed.set()


async def test_neighbours_of_a_kind_are_joined_in_order():
    given = [
        *(TextDelta("a"), TextDelta("b"), MARK, TextDelta("c"), TextDelta("d")),
        *(ReasoningDelta("e"), ReasoningDelta("f"), TextDelta("g")),
    ]
    steps = [step async for pack in coalesce(pieces(*given)) for step in pack]
    joined = "".join(step.text for step in steps if isinstance(step, TextDelta))
    assert joined == "abcdg"
    assert steps.count(MARK) == 1
    assert len(steps) < len(given)


async def test_the_first_piece_does_not_wait():
    started = time.monotonic()
    packs = coalesce(pieces(TextDelta("a"), TextDelta("b"), pause_s=0.001), window_s=30)
    assert await anext(packs) == [TextDelta("a")]
    assert time.monotonic() - started < 10
    await packs.aclose()


async def test_many_small_pieces_become_few_packs():
    steps = [TextDelta("x")] * 200
    packs = [pack async for pack in coalesce(pieces(*steps, pause_s=0.001), window_s=0.05)]
    assert sum(len(step.text) for pack in packs for step in pack) == 200
    assert len(packs) < 50


async def test_an_error_comes_after_everything_before_it():
    packs = coalesce(pieces(TextDelta("a"), MARK, error=UnavailableError("ENGINE_FAILED", "x")))
    got = []
    with pytest.raises(UnavailableError):
        async for pack in packs:
            got += pack
    assert got == [TextDelta("a"), MARK]


async def test_leaving_closes_the_engine_even_while_it_waits_for_room():
    closed = asyncio.Event()
    packs = coalesce(pieces(*[MARK] * (STEPS_MAX * 3), closed=closed))
    await anext(packs)
    await asyncio.sleep(0.02)
    await asyncio.wait_for(packs.aclose(), 10)
    await asyncio.wait_for(closed.wait(), 10)


async def test_a_cancelled_reader_closes_the_engine():
    closed, got = asyncio.Event(), asyncio.Event()

    async def read():
        async for _ in coalesce(pieces(*[MARK] * 1_000, pause_s=0.01, closed=closed)):
            got.set()

    reading = asyncio.ensure_future(read())
    await got.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await asyncio.wait_for(closed.wait(), 10)
