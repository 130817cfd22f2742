"""A group does what its members would have done one after the other."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import DictRow

from aquifer.ingest.v1.document_events_pb2 import DocumentFailed, VersionAccepted
from aquifer.query.v1.passage_events_pb2 import VersionSearchable
from chassis.base.errors import ServiceError
from chassis.base.postgres import open_database
from ingest.cutting import CutSmallText
from ingest.domain import Draft, Origin
from ingest.usecases.ports import Cut
from ingest.usecases.uploads.refusals import AnsweredBeforeError, SupersededError
from services.ingest.tests.conftest import (
    CHUNKS,
    TABLES,
    TENANT,
    Rig,
    messages,
    open_rig,
    read,
)
from testkit.servers import TestDatabase

CONTENTS = (b"First text.", b"Second text.", b"   ", b"Long. " * 20_000)
TIMES = {
    *("accepted_at", "updated_at", "step_due_at", "created_at", "handled_at", "key"),
    *("object_key", "upload_order", "outbox_id", "place", "headers", "payload"),
}

names = st.sampled_from([f"collections/c/documents/{n}" for n in range(4)])
uploads = st.tuples(
    names,
    st.sampled_from(range(len(CONTENTS))),
    st.sampled_from(["", "", "r1", "r2"]),
    st.sampled_from(["", "", "/a", "/b"]),
    st.sampled_from([0, 0, 10, 20, 30]),
)


async def upload(rig: Rig, one: tuple[str, int, str, str, int]) -> Any:
    """An upload by call or event; what its sender learns."""
    name, content, request_id, source, order = one
    if source and not request_id:
        request_id = name
    origin = Origin(source=source, request_id=request_id)
    draft = Draft(
        tenant=TENANT,
        name=name,
        metadata={},
        origin=origin,
        order_ns=(10**18 + order) if source else 0,
    )
    try:
        view = await rig.wired.rpc.accept.run(draft, CONTENTS[content])
    except ServiceError as error:
        return error.reason
    except (AnsweredBeforeError, SupersededError) as error:
        return type(error)
    return (view.version.document, view.version.number, view.version.state)


def read_rows(rig: Rig) -> dict[str, list[Any]]:
    """Everything in the database but times and random keys; events by id and body."""
    found = {}
    for table in TABLES:
        rows = rig.rows.execute(f"SELECT * FROM {table}").fetchall()
        kept = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
        found[table] = sorted(map(repr, kept))
    events = rig.rows.execute(
        "SELECT headers->>'ce-id' AS id, subject, payload FROM outbox"
    ).fetchall()
    found["events"] = sorted(
        (row["id"], _read_event(row["subject"], bytes(row["payload"]))) for row in events
    )
    return found


def _read_event(subject: str, payload: bytes) -> str:
    """An event without the time of its version."""
    event = read(subject, payload)
    if "description" in event.DESCRIPTOR.fields_by_name:
        event.description.ClearField("create_time")
    return str(event)


def compare(
    migrated: TestDatabase,
    all_rows: psycopg.Connection[DictRow],
    together: Callable[[Rig], Any],
    apart: Callable[[Rig], Any],
) -> None:
    """Runs both on an empty database each; they must publish and store the same."""

    async def run(work: Callable[[Rig], Any]) -> tuple[Any, Any]:
        all_rows.execute("; ".join(f"DELETE FROM {table}" for table in TABLES))
        with tempfile.TemporaryDirectory() as folder:
            async with (
                open_database(migrated.dsn("ingest"), "ingest", 4) as database,
                open_rig(database, all_rows, Path(folder), CutSmallText(CHUNKS)) as rig,
            ):
                return await work(rig), read_rows(rig)

    grouped, single = asyncio.run(run(together)), asyncio.run(run(apart))
    assert grouped == single


quick = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


@given(history=st.lists(uploads, max_size=8))
@quick
def test_uploads_that_come_together_are_recorded_as_one_after_the_other(
    migrated: TestDatabase, all_rows: psycopg.Connection[DictRow], history: list[Any]
):
    # An object is stored before its upload joins the line: only small ones keep the order of calls.
    small = [one for one in history if one[1] < 3]

    async def together(rig: Rig) -> Any:
        return await asyncio.gather(*(upload(rig, one) for one in small))

    async def apart(rig: Rig) -> Any:
        return [await upload(rig, one) for one in small]

    compare(migrated, all_rows, together, apart)


@given(
    history=st.lists(uploads, max_size=8),
    searchable=st.lists(st.tuples(names, st.integers(1, 3)), max_size=10),
    failed=st.lists(st.tuples(names, st.integers(1, 3)), max_size=2),
)
@quick
def test_versions_that_become_searchable_together_end_as_one_after_the_other(
    migrated: TestDatabase,
    all_rows: psycopg.Connection[DictRow],
    history: list[Any],
    searchable: list[tuple[str, int]],
    failed: list[tuple[str, int]],
):
    events = [
        VersionSearchable(tenant=TENANT, document=name, version=number)
        for name, number in searchable
    ]

    async def before(rig: Rig) -> None:
        for one in history:
            await upload(rig, one)
        for name, number in failed:
            event = VersionAccepted(tenant=TENANT, document=name, version=number)
            await rig.deliver(event)

    async def together(rig: Rig) -> None:
        await before(rig)
        if events:
            await rig.deliver(*events)

    async def apart(rig: Rig) -> None:
        await before(rig)
        for event in events:
            await rig.deliver(event)

    compare(migrated, all_rows, together, apart)


async def test_small_text_is_accepted_and_cut_in_one_transaction(quick: Rig):
    view = await quick.upload()
    assert view.version.state == "PREPARED"
    [prepared] = quick.outbox()
    assert [chunk.text for chunk in prepared.chunks] == ["Water finds its way."]
    assert (quick.count("chunks"), quick.content()) == (1, b"Water finds its way.")


async def test_what_is_no_small_text_takes_the_long_way(quick: Rig):
    for content in (b"   ", b"%PDF-1.4", b"<html><p>x</p></html>", b"long " * 20_000):
        await quick.upload(content, name=f"collections/c/documents/{len(content)}")
    assert {type(event) for event in quick.outbox()} == {VersionAccepted}


async def test_one_refused_upload_costs_its_neighbours_nothing(rig: Rig):
    await rig.upload(request_id="used")
    others = [f"collections/c/documents/{n}" for n in range(5)]
    outcomes = await asyncio.gather(
        *(rig.upload(name=name) for name in others),
        rig.upload(name="collections/c/documents/refused", request_id="used"),
        return_exceptions=True,
    )
    assert [getattr(one, "reason", "") for one in outcomes] == [*[""] * 5, "REQUEST_REUSED"]
    assert rig.count("versions") == 6


async def test_uploads_that_wait_share_a_transaction(rig: Rig):
    before = transactions(rig)
    await asyncio.gather(*(rig.upload(name=f"collections/c/documents/{n}") for n in range(100)))
    # One counts the backlog, one takes the first upload, two the others; more on a busy machine.
    assert transactions(rig) - before <= 10


async def test_tenants_take_turns_while_text_is_cut(
    migrated: TestDatabase, all_rows: psycopg.Connection[DictRow], tmp_path: Path
):
    cut: list[str] = []

    class Recording(CutSmallText):
        def __call__(self, draft: Draft, content: bytes, /) -> Cut | None:
            cut.append(draft.tenant)
            return super().__call__(draft, content)

    async with (
        open_database(migrated.dsn("ingest"), "ingest", 4) as database,
        open_rig(database, all_rows, tmp_path, Recording(CHUNKS)) as rig,
    ):
        # The backlog of each tenant is counted before, so that neither waits for the database.
        await rig.upload()
        await rig.upload(tenant="globex")
        cut.clear()
        many = [rig.upload(name=f"collections/c/documents/{n}") for n in range(50)]
        await asyncio.gather(*many, rig.upload(name="collections/c/documents/x", tenant="globex"))
    assert cut.count(TENANT) == 50
    assert cut.index("globex") <= 2


def transactions(rig: Rig) -> int:
    """Transactions that have written something."""
    row = rig.rows.execute("SELECT txid_current() AS n").fetchone()
    assert row is not None
    return int(row["n"])


async def test_the_later_of_two_upload_events_wins_whoever_handles_which_first(rig: Rig):
    await rig.event(b"New.", event_id="new", stored_ns=2_000)
    published = messages(await rig.event(b"Old.", event_id="old", stored_ns=1_000))
    assert [(type(e), e.reason, e.version, e.upload_event_id) for e in published] == [
        (DocumentFailed, "VERSION_SUPERSEDED", 0, "old")
    ]
    assert (rig.count("versions"), rig.content()) == (1, b"New.")
    # Sent again, it learns the same.
    assert messages(await rig.event(b"Old.", event_id="old", stored_ns=3_000)) == published


async def test_bytes_that_come_back_are_later_than_those_in_between(rig: Rig):
    """A, B, A published in this order, B handled last: A is what searches see."""
    await rig.event(b"A.", event_id="1", stored_ns=1_000)
    await rig.event(b"A.", event_id="3", stored_ns=3_000)
    [event] = messages(await rig.event(b"B.", event_id="2", stored_ns=2_000))
    assert event.reason == "VERSION_SUPERSEDED"
    assert rig.content() == b"A."


@pytest.mark.parametrize("same", [False, True])
async def test_a_call_is_as_late_as_its_acceptance(rig: Rig, *, same: bool):
    published_ns = next(rig.clock)
    await rig.event(b"By event.", event_id="1", stored_ns=published_ns)
    await rig.upload(b"By event." if same else b"By call.")
    [event] = messages(await rig.event(b"Late.", event_id="2", stored_ns=published_ns + 1))
    assert event.reason == "VERSION_SUPERSEDED"
    await rig.event(b"Newest.", event_id="3", stored_ns=9 * 10**18)
    assert rig.content(2 if same else 3) == b"Newest."
