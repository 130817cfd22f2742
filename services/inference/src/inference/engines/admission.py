"""Limits the answers that an engine writes at once, and those that wait for it."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from chassis.base.errors import OverloadedError
from chassis.rpc.server import time_left_s
from inference.domain import Lane
from inference.generation_metrics import ENGINE_REQUESTS

# So many times those that run may wait; one tenant has at most half of these places.
WAITING_TIMES: Final = 4
# Estimated tokens of all prompts that wait.
WAITING_TOKENS_MAX: Final = 2_000_000
# How much of the mean duration is that of the latest call.
_LATEST: Final = 0.1
_RETRY_S: Final = (0.1, 30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a call asks for: its tenant, its lane, and about how many tokens its prompt has."""

    tenant: str = ""
    lane: Lane = Lane.INTERACTIVE
    tokens: int = 0


@dataclass(slots=True, eq=False)
class _Waiting:
    demand: Demand
    turn: "asyncio.Future[None]"


@dataclass(slots=True)
class Admission:
    """At most `concurrency` calls of a model run at once; the others wait.

    Interactive calls go before those in bulk. In a lane the tenant with the fewest running calls
    is next, and of two with equally many the one that waits for its turn longer.
    """

    model: str
    concurrency: int
    running: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)
    _running: Counter[str] = field(default_factory=Counter, init=False)
    _waiting: dict[Lane, dict[str, deque[_Waiting]]] = field(init=False)
    _waiting_tokens: int = field(default=0, init=False)
    _mean_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._waiting = {lane: {} for lane in Lane}

    @asynccontextmanager
    async def enter(self, demand: Demand = Demand()) -> AsyncIterator[None]:
        """Waits for a free place.

        Raises:
            OverloadedError: ENGINE_BUSY, too many wait, or the call would end before its turn.
        """
        if self.running < self.concurrency and not self.waiting:
            self._start(demand)
        else:
            await self._wait(demand)
        started_s = time.monotonic()
        try:
            yield
        finally:
            took_s = time.monotonic() - started_s
            self._mean_s += (_LATEST if self._mean_s else 1.0) * (took_s - self._mean_s)
            self._leave(demand)

    async def _wait(self, demand: Demand) -> None:
        self._refuse_if_full(demand)
        one = _Waiting(demand, asyncio.get_running_loop().create_future())
        self._waiting[demand.lane].setdefault(demand.tenant, deque()).append(one)
        self._count_waiting(1, demand)
        try:
            await one.turn
        except asyncio.CancelledError:
            if one.turn.cancelled():
                self._remove(one)
            else:  # its turn came at the same moment
                self._leave(demand)
            raise

    def _refuse_if_full(self, demand: Demand) -> None:
        places = WAITING_TIMES * self.concurrency
        own = sum(len(self._waiting[lane].get(demand.tenant, ())) for lane in Lane)
        wait_s = self._expect_wait_s(demand, own)
        left_s = time_left_s()
        if self.waiting >= places or self._waiting_tokens + demand.tokens > WAITING_TOKENS_MAX:
            why = f"{self.waiting} calls wait for the engine already"
        elif own >= max(1, places // 2):
            why = f"{own} calls of this tenant wait for the engine already"
        elif left_s is not None and left_s < wait_s:
            why = f"the engine would begin after about {wait_s:.1f} s, past the call's deadline"
        else:
            return
        raise OverloadedError(
            "ENGINE_BUSY",
            why,
            retry_after_s=min(max(wait_s, _RETRY_S[0]), _RETRY_S[1]),
            waiting=self.waiting,
        )

    def _expect_wait_s(self, demand: Demand, own: int) -> float:
        """About how long a call waits: its tenant shares the places with the others that wait."""
        lanes = self._waiting.values() if demand.lane is Lane.BULK else [self._waiting[demand.lane]]
        tenants = {tenant for lane in lanes for tenant in lane} | {demand.tenant}
        before = min(self.waiting, (own + 1) * len(tenants) - 1)
        return (before + 1) * self._mean_s / self.concurrency

    def _start(self, demand: Demand) -> None:
        self.running += 1
        self._running[demand.tenant] += 1
        self._show()

    def _leave(self, demand: Demand) -> None:
        self.running -= 1
        self._running[demand.tenant] -= 1
        self._running += Counter()  # without tenants that have none
        if (one := self._choose()) is not None:
            self._remove(one)
            self._start(one.demand)
            one.turn.set_result(None)
        self._show()

    def _choose(self) -> _Waiting | None:
        """The next call; tenants are in the order in which they were last served."""
        for lane in (Lane.INTERACTIVE, Lane.BULK):
            if tenants := self._waiting[lane]:
                return tenants[min(tenants, key=lambda tenant: self._running[tenant])][0]
        return None

    def _remove(self, one: _Waiting) -> None:
        tenants = self._waiting[one.demand.lane]
        calls = tenants.pop(one.demand.tenant)
        calls.remove(one)
        if calls:
            tenants[one.demand.tenant] = calls  # at the end
        self._count_waiting(-1, one.demand)

    def _count_waiting(self, calls: int, demand: Demand) -> None:
        self.waiting += calls
        self._waiting_tokens += calls * demand.tokens
        self._show()

    def _show(self) -> None:
        ENGINE_REQUESTS.labels(self.model, "waiting").set(self.waiting)
        ENGINE_REQUESTS.labels(self.model, "running").set(self.running)
