"""Whether work grows as its input does, in processor time: a busy machine stretches the clock."""

import gc
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
TIMES = 4
# Linear is 4 and quadratic 16. Under the slack both are too short to be distinguished.
GROWTH_MAX = 8
SLACK_S = 0.1
TRIES = 3


def cpu_s(work: Callable[[T], object], on: T) -> float:
    """Without the garbage collector: what it takes depends on all else that this process holds."""
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        work(on)
        return time.process_time() - started
    finally:
        gc.enable()


def assert_linear(work: Callable[[T], object], make: Callable[[int], T], size: int) -> None:
    """Of `size` and a quarter of it; tried again, since a neighbour may spoil a cache."""
    small, large = make(size // TIMES), make(size)
    seen = []
    for _ in range(TRIES):
        seen.append((cpu_s(work, small), cpu_s(work, large)))
        if seen[-1][1] < GROWTH_MAX * seen[-1][0] + SLACK_S:
            return
    raise AssertionError(f"seconds for a quarter and the whole: {seen}")
