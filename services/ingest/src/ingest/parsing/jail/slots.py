"""A bounded number of slots, shared fairly between tenants."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairSlots:
    """At most `total` slots, at most `each` of them for one tenant.

    Waiting tenants take turns, however many calls of each wait.
    """

    def __init__(self, *, each: int, total: int) -> None:
        self._each = each
        self._total = total
        self._used = Counter[str]()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def acquire(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a slot and keeps it for the block."""
        if tenant not in self._waiting and self._is_free(tenant):
            self._used[tenant] += 1
        else:
            await self._wait_for_turn(tenant)
        try:
            yield
        finally:
            self._release(tenant)

    def _is_free(self, tenant: str) -> bool:
        return self._used.total() < self._total and self._used[tenant] < self._each

    async def _wait_for_turn(self, tenant: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._grant_free_slots()
            else:
                self._release(tenant)  # it was granted at the same moment
            raise

    def _release(self, tenant: str) -> None:
        self._used[tenant] -= 1
        if not self._used[tenant]:
            del self._used[tenant]
        self._grant_free_slots()

    def _grant_free_slots(self) -> None:
        for tenant in list(self._waiting):
            turns = self._waiting[tenant]
            while turns and turns[0].cancelled():
                del turns[0]
            if turns and self._is_free(tenant):
                turns.popleft().set_result(None)
                self._used[tenant] += 1
                # Move the tenant to the end of the order.
                self._waiting[tenant] = self._waiting.pop(tenant)
            if not turns:
                del self._waiting[tenant]
