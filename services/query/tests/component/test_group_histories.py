"""A group of events leaves what its events leave one by one, whatever they are."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aquifer.query.v1.passage_events_pb2 import PassagesPurged
from query.domain import Version
from query.retrieval.vector_store import TenantScope

DOCUMENTS = tuple(f"collections/manuals/documents/{name}" for name in ("pump", "valve", "motor"))
EVERY_COLUMN_THAT_FOLLOWS = {
    "documents": "document, live_version, tombstone_version, failed_versions",
    "progress": "document, version, batch_count, chunk_count, seen::text AS seen",
    "passages": "document, version, ordinal, text, start_offset, end_offset, page",
    "descriptions": "document, version, title, metadata, revision",
    "removed_versions": "document, version",
    "purges": "document, version, passages, dead_letters",
}


class Arrival(NamedTuple):
    """A batch of chunks comes in."""

    document: str
    version: int
    number: int
    # How many batches it says its version has: siblings may disagree.
    count: int
    broken: bool
    # Under the id of an earlier event of this content, if there was one.
    repeated: bool


class Decision(NamedTuple):
    """What comes between two groups."""

    kind: str
    document: str
    version: int


Group = Sequence[Arrival]


def histories() -> st.SearchStrategy[Sequence[Group | Decision]]:
    documents = st.sampled_from(DOCUMENTS)
    totals = st.sampled_from([(0, 1), (0, 1), (0, 2), (1, 2), (0, 3)])
    arrivals = st.builds(
        lambda document, version, total, broken, repeated: Arrival(
            document, version, *total, broken=not broken, repeated=repeated
        ),
        documents,
        st.sampled_from([1, 1, 1, 2, 3]),
        totals,
        st.integers(0, 7),
        st.booleans(),
    )
    kinds = st.sampled_from(["hide", "purge", "fail", "drain"])
    decisions = st.builds(Decision, kinds, documents, st.integers(1, 2))
    groups = st.lists(arrivals, min_size=2, max_size=8)
    return st.lists(groups | decisions, min_size=1, max_size=5)


@dataclass
class Outcome:
    """What is left of a history, and what was published."""

    tables: dict[str, list[dict[str, Any]]]
    points: list[tuple[str, int, int]]
    published: list[str]


class History:
    """A history as it goes in a tenant of its own."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.tenant = f"t{uuid4().hex}"
        self.published: list[str] = []
        self.arrived = 0

    async def group(self, group: Group, *, together: bool) -> None:
        events = [(self._event(one), self._event_id(one)) for one in group]
        for some in [events] if together else [[one] for one in events]:
            bodies, ids = zip(*some, strict=True)
            self._note(await self.world.deliver(*bodies, ids=ids))

    async def decide(self, one: Decision) -> None:
        match one.kind:
            case "hide":
                version = Version(document=one.document, number=one.version)
                await self.world.hide.run(self.tenant, version)
            case "purge":
                self._note(await self.world.purge(one.version, one.document, tenant=self.tenant))
            case "fail":
                self._note(await self.world.fail(one.version, one.document, tenant=self.tenant))
            case _:
                await self.world.remove_points.run()

    async def outcome(self) -> Outcome:
        """What is left now; then it is removed."""
        tables = {
            table: self.world.everything.execute(
                f"SELECT {columns} FROM {table} WHERE tenant_id = %s"
                f" ORDER BY {', '.join(columns.split(', ')[:3])}",
                [self.tenant],
            ).fetchall()
            for table, columns in EVERY_COLUMN_THAT_FOLLOWS.items()
        }
        scope = TenantScope(self.tenant)
        # See `_note`: points of a superseded version may wait for their removal.
        await self.world.remove_points.run()
        entries = (await self.world.vectors.scroll(scope)).entries
        await self.world.vectors.delete_points(scope, [one.point_id for one in entries])
        points = sorted((one.document, one.version, one.ordinal) for one in entries)
        return Outcome(tables, points, sorted(self.published))

    def _note(self, published: Sequence[Any]) -> None:
        """Keeps what was published, without the number of points that a purge found.

        A repeat that shares a group with its successor removes its points at once; one by one they
        stay until the superseded version is removed, or purged.
        """
        for one in published:
            if isinstance(one, PassagesPurged):
                one.ClearField("points")
        self.published += [str(one).replace(self.tenant, "tenant") for one in published]

    def _event(self, one: Arrival) -> Any:
        event = self.world.embedded(
            f"{one.version}.{one.number} of {one.count}",
            document=one.document,
            version=one.version,
            batch=one.number,
            batch_count=one.count,
            chunk_count=one.count,
            first=one.number,
            tenant=self.tenant,
        )
        if one.broken:
            event.vectors = b"\0" * 8
        return event

    def _event_id(self, one: Arrival) -> str:
        self.arrived += 1
        return f"{one[:5]}" if one.repeated else f"arrival {self.arrived}"


def set_totals(one: Arrival) -> Arrival:
    """With totals that are the same in every batch of its version: one that disagrees is rejected
    and takes the points of the chunks it names."""
    count = 1 if one.version == 1 else 2
    return one._replace(number=one.number % count, count=count)


async def run_history(
    world: Any, history: Sequence[Group | Decision], *, together: bool
) -> Outcome:
    run = History(world)
    for step in history:
        if isinstance(step, Decision):
            await run.decide(step)
        else:
            await run.group(step, together=together)
    return await run.outcome()


# Every history has a tenant of its own in the one world.
SHARED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@given(history=histories())
@settings(max_examples=40, suppress_health_check=SHARED)
async def test_a_group_ends_as_its_events_one_by_one(world, history):
    together = await run_history(world, history, together=True)
    assert together == await run_history(world, history, together=False)


@given(history=histories())
@settings(max_examples=20, suppress_health_check=SHARED)
async def test_groups_all_at_once_leave_both_stores_in_agreement(world, history):
    run = History(world)
    await asyncio.gather(
        *(
            run.decide(step)
            if isinstance(step, Decision)
            else run.group([set_totals(one) for one in step], together=True)
            for step in history
        )
    )
    for step in history:
        # What is hidden after it was stored stays stored until its purge, which always follows.
        if isinstance(step, Decision) and step.kind == "hide":
            await run.decide(step._replace(kind="purge"))
    await world.remove_points.run()
    outcome = await run.outcome()
    rows = outcome.tables["passages"]
    assert outcome.points == [(row["document"], row["version"], row["ordinal"]) for row in rows]
    for document in outcome.tables["documents"]:
        gone = max(document["tombstone_version"], document["live_version"] - 1)
        assert all(row["version"] > gone for row in rows if row["document"] == document["document"])
