"""What a broker lost, a crash cut short or time made useless: sent again, given up, removed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ingest.domain import STEPS, Pace, State, Verdict, Version, work_s
from ingest.usecases import facts
from ingest.usecases.facts import Fact
from ingest.usecases.finish_document import give_up
from ingest.usecases.ports import Objects, Pending, Publish, Sweeper, Units, Work
from ingest.usecases.progress import Progress

log = logging.getLogger(__name__)

BATCH: Final = 200
PROBES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairSteps:
    """Sends the event of a step again where it must be lost.

    Of a step that has been silent as a whole only a few are sent: if they pass, the others have
    been overtaken and follow; if they do not, the step is down and its line grows no longer.
    """

    units: Units
    sweeper: Sweeper
    publish: Publish
    progress: Progress
    pace: Pace

    async def __call__(self) -> int:
        """One look at every step; returns how many events were sent again.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next look.
        """
        return sum([await self._step(state) for state in STEPS])

    async def _step(self, state: State) -> int:
        sent = 0
        if overtaken := self.progress.overtaken(state):
            for pending in await self.sweeper.due(state, overtaken, BATCH):
                sent += await self._again(pending)
        if self.progress.is_silent(state):
            probes = await self.sweeper.due(state, None, PROBES)
            for pending in probes:
                sent += await self._again(pending)
            if probes:
                self.progress.probed(state)
        return sent

    async def _again(self, pending: Pending) -> bool:
        async with self.units(pending.tenant) as work:
            slowness_s = work_s(pending.state, pending.size_bytes, pending.batch_count)
            wait_s = self.pace.wait_s(pending.attempt + 1, slowness_s)
            version = await work.documents.repeat(pending, wait_s)
            if version is None:
                return False
            told = await _facts(work, version)
        # Not stored first: what is lost here is due again soon enough.
        await self.publish(told, version.trace_id)
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


async def _facts(work: Work, version: Version) -> Sequence[Fact]:
    match version.state:
        case State.ACCEPTED:
            return [facts.accepted(version)]
        case State.PREPARED:
            pieces = await work.documents.pieces(version.document, version.number)
            return list(facts.prepared(version, pieces))
        case _:
            return [facts.deletion_requested(version)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpExpired:
    """Fails versions whose step took longer than the deadline; a deletion has none."""

    units: Units
    sweeper: Sweeper
    pace: Pace

    async def __call__(self) -> int:
        """How many were given up.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next look.
        """
        given_up = 0
        for pending in await self.sweeper.expired(self.pace.deadline_s, BATCH):
            verdict = Verdict(
                reason="STEP_DEADLINE",
                detail=f"{pending.state} for longer than {self.pace.deadline_s:.0f} s",
            )
            async with self.units(pending.tenant) as work:
                given_up += await give_up(work, pending.document, pending.number, verdict)
        return given_up


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepObjects:
    """Removes objects that no version needs: a crash left them, or their version went out of use.

    `age_s` of a key is told by `key_age_s`; younger ones may belong to an upload that still runs.
    """

    sweeper: Sweeper
    objects: Objects
    key_age_s: Callable[[str], float]
    age_s: float

    async def __call__(self) -> int:
        """How many were removed.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next sweep.
        """
        removed = 0
        for tenant in await self.sweeper.tenants():
            keys = await self.objects.list(tenant)
            old = [key for key in keys if self.key_age_s(key) > self.age_s]
            kept = await self.sweeper.kept_keys(tenant) if old else frozenset()
            for key in old:
                if key not in kept:
                    await self.objects.delete(key)
                    removed += 1
        return removed
