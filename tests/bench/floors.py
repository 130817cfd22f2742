"""Asks `tests.bench.engines` for a floor, in a process of its own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 600


def ask(name: str, **question: Any) -> dict[str, Any]:
    """Runs one floor in a fresh interpreter."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench.engines", name],
        input=json.dumps(question),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
        # As the stack runs its parts: numpy's threads would only wait for each other here.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        timeout=TIMEOUT_S,
    )
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


async def side_by_side_each(
    work: Callable[[str], Awaitable[Any]], items: Sequence[str], count: int
) -> list[Any]:
    """Results in the order of the items, `count` at a time."""
    gate = asyncio.Semaphore(count)

    async def one(item: str) -> Any:
        async with gate:
            return await work(item)

    return list(await asyncio.gather(*map(one, items)))
