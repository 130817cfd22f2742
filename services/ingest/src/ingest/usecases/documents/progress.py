"""How many unfinished documents stand before one, and how long it will take.

One query a tick counts what is unfinished, of all tenants and for all watchers; how fast it becomes
finished is seen from the facts of all replicas. What is unknown is not estimated.
"""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ingest.usecases.ports import Sweeper
from ingest.usecases.rows import Line

# The rate is that of the last seconds. Documents become final in batches: a shorter time, or fewer
# of them, says too little.
RATE_S: Final = 20.0
RATE_MIN_S: Final = 3.0
RATE_MIN_COUNT: Final = 10
TENANTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Documents before one, of its tenant and of all, and the time until it is searchable.

    `remaining_s` is None if the rate is not known.
    """

    ahead: int
    ahead_overall: int
    remaining_s: float | None

    def is_news_after(self, told: "Progress | None") -> bool:
        """Whether it differs from what was told by more than a tenth."""
        if told is None or (self.remaining_s is None) != (told.remaining_s is None):
            return True
        return _differ(self.ahead, told.ahead) or _differ(
            self.remaining_s or 0.0, told.remaining_s or 0.0
        )


@dataclass(slots=True, eq=False)
class _Finished:
    """Documents of a tenant that became final: `counts` by second, since `since`."""

    since: float
    counts: deque[tuple[int, int]] = field(default_factory=deque)


@dataclass(slots=True, kw_only=True)
class ProgressEstimates:
    """The unfinished documents as they were last counted, and the rate of each tenant."""

    sweeper: Sweeper
    clock: Callable[[], float] = time.monotonic
    _lines: Mapping[str, Line] = field(default_factory=dict)
    _finished: dict[str, _Finished] = field(default_factory=dict)

    async def measure(self) -> None:
        """Count what is unfinished.

        Raises:
            UnavailableError, OverloadedError, ConflictError: from the database.
        """
        self._lines = await self.sweeper.measure_lines()
        now = self.clock()
        # An idle time must not count as a slow one.
        self._finished = {
            tenant: self._finished.get(tenant) or _Finished(since=now)
            for tenant in list(self._lines)[:TENANTS_MAX]
        }

    def note_finished(self, tenant: str) -> None:
        """Count a document that became final."""
        if (finished := self._finished.get(tenant)) is None:
            return
        second = int(self.clock())
        if finished.counts and finished.counts[-1][0] == second:
            second, count = finished.counts.pop()
            finished.counts.append((second, count + 1))
        else:
            finished.counts.append((second, 1))
        while finished.counts[0][0] < second - RATE_S:
            finished.counts.popleft()

    def find(self, tenant: str, accepted_at: datetime) -> Progress | None:
        """The progress of a document; None if it came after the count."""
        at = accepted_at.timestamp()
        line = self._lines.get(tenant)
        if line is None or at > line.accepted_at[-1]:
            return None
        ahead = _count_before(line, at)
        overall = sum(_count_before(one, at) for one in self._lines.values())
        return self._make(tenant, ahead, overall)

    def find_last(self, tenant: str) -> Progress:
        """The progress of the tenant's last document: of all that it waits for."""
        line = self._lines.get(tenant)
        overall = sum(one.count for one in self._lines.values())
        if line is None:
            return Progress(ahead=0, ahead_overall=overall, remaining_s=0.0)
        return self._make(tenant, line.count, overall)

    def _make(self, tenant: str, ahead: int, overall: int) -> Progress:
        rate = self._rate(tenant)
        remaining_s = (ahead + 1) / rate if rate else None
        return Progress(ahead=ahead, ahead_overall=overall, remaining_s=remaining_s)

    def _rate(self, tenant: str) -> float:
        """Documents a second of a tenant; 0 if it is not known."""
        if (finished := self._finished.get(tenant)) is None:
            return 0.0
        now = self.clock()
        took_s = min(now - finished.since, RATE_S)
        count = sum(count for second, count in finished.counts if second >= now - RATE_S)
        known = took_s >= RATE_MIN_S and count >= RATE_MIN_COUNT
        return count / took_s if known else 0.0


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > 0.1 * max(one, other)


def _count_before(line: Line, at: float) -> int:
    """Documents of a line that were accepted before a time, from the samples of it."""
    share = bisect_left(line.accepted_at, at) / (len(line.accepted_at) - 1)
    return min(round(share * (line.count - 1)), line.count)
