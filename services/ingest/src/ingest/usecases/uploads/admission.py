"""The limits of unfinished documents of a tenant, and the lane of each of them."""

import asyncio
import contextvars
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from chassis.base.errors import OverloadedError
from ingest.lanes import INTERACTIVE_MAX, Lane
from ingest.usecases.ports import Monotonic
from ingest.usecases.rows import Unfinished
from ingest.usecases.work import Begin

BACKLOG_RETRY_S: Final = 5.0
_COUNT_KEPT_S: Final = 1.0
_FULL_KEPT_S: Final = 0.1
_TENANTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many unfinished documents a tenant may have, and how many bytes they may have."""

    documents: int
    size_bytes: int


@dataclass(slots=True)
class _Counted:
    """A count, to which the process adds what it accepts; bytes are not added."""

    documents: int
    interactive: int
    size_bytes: int
    at: float

    def reaches(self, limits: Limits) -> bool:
        return self.documents >= limits.documents or self.size_bytes >= limits.size_bytes


@dataclass(slots=True, kw_only=True)
class Admission:
    """Limits the unfinished versions of a tenant; `own` are limits of single tenants.

    They are counted at most once a second, and at most ten times a second while a limit is
    reached. In between, the process adds what it accepts. Several processes may therefore exceed
    the limit of documents by what each accepts within a second, and that of bytes as well.
    """

    begin: Begin
    limits: Limits
    own: Mapping[str, Limits]
    clock: Monotonic
    _counts: dict[str, _Counted] = field(default_factory=dict)
    _counting: dict[str, "asyncio.Task[_Counted]"] = field(default_factory=dict)

    async def admit(self, tenant: str) -> None:
        """Admit one more version.

        Raises:
            OverloadedError: BACKLOG_FULL.
        """
        (await self._check(tenant)).documents += 1

    async def check(self, tenant: str) -> None:
        """Check that a version would be admitted now.

        Raises:
            OverloadedError: BACKLOG_FULL.
        """
        await self._check(tenant)

    async def _check(self, tenant: str) -> _Counted:
        limits = self.own.get(tenant, self.limits)
        counted = self._counts.get(tenant)
        if counted is None or self._is_old(counted, limits):
            counted = await self._count_once(tenant)
        if counted.reaches(limits):
            raise OverloadedError(
                "BACKLOG_FULL",
                f"{counted.documents} documents of the tenant with {counted.size_bytes} bytes are"
                f" unfinished; the limits are {limits.documents} and {limits.size_bytes};"
                " retry later",
                retry_after_s=BACKLOG_RETRY_S,
                limit=limits.documents,
                limit_bytes=limits.size_bytes,
            )
        return counted

    def choose_lane(self, tenant: str, asked: Lane) -> Lane:
        """The lane of a version that was admitted: bulk if many interactive ones are unfinished."""
        counted = self._counts.get(tenant)
        if asked is Lane.BULK or counted is None:
            return asked
        if counted.interactive >= INTERACTIVE_MAX:
            return Lane.BULK
        counted.interactive += 1
        return asked

    def _is_old(self, counted: _Counted, limits: Limits) -> bool:
        kept_s = _FULL_KEPT_S if counted.reaches(limits) else _COUNT_KEPT_S
        return self.clock() - counted.at > kept_s

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
            found: Unfinished = await work.documents.count_unfinished()
        if len(self._counts) >= _TENANTS_MAX:
            self._counts.clear()
        counted = self._counts[tenant] = _Counted(
            documents=found.documents,
            interactive=found.interactive,
            size_bytes=found.size_bytes,
            at=self.clock(),
        )
        return counted
