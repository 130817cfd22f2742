"""Runs many calls concurrently, up to a limit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def run_concurrently(
    work: Callable[[A], Awaitable[B]], arguments: Iterable[A], limit: int
) -> list[B]:
    """Calls `work` with each argument, at most `limit` at a time; results are in the same order.

    The first failure cancels the others and is raised unchanged.
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
    """A task group that raises its first failure itself, not an exception group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
