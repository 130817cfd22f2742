"""The limit of unfinished documents of a tenant."""

import asyncio
import contextvars
from dataclasses import dataclass, field
from typing import Final

from chassis.base.errors import OverloadedError
from ingest.usecases.ports import Monotonic
from ingest.usecases.work import Begin

BACKLOG_RETRY_S: Final = 5.0
_COUNT_KEPT_S: Final = 1.0
_FULL_KEPT_S: Final = 0.1
_TENANTS_MAX: Final = 10_000


@dataclass(slots=True)
class _Counted:
    unfinished: int
    at: float


@dataclass(slots=True, kw_only=True)
class Admission:
    """Limits the unfinished versions of a tenant.

    They are counted at most once a second, and at most ten times a second while the limit is
    reached. In between, the process adds what it accepts. Several processes may therefore exceed
    the limit by what each accepts within a second.
    """

    begin: Begin
    unfinished_max: int
    clock: Monotonic
    _counts: dict[str, _Counted] = field(default_factory=dict)
    _counting: dict[str, "asyncio.Task[_Counted]"] = field(default_factory=dict)

    async def check(self, tenant: str) -> None:
        """Admit one more version.

        Raises:
            OverloadedError: BACKLOG_FULL.
        """
        counted = self._counts.get(tenant)
        if counted is None or self._is_old(counted):
            counted = await self._count_once(tenant)
        if counted.unfinished >= self.unfinished_max:
            raise OverloadedError(
                "BACKLOG_FULL",
                f"{self.unfinished_max} documents of the tenant are unfinished; retry later",
                retry_after_s=BACKLOG_RETRY_S,
                limit=self.unfinished_max,
            )
        counted.unfinished += 1

    def _is_old(self, counted: _Counted) -> bool:
        full = counted.unfinished >= self.unfinished_max
        return self.clock() - counted.at > (_FULL_KEPT_S if full else _COUNT_KEPT_S)

    async def _count_once(self, tenant: str) -> _Counted:
        """Count; calls that arrive while the database counts share its answer."""
        if (counting := self._counting.get(tenant)) is None:
            # In its own context, because the callers have different traces.
            counting = asyncio.get_running_loop().create_task(
                self._count(tenant), context=contextvars.Context()
            )
            self._counting[tenant] = counting
            counting.add_done_callback(lambda _: self._counting.pop(tenant))
        return await asyncio.shield(counting)

    async def _count(self, tenant: str) -> _Counted:
        async with self.begin(tenant) as work:
            unfinished = await work.documents.count_unfinished()
        if len(self._counts) >= _TENANTS_MAX:
            self._counts.clear()
        counted = self._counts[tenant] = _Counted(unfinished, self.clock())
        return counted
