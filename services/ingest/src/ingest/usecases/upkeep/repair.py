"""Repair: sends lost events again, fails expired versions and removes unused objects."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ingest.domain import STEPS, State, Verdict, Version
from ingest.pace import Pace, work_s
from ingest.traces import continue_trace
from ingest.usecases import announce
from ingest.usecases.ports import Objects, Sweeper
from ingest.usecases.rows import Pending
from ingest.usecases.upkeep.handled_until import DESCRIBED, HandledUntil
from ingest.usecases.versions.finish_document import give_up
from ingest.usecases.versions.send_pieces import SendPieces
from ingest.usecases.work import Begin, Work

log = logging.getLogger(__name__)

BATCH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairSteps:
    """Sends the lost events of steps again.

    A step is lost if it is overdue, its event does not wait in the outbox, and all events that were
    sent up to its time have been handled. Work that is only waiting is never sent twice.
    """

    begin: Begin
    sweeper: Sweeper
    handled: HandledUntil
    pace: Pace
    send: SendPieces

    async def run(self) -> int:
        """Checks every step once; returns how many events were sent again.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next round.
        """
        return sum(
            [
                await self.send_again(pending)
                for state in STEPS
                for pending in await self.find_lost(state)
            ]
        )

    async def find_lost(self, state: State) -> Sequence[Pending]:
        """Lost steps of a state, the longest overdue first, at most `BATCH`."""
        until = await self.handled.check(state)
        if until is None:
            return ()
        overdue = await self.sweeper.list_overdue(state, BATCH)
        return [one for one in overdue if self._sent_at(one) < until]

    def _sent_at(self, pending: Pending) -> datetime:
        """When the event of the step was sent: its due time less its wait."""
        return pending.step_due_at - timedelta(seconds=self._wait_s(pending, pending.attempt))

    def _wait_s(self, pending: Pending, attempt: int) -> float:
        slowness_s = work_s(pending.state, pending.size_bytes, pending.batch_count)
        return self.pace.wait_s(attempt, slowness_s)

    async def send_again(self, pending: Pending) -> bool:
        """Sends the event of a step again; False if the step has moved on."""
        async with self.begin(pending.tenant) as work:
            wait_s = self._wait_s(pending, pending.attempt + 1)
            version = await work.documents.repeat(pending, wait_s)
            if version is None:
                return False
            if version.state is not State.PREPARED:
                _order(work, version)
        if version.state is State.PREPARED:
            with continue_trace("repeat step", version.trace_id):
                await self.send.run(version)
        log.warning(
            "step.repeated",
            extra={
                "state": version.state,
                "tenant": version.tenant,
                "document": version.document,
                "version": version.number,
                "attempt": version.attempt,
            },
        )
        return True


def _order(work: Work, version: Version) -> None:
    with continue_trace("repeat step", version.trace_id):
        if version.state is State.ACCEPTED:
            announce.order_preparation(work, version)
        else:
            announce.order_deletion(work, version)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairDescriptions:
    """Sends descriptions again that query has not confirmed; lost means the same as for a step."""

    begin: Begin
    sweeper: Sweeper
    handled: HandledUntil
    pace: Pace

    async def run(self) -> int:
        """Checks all descriptions once; returns how many were sent again.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next round.
        """
        until = await self.handled.check(DESCRIBED)
        if until is None:
            return 0
        overdue = await self.sweeper.list_undescribed(BATCH)
        return sum([await self._send_again(one) for one in overdue if self._sent_at(one) < until])

    def _sent_at(self, pending: Pending) -> datetime:
        return pending.step_due_at - timedelta(seconds=self.pace.wait_s(pending.attempt))

    async def _send_again(self, pending: Pending) -> bool:
        async with self.begin(pending.tenant) as work:
            wait_s = self.pace.wait_s(pending.attempt + 1)
            version = await work.documents.repeat_description(pending, wait_s)
            if version is None:
                return False
            with continue_trace("repeat description", version.trace_id):
                announce.send_description(work, version)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpExpired:
    """Fails versions with a step that exceeds the deadline; a deletion has no deadline."""

    begin: Begin
    sweeper: Sweeper
    pace: Pace

    async def run(self) -> int:
        """Fails expired versions; returns their number.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next round.
        """
        given_up = 0
        for pending in await self.sweeper.list_expired(self.pace.deadline_s, BATCH):
            verdict = Verdict(
                reason="STEP_DEADLINE",
                detail=f"{pending.state} for longer than {self.pace.deadline_s:.0f} s",
            )
            async with self.begin(pending.tenant) as work:
                given_up += await give_up(work, pending.document, pending.number, verdict)
        return given_up


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepObjects:
    """Removes objects that no version needs: left by a crash, or of a version that was retired.

    Only keys older than `age_s`, as given by `key_age_s`, are removed; newer ones may belong to a
    running upload.
    """

    sweeper: Sweeper
    objects: Objects
    key_age_s: Callable[[str], float]
    age_s: float

    async def run(self) -> int:
        """Removes unused objects; returns their number.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next sweep.
        """
        removed = 0
        for tenant in await self.sweeper.list_tenants():
            keys = await self.objects.list(tenant)
            old = [key for key in keys if self.key_age_s(key) > self.age_s]
            kept = await self.sweeper.list_kept_keys(tenant) if old else frozenset()
            for key in old:
                if key not in kept:
                    await self.objects.delete(key)
                    removed += 1
        return removed
