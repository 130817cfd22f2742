"""Whatever happens in whatever order, twice or never: each upload ends once, and the stores agree.

Everything but query is real; query is its own rules in few lines (tombstone, live version, versions
given up), so that its results follow from what it received.
"""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import DictRow

from aquifer.ingest.v1.document_events_pb2 import (
    ChunksPrepared,
    DescriptionChanged,
    DocumentDeleted,
    DocumentDeletionRequested,
    DocumentFailed,
    DocumentIndexed,
    DocumentUpdated,
    VersionAccepted,
)
from aquifer.ingest.v1.document_pb2 import Description
from aquifer.query.v1.passage_events_pb2 import (
    ChunksRejected,
    PassagesPurged,
    VersionDescribed,
    VersionSearchable,
)
from aquifer.structs import to_json
from chassis.base.errors import AlreadyExistsError, FailedPreconditionError, UnavailableError
from chassis.base.postgres import open_database
from chassis.events.delivery import Batch
from chassis.events.envelope import derive_id
from ingest.changes import read_changes
from ingest.collections import CollectionSettings
from ingest.cutting import CutSmallText
from ingest.domain import MOVES, STEPS, State
from ingest.usecases.ports import CutText
from services.ingest.tests.conftest import (
    CHUNKS,
    HANDLERS,
    NAME,
    TABLES,
    TENANT,
    Rig,
    open_rig,
    read,
)
from testkit.servers import TestDatabase

CONTENTS = (b"First text.", b"Second text.", b"   ")
HEARD = (VersionAccepted, VersionSearchable, VersionDescribed, PassagesPurged)
RESULTS = (DocumentIndexed, DocumentUpdated, DocumentFailed, DocumentDeleted)
Event = tuple[str, Message]


@dataclass
class Query:
    """What query decides of the one document."""

    live: int = 0
    tombstone: int = 0
    failed: set[int] = field(default_factory=set)
    descriptions: dict[int, Description] = field(default_factory=dict)

    def receive(self, event_id: str, event: Any) -> Sequence[Event]:
        """Events it would emit."""
        match event:
            case ChunksPrepared():
                version = event.version
                if not self.is_wanted(version):
                    return ()
                self.live = version
                self.describe(version, event.description)
                said: Message = VersionSearchable(tenant=TENANT, document=NAME, version=version)
            case DescriptionChanged():
                if self.is_wanted(event.version):
                    self.describe(event.version, event.description)
                said = VersionDescribed(
                    tenant=TENANT,
                    document=NAME,
                    version=event.version,
                    revision=event.description.revision,
                )
            case DocumentDeletionRequested():
                self.hide(event.version)
                said = PassagesPurged(tenant=TENANT, document=NAME, version=event.version)
            case DocumentFailed() if event.version == self.live and self.live:
                said = VersionSearchable(tenant=TENANT, document=NAME, version=self.live)
            case DocumentFailed():
                if event.version > max(self.live, self.tombstone):
                    self.failed.add(event.version)
                return ()
            case _:
                return ()
        return ((derive_id(event_id, "query"), said),)

    def is_wanted(self, version: int) -> bool:
        newest = version > self.tombstone and version >= self.live
        return newest and version not in self.failed

    def describe(self, version: int, description: Description) -> None:
        known = self.descriptions.setdefault(version, description)
        if description.revision > known.revision:
            self.descriptions[version] = description

    def hide(self, version: int) -> None:
        self.tombstone = max(self.tombstone, version)
        self.live = 0 if self.live <= self.tombstone else self.live


@dataclass
class World:
    rig: Rig
    query: Query = field(default_factory=Query)
    transit: list[Event] = field(default_factory=list)
    said: dict[str, Message] = field(default_factory=dict)
    results: defaultdict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    uploads: dict[str, bytes] = field(default_factory=dict)
    published_ns: dict[str, int] = field(default_factory=dict)
    rolled_back: dict[str, int] = field(default_factory=dict)
    pinned: int = 0
    states: dict[int, State] = field(default_factory=dict)

    async def do(self, verb: str, number: int) -> None:
        if verb in CALLS:
            await self._call(verb, number)
        match verb:
            case "event" | "remove" | "describe":
                await self._publish(verb, number)
            case "reject" if self.states:
                await self._reject(1 + number % max(self.states))
            case "lose" if self.transit:
                self._lose_event(number % len(self.transit))
            case "deliver" if self.transit:
                await self._deliver(self.transit.pop(number % len(self.transit)))
            case "all":
                while self.transit:
                    await self.do("deliver", number)
            case "together" if self.transit:
                await self._deliver(*self._take_alike(number % len(self.transit)))
            case "double" if self.transit:
                await self._deliver(self.transit[number % len(self.transit)])
        self._collect()
        self._check_moves()

    async def _call(self, verb: str, number: int) -> None:
        match verb:
            case "grpc":
                with suppress(FailedPreconditionError):  # it is pinned
                    await self.rig.upload(CONTENTS[number % len(CONTENTS)])
            case "keep":
                await self._keep(number % 3)
            case "update" if self.states:
                await self._update(number)
            case "delete" if self.states:
                await self._delete(away=number % 2 == 1)
            case "roll back" if self.states:
                await self._roll_back(number)
            case "pin" if self.states:
                await self._pin(number)

    async def settle(self) -> None:
        """Everything arrives in the end; what was lost is found by the reconciler."""
        for _ in range(50):
            while self.transit:
                await self.do("deliver", 0)
            if not self._is_pending():
                return
            self.rig.age_versions()
            await self.rig.wired.maintenance.repair.run()
            await self.rig.wired.maintenance.repair_descriptions.run()
            self._collect()
        raise AssertionError(f"never settles: {self.states}")

    async def _publish(self, verb: str, number: int) -> None:
        """An event of an upstream system."""
        if verb == "event":
            await self._upload(number)
        else:
            await self._tell(verb, number)

    async def _upload(self, number: int) -> None:
        """Every other event was published long ago and is handled only now."""
        event_id = f"e{number}"
        content = self.uploads.setdefault(event_id, CONTENTS[number % len(CONTENTS)])
        late_ns = 1_000_000_000 + number
        stored_ns = self.published_ns.setdefault(
            event_id, late_ns if number % 2 else next(self.rig.clock)
        )
        known = self.states.copy()
        await self.rig.event(content, event_id=event_id, stored_ns=stored_ns)
        newest = self.rig.rows.execute(
            "SELECT max(latest_version) AS newest, max(upload_order) AS latest FROM documents"
        ).fetchone()
        assert newest is not None
        if newest["newest"] > max(known, default=0):
            assert newest["latest"] == stored_ns, "an earlier upload made the newest version"

    async def _tell(self, verb: str, number: int) -> None:
        """A removal or description; every other one was published long ago, as in `_upload`."""
        event_id = f"{verb}{number}"
        self.uploads.setdefault(event_id, b"")
        late_ns = 1_000_000_000 + number
        stored_ns = self.published_ns.setdefault(
            event_id, late_ns if number % 2 else next(self.rig.clock)
        )
        self.rig.siblings.query_is_away = number % 3 == 1
        if verb == "remove":
            await self.rig.removal(event_id=event_id, stored_ns=stored_ns)
        else:
            await self.rig.description(event_id=event_id, stored_ns=stored_ns, title=event_id)
        hidden = self.rig.siblings.hidden
        self.query.hide(max((version for _, version in hidden), default=0))

    def _take_alike(self, place: int) -> list[Event]:
        """One event and all others of its kind: what a consumer gets as a group."""
        kind = type(self.transit[place][1])
        alike = [one for one in self.transit if type(one[1]) is kind]
        self.transit = [one for one in self.transit if type(one[1]) is not kind]
        return alike

    async def _reject(self, version: int) -> None:
        # What query shows was embedded and stored once: the same bytes are not rejected after.
        if version != self.query.live:
            event = ChunksRejected(tenant=TENANT, document=NAME, version=version, reason="NO")
            await self.rig.deliver(event)

    def _lose_event(self, place: int) -> None:
        # If a version was given up here and is live there, only the event of the failure makes
        # query answer again. Nothing is pending then, so nothing would repair its loss.
        lost = self.transit.pop(place)
        live = self.query.live
        words = [
            event
            for _, event in self.transit
            if isinstance(event, DocumentFailed | VersionSearchable) and event.version == live
        ]
        if live and self.states.get(live) is State.FAILED and not words:
            self.transit.insert(place, lost)

    async def _update(self, number: int) -> None:
        changes = read_changes(
            [f"metadata.{number % 2}"], title="", metadata={f"{number % 2}": number}
        )
        with suppress(FailedPreconditionError):
            await self.rig.wired.rpc.update.run(TENANT, NAME, changes)

    async def _roll_back(self, number: int) -> None:
        """Some have the request id of an earlier one, and are answered with its version."""
        version = 1 + number % max(self.states)
        request_id = f"r{version}" if number > 3 else ""
        with suppress(FailedPreconditionError, AlreadyExistsError):
            view = await self.rig.wired.rpc.roll_back.run(
                TENANT, NAME, version, request_id=request_id
            )
            if request_id:
                first = self.rolled_back.setdefault(request_id, view.version.number)
                assert first == view.version.number

    async def _keep(self, number: int) -> None:
        """The collection keeps so many versions; fewer than before are dropped at once."""
        collection = NAME.split("/")[1]
        given = CollectionSettings(version_retention=number)
        with suppress(AlreadyExistsError):
            await self.rig.wired.rpc.create_collection.run(TENANT, collection, given)
        update = self.rig.wired.rpc.update_collection
        await update.run(TENANT, collection, given, ["version_retention"])
        await self.rig.wired.maintenance.drop_versions.run()

    async def _pin(self, number: int) -> None:
        if number % 2:
            await self.rig.wired.rpc.unpin.run(TENANT, NAME)
            self.pinned = 0
            return
        with suppress(FailedPreconditionError):
            await self.rig.wired.rpc.pin.run(TENANT, NAME, max(self.states))
            self.pinned = max(self.states)

    async def _delete(self, *, away: bool) -> None:
        self.rig.siblings.query_is_away = away
        self.pinned = 0
        try:
            view = await self.rig.delete()
        except UnavailableError:
            return
        self.query.hide(view.entry.tombstone_version)

    async def _deliver(self, *heard: Event) -> None:
        """Events of one kind arrive; those that query hears come to it one by one."""
        if isinstance(heard[0][1], HEARD):
            batch = self.rig.batch(*(event for _, event in heard))
            named = [
                replace(one, envelope=replace(one.envelope, event_id=event_id))
                for one, (event_id, _) in zip(batch, heard, strict=True)
            ]
            handler = HANDLERS[type(heard[0][1])]
            await handler(Batch(TENANT, named), self.rig.wired.use_cases)
        for event_id, event in heard:
            self.transit += self.query.receive(event_id, event)

    def _collect(self) -> None:
        """What the relay would have published by now."""
        for one in self.rig.outgoing():
            self._record(one.headers["ce-id"], read(one.subject, one.payload))
        self.rig.clear_outbox()

    def _record(self, event_id: str, event: Any) -> None:
        assert self.said.setdefault(event_id, event) == event, "one id, two facts"
        if isinstance(event, RESULTS):
            self.results[event.upload_event_id][event_id] = event
        self.transit.append((event_id, event))

    def _check_moves(self) -> None:
        for row in self.rig.rows.execute("SELECT version, state FROM versions").fetchall():
            version, state = row["version"], State(row["state"])
            before = self.states.get(version, State.ACCEPTED)
            assert state in {before, *MOVES[before]}, f"{before} to {state}"
            self.states[version] = state
        if self.pinned:
            assert (max(self.states), self.query.live) == (self.pinned, self.pinned)
        assert sorted(self.states) == list(range(1, len(self.states) + 1))

    def _is_pending(self) -> bool:
        undescribed = "SELECT version FROM versions WHERE description_due_at IS NOT NULL"
        return any(state in STEPS for state in self.states.values()) or bool(
            self.rig.rows.execute(undescribed).fetchone()
        )

    async def check(self) -> None:
        rows = self.rig.rows
        for event_id in self.uploads:
            own = list(self.results[event_id].values())
            final = [e for e in own if not isinstance(e, DocumentDeleted)]
            assert own, f"{event_id} has no result"
            assert len(final) <= 1, f"{event_id} has two results: {final}"
        if not self.states:
            return
        entry = (await self.rig.get()).entry
        assert entry.live_version == self.query.live
        if entry.live_version:
            version = await self.rig.known(entry.live_version)
            known = self.query.descriptions[entry.live_version]
            assert (known.title, known.revision) == (version.title, version.revision)
            assert to_json(known.metadata) == version.metadata
        live = [version for version, state in self.states.items() if state is State.INDEXED]
        assert live == [entry.live_version] * bool(entry.live_version)
        kept = {
            version
            for version, state in self.states.items()
            if state is State.INDEXED
            or (
                state is State.FAILED and version > max(entry.live_version, entry.tombstone_version)
            )
        }
        retained = {r["version"] for r in rows.execute("SELECT version FROM versions WHERE kept")}
        assert len(retained) <= await self._retention()
        kept |= retained
        chunks = {r["version"] for r in rows.execute("SELECT version FROM chunks").fetchall()}
        assert set(live) <= chunks <= kept
        contents = rows.execute(
            "SELECT c.version, encode(sha256(c.content), 'hex') AS sha256, v.sha256 AS expected"
            " FROM contents c JOIN versions v USING (tenant_id, document, version)"
        ).fetchall()
        assert {row["version"] for row in contents} == kept
        assert all(row["sha256"] == row["expected"] for row in contents)

    async def _retention(self) -> int:
        async with self.rig.begin(TENANT) as work:
            settings = await work.collections.find_settings(NAME.split("/")[1])
        return settings.version_retention if settings else 0


CALLS = ("grpc", "update", "delete", "roll back", "keep", "pin")
VERBS = (
    *("event", "deliver", "deliver", "all", "all", "update", *CALLS),
    *("together", "double", "lose", "reject", "remove", "describe"),
)
histories = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 7)), max_size=25)

# Given up here while it goes live there, and the broker loses that it did.
UNHEARD = [("event", 0), ("deliver", 0), ("reject", 0), ("deliver", 0), ("lose", 1)]

# A roll back that is repeated after the old bytes are dropped, and one to the version it made.
ROLLED_BACK = [
    *(("keep", 1), ("event", 0), ("all", 0), ("event", 4), ("all", 0), ("roll back", 4)),
    *(("lose", 0), ("all", 0), ("keep", 0), ("roll back", 6), ("grpc", 1), ("roll back", 2)),
]
PINNED = [
    *(("keep", 2), ("event", 0), ("all", 0), ("event", 4), ("all", 0), ("pin", 0), ("event", 6)),
    *(("event", 5), ("grpc", 0), ("roll back", 0), ("all", 0), ("delete", 0), ("grpc", 0)),
    *(("all", 0), ("pin", 2), ("event", 1), ("pin", 1), ("grpc", 1)),
]


@pytest.mark.parametrize("cut_text", [None, CutSmallText(CHUNKS)], ids=["later", "at once"])
@given(history=histories)
@example(history=UNHEARD)
@example(history=ROLLED_BACK)
@example(history=PINNED)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
def test_every_history_ends_well(
    migrated: TestDatabase,
    all_rows: psycopg.Connection[DictRow],
    cut_text: CutText | None,
    history: list[tuple[str, int]],
):
    async def run(folder: Path) -> None:
        all_rows.execute("; ".join(f"DELETE FROM {table}" for table in TABLES))
        async with (
            open_database(migrated.dsn("ingest"), "ingest", 2) as database,
            open_rig(database, all_rows, folder, cut_text) as rig,
        ):
            world = World(rig)
            # Two of three histories begin with versions that are kept.
            for verb, number in [("keep", len(history)), *history]:
                await world.do(verb, number)
            await world.settle()
            await world.check()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
