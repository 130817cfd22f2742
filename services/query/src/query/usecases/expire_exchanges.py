"""Removes conversations and answers that are older than the retention."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import Counter

from chassis.base.metrics import REGISTRY
from query.usecases.exchanges import Exchanges, Place

log = logging.getLogger(__name__)

# A conversation has up to 500 answers, which go in the same transaction.
CONVERSATIONS: Final = 20
ANSWERS: Final = 1_000

EXPIRED: Final = Counter(
    "aquifer_exchanges_expired",
    "Conversations, and answers outside of them, removed after their retention, by kind.",
    ("kind",),
    registry=REGISTRY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireExchanges:
    """Removes what had no activity for `retention`, in batches with a transaction each.

    A conversation counts as a whole from its last message on. Any number of processes may do this
    at the same time.
    """

    exchanges: Exchanges
    retention: timedelta
    clock: Callable[[], datetime]

    async def run(self) -> None:
        """Removes everything that is old by now."""
        before = self.clock() - self.retention
        for tenant in await self.exchanges.list_tenants():
            conversations = await self._remove_conversations(tenant, before)
            answers = await self._remove_answers(tenant, before)
            if conversations or answers:
                counts = {"conversations": conversations, "answers": answers}
                log.info("exchanges.expired", extra={"tenant": tenant, **counts})

    async def _remove_conversations(self, tenant: str, before: datetime) -> int:
        total, removed = 0, CONVERSATIONS
        while removed == CONVERSATIONS:
            removed = await self.exchanges.remove_conversations(tenant, before, CONVERSATIONS)
            EXPIRED.labels("conversation").inc(removed)
            total += removed
        return total

    async def _remove_answers(self, tenant: str, before: datetime) -> int:
        total = 0
        place: Place | None = None
        while True:
            removed = await self.exchanges.remove_answers(tenant, before, place, ANSWERS)
            EXPIRED.labels("answer").inc(removed.count)
            total += removed.count
            place = removed.last
            if place is None:
                return total
