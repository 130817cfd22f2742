import asyncio
import threading

import pytest

from chassis.base.errors import DeadlineError, OverloadedError
from query.vectors.lanes import Lane


@pytest.fixture
def gate():
    """Holds calls until it is opened; opened for good at the end."""
    opened = threading.Event()
    yield opened
    opened.set()


def hold(gate: threading.Event) -> None:
    assert gate.wait(60)


async def started(lane: Lane, gate: threading.Event, number: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.ensure_future(lane.run(lambda: hold(gate))) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_a_full_lane_sheds_load_and_recovers(gate):
    lane = Lane("t", threads=1, held_max=3, wait_max_s=60)
    tasks = await started(lane, gate, 3)
    with pytest.raises(OverloadedError) as refused:
        await lane.run(lambda: None)
    assert refused.value.reason == "VECTORS_BUSY"
    gate.set()
    await asyncio.gather(*tasks)
    assert await lane.run(lambda: 7) == 7
    lane.close()


async def test_a_call_given_up_while_it_waits_never_starts(gate):
    lane = Lane("t", threads=1, held_max=3, wait_max_s=60)
    tasks = await started(lane, gate, 1)
    ran = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await lane.run(ran.set)
    gate.set()
    await asyncio.gather(*tasks)
    await lane.run(lambda: None)
    assert not ran.is_set()
    lane.close()


async def test_a_call_given_up_while_it_runs_keeps_its_place_until_it_ends(gate):
    lane = Lane("t", threads=1, held_max=1, wait_max_s=0.5)
    begun = threading.Event()

    def work() -> None:
        begun.set()
        hold(gate)

    with pytest.raises(DeadlineError) as late:
        await lane.run(work)
    assert begun.is_set()
    assert late.value.reason == "VECTORS_SLOW"
    with pytest.raises(OverloadedError):
        await lane.run(lambda: None)
    gate.set()
    async with asyncio.timeout(20):
        while lane._held:
            await asyncio.sleep(0.01)
    assert await lane.run(lambda: 7) == 7
    lane.close()


async def test_failures_reach_the_caller():
    lane = Lane("t", threads=1, held_max=1, wait_max_s=10)

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await lane.run(fail)
    lane.close()


async def test_a_lane_is_idle_from_the_end_of_its_last_call(gate):
    lane = Lane("t", threads=1, held_max=3, wait_max_s=60)
    tasks = await started(lane, gate, 2)
    assert lane.idle_s == 0
    gate.set()
    await asyncio.gather(*tasks)
    async with asyncio.timeout(60):
        while lane.idle_s == 0:
            await asyncio.sleep(0)
    lane.close()
