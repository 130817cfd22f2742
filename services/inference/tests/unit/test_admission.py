"""Who may use an engine next, and who is refused."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from chassis.base.errors import OverloadedError
from inference.domain import Lane
from inference.engines.admission import WAITING_TIMES, WAITING_TOKENS_MAX, Admission, Demand
from services.inference.tests.deadlines import deadline


class Calls:
    """Calls of an engine; each runs until the test lets the next one end."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.begun: list[str] = []
        self._leave = asyncio.Semaphore(0)
        self.tasks: list[asyncio.Task[None]] = []

    async def add(self, name: str, demand: Demand) -> "asyncio.Task[None]":
        task = asyncio.create_task(self._run(name, demand))
        self.tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def _run(self, name: str, demand: Demand) -> None:
        async with self.admission.enter(demand):
            self.begun.append(name)
            await self._leave.acquire()

    async def end(self, count: int = 1) -> None:
        for _ in range(count):
            self._leave.release()
            for _ in range(4):
                await asyncio.sleep(0)


@pytest.fixture
async def open_calls() -> AsyncIterator[Callable[[int], Calls]]:
    opened: list[Calls] = []

    def open_calls(concurrency: int) -> Calls:
        opened.append(Calls(Admission(f"m-{uuid.uuid4()}", concurrency)))
        return opened[-1]

    yield open_calls
    for calls in opened:
        await calls.end(len(calls.tasks))
        for task in calls.tasks:
            task.cancel()
        await asyncio.gather(*calls.tasks, return_exceptions=True)
        assert calls.admission.running == calls.admission.waiting == 0


async def test_a_tenant_with_many_calls_does_not_delay_another(open_calls):
    calls = open_calls(2)
    for number in range(6):
        await calls.add(f"big {number}", Demand(tenant="big"))
    await calls.add("small", Demand(tenant="small"))
    assert calls.begun == ["big 0", "big 1"]
    await calls.end()
    assert calls.begun[2:] == ["small"]
    await calls.end()
    assert calls.begun[3:] == ["big 2"]


async def test_tenants_take_turns(open_calls):
    calls = open_calls(1)
    await calls.add("first", Demand(tenant="x"))
    for number in range(2):
        for tenant in ("a", "b"):
            await calls.add(f"{tenant}{number}", Demand(tenant=tenant))
    await calls.end(4)
    assert calls.begun == ["first", "a0", "b0", "a1", "b1"]


async def test_interactive_calls_go_before_bulk(open_calls):
    calls = open_calls(1)
    await calls.add("first", Demand(tenant="a", lane=Lane.BULK))
    await calls.add("bulk", Demand(tenant="b", lane=Lane.BULK))
    await calls.add("question", Demand(tenant="a"))
    await calls.end(2)
    assert calls.begun == ["first", "question", "bulk"]


async def test_one_tenant_leaves_places_for_others(open_calls):
    calls = open_calls(2)
    places = WAITING_TIMES * 2
    for number in range(2 + places // 2):
        await calls.add(str(number), Demand(tenant="big"))
    with pytest.raises(OverloadedError, match="of this tenant"):
        async with calls.admission.enter(Demand(tenant="big")):
            pass
    await calls.add("small", Demand(tenant="small"))
    await calls.end()
    assert calls.begun[-1] == "small"


async def test_long_prompts_fill_the_queue_before_its_places_are_taken(open_calls):
    calls = open_calls(2)
    for tenant in ("a", "b", "c"):
        await calls.add(tenant, Demand(tenant=tenant, tokens=WAITING_TOKENS_MAX - 10))
    with pytest.raises(OverloadedError) as refused:
        async with calls.admission.enter(Demand(tenant="d", tokens=11)):
            pass
    assert refused.value.reason == "ENGINE_BUSY"
    await calls.add("short", Demand(tenant="d", tokens=10))
    assert calls.admission.waiting == 2


async def test_a_call_that_would_end_before_its_turn_is_refused_at_once(open_calls):
    calls = open_calls(1)
    calls.admission._mean_s = 2.0
    await calls.add("first", Demand(tenant="a"))
    async with deadline(1.0):
        with pytest.raises(OverloadedError, match="deadline") as refused:
            async with calls.admission.enter(Demand(tenant="b")):
                pass
    assert refused.value.retry_after_s == pytest.approx(2.0)
    async with deadline(3.0):
        await calls.add("second", Demand(tenant="b"))
    assert calls.admission.waiting == 1


async def test_a_caller_that_leaves_gives_its_place_back(open_calls):
    calls = open_calls(1)
    first = await calls.add("first", Demand())
    waiting = await calls.add("second", Demand())
    await calls.add("third", Demand())
    waiting.cancel()
    first.cancel()
    await asyncio.gather(waiting, first, return_exceptions=True)
    await asyncio.sleep(0)
    assert calls.begun == ["first", "third"]


async def test_a_caller_that_leaves_when_its_turn_comes_gives_it_on(open_calls):
    calls = open_calls(1)
    first = await calls.add("first", Demand())
    second = await calls.add("second", Demand())
    await calls.add("third", Demand())
    calls._leave.release()
    while not first.done():
        await asyncio.sleep(0)
        if calls.admission.waiting == 1:
            second.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await second
    for _ in range(4):
        await asyncio.sleep(0)
    assert calls.begun[-1] == "third"
    assert calls.admission.running == 1
