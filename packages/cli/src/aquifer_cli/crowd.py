"""Many calls at a time, but not too many."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def side_by_side(
    work: Callable[[A], Awaitable[B]], arguments: Iterable[A], limit: int
) -> list[B]:
    """`work` on each argument, at most `limit` at a time; results in their order.

    The first failure cancels the others and is raised as it is.
    """
    gate = asyncio.Semaphore(limit)

    async def one(argument: A) -> B:
        async with gate:
            return await work(argument)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(argument)) for argument in arguments]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
