"""Who waits for an exchange, for how long, and who has to give way."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from auth.usecases.fair_semaphore import FairSemaphore
from chassis.base.errors import OverloadedError

ONE, OTHER = "ipv4:10.0.0.1", "ipv6:[2001:db8::2]"


class Callers:
    """Callers that each keep their place until `serve` ends them."""

    def __init__(self, tasks: asyncio.TaskGroup, **limits: float) -> None:
        chosen = {"at_once": 1, "waiting_max": 8, "waiting_max_per_connection": 4, "wait_s": 30.0}
        self.semaphore = FairSemaphore(**(chosen | limits))  # type: ignore[arg-type]
        self.served: list[str] = []
        self.refused: list[str] = []
        self._tasks = tasks
        self._next = asyncio.Semaphore(0)

    async def come(self, peer: str) -> asyncio.Task[None]:
        task = self._tasks.create_task(self._call(peer))
        await settle()
        return task

    async def serve(self, number: int) -> list[str]:
        """Releases the places of so many callers; returns their peers."""
        before = len(self.served)
        for _ in range(number):
            self._next.release()
            await settle()
        return self.served[before:]

    async def _call(self, peer: str) -> None:
        try:
            async with self.semaphore.acquire(peer):
                await self._next.acquire()
                self.served.append(peer)
        except OverloadedError as error:
            self.refused.append(peer if error.reason == "EXCHANGES_OPEN" else error.reason)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@contextmanager
def check_nobody_left(callers: Callers) -> Iterator[None]:
    yield
    assert callers.semaphore._running == callers.semaphore._waiting == 0
    assert not callers.semaphore._queues


async def test_connections_and_addresses_take_turns() -> None:
    async with asyncio.TaskGroup() as tasks:
        callers = Callers(tasks)
        with check_nobody_left(callers):
            for peer in (f"{ONE}:1",) * 4 + (f"{ONE}:2", f"{ONE}:2", f"{OTHER}:1"):
                await callers.come(peer)
            assert await callers.serve(7) == [
                f"{ONE}:1",
                f"{ONE}:1",
                f"{OTHER}:1",
                f"{ONE}:2",
                f"{ONE}:1",
                f"{ONE}:2",
                f"{ONE}:1",
            ]


async def test_a_connection_has_a_bounded_number_of_waiting_callers() -> None:
    async with asyncio.TaskGroup() as tasks:
        callers = Callers(tasks)
        with check_nobody_left(callers):
            for _ in range(7):
                await callers.come(f"{ONE}:1")
            assert callers.refused == [f"{ONE}:1"] * 2
            assert len(await callers.serve(5)) == 5


@pytest.mark.parametrize("newcomer", [f"{OTHER}:1", f"{ONE}:3", "unix:"])
async def test_when_all_places_are_taken_those_who_have_most_give_way(newcomer: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        callers = Callers(tasks)
        with check_nobody_left(callers):
            for _ in range(5):
                await callers.come(f"{ONE}:1")
            for _ in range(4):
                await callers.come(f"{ONE}:2")
            await callers.come(newcomer)
            assert len(callers.refused) == 1
            assert callers.refused[0] != newcomer
            assert newcomer in await callers.serve(4)
            await callers.serve(5)


async def test_nobody_gives_way_to_one_who_has_as_many() -> None:
    async with asyncio.TaskGroup() as tasks:
        callers = Callers(tasks, waiting_max=2)
        with check_nobody_left(callers):
            for number in range(4):
                await callers.come(f"{ONE}:{number}")
            await callers.come(f"{OTHER}:1")
            assert callers.refused == [f"{ONE}:3", f"{ONE}:1"]
            await callers.come(f"{OTHER}:2")
            assert callers.refused[2:] == [f"{OTHER}:2"]
            await callers.serve(3)


async def test_a_caller_who_waits_too_long_is_refused() -> None:
    async with asyncio.TaskGroup() as tasks:
        callers = Callers(tasks, wait_s=0.05)
        with check_nobody_left(callers):
            await callers.come(f"{ONE}:1")
            await (await callers.come(f"{OTHER}:1"))
            assert callers.refused == [f"{OTHER}:1"]
            await callers.serve(1)


async def test_a_caller_who_dequeues_passes_its_turn_on() -> None:
    async with asyncio.TaskGroup() as tasks:
        callers = Callers(tasks)
        with check_nobody_left(callers):
            first = await callers.come(f"{ONE}:1")
            waiting = await callers.come(f"{ONE}:1")
            await callers.come(f"{OTHER}:1")
            waiting.cancel()
            first.cancel()
            await settle()
            assert await callers.serve(1) == [f"{OTHER}:1"]


async def test_a_turn_that_comes_to_one_who_dequeues_at_once_is_not_lost() -> None:
    async with asyncio.TaskGroup() as tasks:
        callers = Callers(tasks)
        with check_nobody_left(callers):
            await callers.come(f"{ONE}:1")
            waiting = await callers.come(f"{ONE}:2")
            await callers.come(f"{OTHER}:1")
            callers._next.release()
            while not callers.served:  # the turn is passed on in this step of the loop
                await asyncio.sleep(0)
            waiting.cancel()
            await settle()
            assert await callers.serve(1) == [f"{OTHER}:1"]
