"""A bounded number of slots, shared fairly between tenants."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple


class _Turn(NamedTuple):
    size: int
    granted: "asyncio.Future[None]"


class FairSlots:
    """At most `total` slots, at most `each` of them for one tenant.

    Waiting tenants take turns, however many calls of each wait. A call may need several slots, such
    as one for each byte. If it needs more than there are, it gets them when its tenant, or nobody,
    has any. While a call waits for others to leave, none that came later overtakes it.
    """

    def __init__(self, *, each: int, total: int) -> None:
        self._each = each
        self._total = total
        self._used = Counter[str]()
        self._waiting: dict[str, deque[_Turn]] = {}

    @asynccontextmanager
    async def acquire(self, tenant: str, size: int = 1) -> AsyncIterator[None]:
        """Waits for so many slots and keeps them for the block."""
        turn = _Turn(size, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._grant_free_slots()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn.granted.cancelled():
                self._grant_free_slots()
            else:
                self._release(tenant, size)  # it was granted at the same moment
            raise
        try:
            yield
        finally:
            self._release(tenant, size)

    def _release(self, tenant: str, size: int) -> None:
        self._used[tenant] -= size
        if not self._used[tenant]:
            del self._used[tenant]
        self._grant_free_slots()

    def _grant_free_slots(self) -> None:
        """Grants turns until none fits; each round grants at most one to each tenant."""
        while self._grant_round():
            pass

    def _grant_round(self) -> bool:
        granted = False
        for tenant in list(self._waiting):
            turns = self._waiting[tenant]
            while turns and turns[0].granted.cancelled():
                del turns[0]
            if not turns:
                del self._waiting[tenant]
            elif not self._exceeds(self._used[tenant], turns[0].size, self._each):
                if self._exceeds(self._used.total(), turns[0].size, self._total):
                    break
                self._grant(tenant, turns.popleft())
                granted = True
        return granted

    def _grant(self, tenant: str, turn: _Turn) -> None:
        turn.granted.set_result(None)
        self._used[tenant] += turn.size
        # Moves the tenant to the end of the order.
        if turns := self._waiting.pop(tenant):
            self._waiting[tenant] = turns

    @staticmethod
    def _exceeds(used: int, size: int, limit: int) -> bool:
        return used > 0 and used + size > limit
