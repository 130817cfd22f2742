"""Compares what ingest has itself, for an operator: its steps, and its object store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from aquifer.ops.v1 import reconcile_service_pb2 as pb
from chassis.process.reconcile import EXAMPLES_MAX, Check, Finding, Scope, Slice
from ingest.domain import STEPS, State
from ingest.usecases.ports import Inventory, Objects, Sweeper
from ingest.usecases.upkeep.repair import BATCH, RepairSteps

_MORE: Final = "more"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSteps(Check):
    """Finds overdue versions and deletes, and sends those again that are lost."""

    inventory: Inventory
    repair: RepairSteps

    @property
    @override
    def name(self) -> str:
        return "steps"

    @override
    async def list_tenants(self) -> Sequence[str]:
        return [""]

    @override
    async def run(self, scope: Scope, after: str) -> Slice:
        """Covers all tenants at once; at most `BATCH` steps of each state are sent again."""
        checked, findings, more = 0, [], False
        for state in STEPS:
            count, examples = await self.inventory.count_overdue(state, scope.collection)
            found = await self.repair.find_lost(state) if count else ()
            lost = [one for one in found if scope.includes(one.document)]
            repaired = len(lost)
            if not scope.dry_run:
                repaired = sum([await self.repair.send_again(one) for one in lost])
                more = more or (repaired > 0 and len(found) == BATCH)
            # Only the first slice counts: the later ones see the same steps.
            findings.append(
                Finding(
                    kind=pb.DIFFERENCE_KIND_DELETE_UNFINISHED
                    if state is State.DELETING
                    else pb.DIFFERENCE_KIND_STEP_OVERDUE,
                    count=0 if after else count,
                    repaired=repaired,
                    examples=() if after else examples,
                )
            )
            checked += 0 if after else count
        return Slice(checked=checked, findings=findings, after=_MORE if more else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckObjects(Check):
    """Finds objects that no version needs, which it removes, and versions without their object.

    `key_age_s` gives the age of an object: those younger than `age_s` may belong to a running
    upload. Objects that no version needs belong to no collection.
    """

    inventory: Inventory
    sweeper: Sweeper
    objects: Objects
    key_age_s: Callable[[str], float]
    age_s: float

    @property
    @override
    def name(self) -> str:
        return "objects"

    @override
    async def list_tenants(self) -> Sequence[str]:
        return await self.sweeper.list_tenants()

    @override
    async def run(self, scope: Scope, after: str) -> Slice:
        """Compares all objects of a tenant.

        An object is stored before its version and removed after it. So one that is missing was
        needed before and after the objects were listed; one that is unused, neither. Those of a
        version that is being deleted go at any time.
        """
        before = await self.inventory.list_kept(scope.tenant, scope.collection)
        stored = frozenset(await self.objects.list(scope.tenant))
        kept = await self.inventory.list_kept(scope.tenant, scope.collection)
        missing = [
            one
            for key, one in kept.items()
            if key in before and key not in stored and not one.is_deleting
        ]
        unused: list[str] = []
        if not scope.collection:
            unused = [
                key
                for key in sorted(stored)
                if key not in kept and self.key_age_s(key) > self.age_s
            ]
        if not scope.dry_run:
            for key in unused:
                await self.objects.delete(key)
        return Slice(
            checked=len(stored),
            findings=[
                Finding(
                    kind=pb.DIFFERENCE_KIND_OBJECT_MISSING,
                    count=len(missing),
                    repaired=0,
                    examples=[f"{one.document} v{one.version}" for one in missing[:EXAMPLES_MAX]],
                ),
                Finding(
                    kind=pb.DIFFERENCE_KIND_OBJECT_UNUSED,
                    count=len(unused),
                    repaired=len(unused),
                    examples=unused[:EXAMPLES_MAX],
                ),
            ],
        )
