"""Many calls at a time, but not too many."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def run_concurrently(
    work: Callable[[A], Awaitable[B]], arguments: Iterable[A], limit: int
) -> list[B]:
    """`work` on each argument, at most `limit` at a time; results in their order.

    The first failure cancels the others and is raised as it is.
    """
    gate = asyncio.Semaphore(limit)

    async def run_one(argument: A) -> B:
        async with gate:
            return await work(argument)

    async with open_task_group() as group:
        tasks = [group.create_task(run_one(argument)) for argument in arguments]
    return [task.result() for task in tasks]


@asynccontextmanager
async def open_task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose first failure is raised as it is, without a group around it."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
