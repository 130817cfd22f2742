"""The groups of events that are being handled: how many, and how many bytes their messages have."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from chassis.events.arrival import Arrival

# With this many bytes of messages in work no more are pulled; a pull brings at most 2 MiB more.
BYTES_MAX = 16 << 20


class RunningGroups:
    """Runs groups; `ended` is called after each. It bounds memory in bytes, not only in events."""

    def __init__(self, groups_max: int, ended: Callable[[], None]) -> None:
        self._groups_max = groups_max
        self._ended = ended
        # With packs, one pull can bring more groups than there may be.
        self._groups: dict[asyncio.Task[None], Sequence[Arrival]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def begin(self, work: Coroutine[Any, Any, None], arrivals: Sequence[Arrival]) -> None:
        """Starts work on the events of these messages and returns at once."""
        task = asyncio.get_running_loop().create_task(work)
        self._groups[task] = arrivals
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._groups.pop(task)
        self._ended()

    @property
    def is_full(self) -> bool:
        """Whether no more events should be pulled now."""
        return len(self._groups) >= self._groups_max or self.size_bytes >= BYTES_MAX

    @property
    def size_bytes(self) -> int:
        """Bytes of the messages in work."""
        return sum(one.size_bytes for one in self.arrivals())

    def arrivals(self) -> set[Arrival]:
        """The messages in work; the events of a pack may be in several groups."""
        return {one for group in self._groups.values() for one in group}

    async def stop(self, grace_s: float) -> None:
        """Waits `grace_s` for the groups, then cancels the rest."""
        if self._groups:
            await asyncio.wait(set(self._groups), timeout=grace_s)
        for task in list(self._groups):
            task.cancel()
        if self._groups:
            await asyncio.wait(set(self._groups), timeout=2.0)
