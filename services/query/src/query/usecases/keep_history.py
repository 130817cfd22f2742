"""Keeps superseded versions for as long as searches may look back."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from query.usecases.ports import Begin
from query.usecases.records import History

log = logging.getLogger(__name__)

FORGOTTEN_BATCH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepHistory:
    """Says for how long superseded versions are kept, and removes those that are older.

    The time since when all are kept is committed first. So a search that finds it has every version
    that was superseded after it. Any number of processes may do this at the same time; all must
    have the same window.
    """

    begin: Begin
    history: History
    window: timedelta

    async def run(self) -> None:
        """Removes every version that is too old by now; its points follow by `RemovePoints`."""
        before = await self.history.keep(self.window)
        forgotten = 0
        while expired := await self.history.list_expired(before, FORGOTTEN_BATCH):
            for tenant, version in expired:
                async with self.begin(tenant) as work:
                    await work.rows.lock(version)
                    forgotten += await work.rows.forget_superseded(version)
        if forgotten:
            log.info("history.forgotten", extra={"versions": forgotten})
