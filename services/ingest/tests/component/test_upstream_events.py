"""Removal and description events: each ends once, and the last event of a document wins."""

import asyncio
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import DictRow

from aquifer.auth.v1.auth_events_pb2 import TenantSuspended
from aquifer.ingest.v1.document_events_pb2 import (
    DescriptionChanged,
    DocumentAccepted,
    DocumentDeleted,
    DocumentDeletionRequested,
    DocumentFailed,
    DocumentIndexed,
    DocumentUpdated,
)
from aquifer.ingest.v1.upload_events_pb2 import DocumentDescribed, DocumentRemoved
from aquifer.structs import to_json, to_struct
from chassis.base.errors import ConflictError, InvalidInputError, NotFoundError
from chassis.base.postgres import open_database
from chassis.events.delivery import Unreadable
from chassis.events.envelope import Glimpse
from ingest.changes import read_changes
from ingest.cutting import CutSmallText
from ingest.usecases.uploads.refusals import TenantLateError
from services.ingest.tests.conftest import (
    CHUNKS,
    NAME,
    TABLES,
    TENANT,
    Rig,
    ids,
    messages,
    open_rig,
)
from testkit.servers import TestDatabase

RESULTS = (DocumentIndexed, DocumentFailed, DocumentDeleted, DocumentUpdated)


async def purge(rig: Rig, version: int = 1) -> list[Any]:
    """Query has removed the versions: the results."""
    sent = messages(await rig.report_purged(version))
    return [one for one in sent if isinstance(one, RESULTS)]


async def test_a_removal_deletes_the_document_and_ends_with_the_receipt(rig: Rig):
    await rig.index_version()
    first = await rig.removal(correlation_id="c")
    accepted, ordered = sorted(messages(first), key=lambda one: one.DESCRIPTOR.name)
    assert accepted == DocumentAccepted(
        tenant=TENANT, document=NAME, version=1, upload_event_id="r1", correlation_id="c"
    )
    assert ordered == DocumentDeletionRequested(tenant=TENANT, document=NAME, version=1)
    assert rig.siblings.hidden == [(NAME, 1)]
    assert (await rig.get()).entry.live_version == 0
    mine = [one for one in await purge(rig) if one.upload_event_id == "r1"]
    [deleted] = mine
    assert isinstance(deleted, DocumentDeleted)
    assert (deleted.correlation_id, deleted.receipt.passages) == ("c", 2)
    assert deleted.receipt.objects == 1


async def test_a_removal_sent_again_gets_the_same_answer_under_the_same_id(rig: Rig):
    await rig.index_version()
    first = await rig.removal()
    accepted = [one for one in first if "DocumentAccepted" in one.subject]
    assert ids(await rig.removal(stored_ns=9 * 10**18)) == ids(accepted)
    deleted = [one for one in await rig.report_purged() if messages([one])[0].upload_event_id]
    assert ids(await rig.removal()) == ids(deleted)
    await rig.event(event_id="again", stored_ns=time.time_ns())
    assert ids(await rig.removal(stored_ns=9 * 10**18)) == ids(deleted)
    assert rig.state(2) == "ACCEPTED"


async def test_the_deletion_goes_on_if_query_is_away(rig: Rig):
    await rig.index_version()
    rig.siblings.query_is_away = True
    published = messages(await rig.removal())
    assert DocumentDeletionRequested(tenant=TENANT, document=NAME, version=1) in published
    assert {type(one) for one in await purge(rig)} == {DocumentDeleted}


async def test_every_removal_of_a_document_gets_the_receipt(rig: Rig):
    await rig.index_version()
    await rig.removal(event_id="r1")
    await rig.removal(event_id="r2", stored_ns=1)
    results = {one.upload_event_id: one.receipt for one in await purge(rig)}
    [late] = messages(await rig.removal(event_id="r3"))
    assert {"r1", "r2"} <= set(results)
    assert late.receipt == results["r1"] == results["r2"]


async def test_an_upload_after_a_removal_is_a_new_version(rig: Rig):
    await rig.event(b"Old.", event_id="old")
    await rig.removal()
    await rig.event(b"New.", event_id="new", stored_ns=time.time_ns())
    assert (rig.state(1), rig.state(2)) == ("DELETING", "ACCEPTED")


@pytest.mark.parametrize("known", [False, True])
async def test_an_upload_from_before_a_removal_brings_nothing_back(rig: Rig, *, known: bool):
    if known:
        await rig.event(b"First.", event_id="first", stored_ns=1_000)
    await rig.removal(stored_ns=3_000)
    for _ in range(2):
        [late] = messages(await rig.event(b"Late.", event_id="late", stored_ns=2_000))
        assert (late.reason, late.version) == ("VERSION_SUPERSEDED", 0)
    assert rig.count("versions") == known
    await rig.event(b"Later.", event_id="later", stored_ns=4_000)
    assert rig.content(1 + known) == b"Later."


async def test_a_removal_from_before_an_upload_removes_nothing(rig: Rig):
    await rig.event(b"New.", event_id="new", stored_ns=3_000)
    [late] = messages(await rig.removal(stored_ns=2_000))
    assert (late.reason, late.version, late.upload_event_id) == ("VERSION_SUPERSEDED", 0, "r1")
    assert rig.state() == "ACCEPTED"


@pytest.mark.parametrize("kind", ["removal", "description"])
async def test_an_event_waits_for_an_upload_it_has_overtaken(rig: Rig, kind: str):
    for attempt in range(1, 6):
        with pytest.raises(ConflictError):
            await getattr(rig, kind)(attempt=attempt, stored_ns=2_000)
    await rig.event(stored_ns=1_000)
    published = messages(await getattr(rig, kind)(attempt=6, stored_ns=2_000))
    assert not [one for one in published if isinstance(one, DocumentFailed)]


@pytest.mark.parametrize("kind", ["removal", "description"])
async def test_an_unknown_document_is_refused_for_good(rig: Rig, kind: str):
    first = await getattr(rig, kind)(correlation_id="c")
    [failed] = messages(first)
    assert (failed.reason, failed.document, failed.correlation_id) == (
        "DOCUMENT_UNKNOWN",
        NAME,
        "c",
    )
    await rig.event(stored_ns=time.time_ns())
    assert ids(await getattr(rig, kind)()) == ids(first)
    assert rig.state() == "ACCEPTED"
    # What is left of a removal is no document.
    await getattr(rig, kind)(name="collections/other/documents/x", event_id="x")
    async with rig.begin(TENANT) as work:
        assert await work.collections.find("other") is None
        listed = await work.collections.list_page("", 10)
        assert [one.collection_id for one in listed] == ["reports"]
    with pytest.raises(NotFoundError):
        await rig.get("collections/other/documents/x")
    with pytest.raises(NotFoundError):
        await rig.delete("collections/other/documents/x")


REFUSED = [
    ({"name": "reports/q3"}, "DOCUMENT_NAME"),
    ({"correlation_id": "x" * 129}, "METADATA_RANGE"),
]
REFUSED_DESCRIPTIONS = [
    ({"title": "x" * 513}, "METADATA_RANGE"),
    ({"metadata": to_struct({"a": {"b": "c"}})}, "METADATA_RANGE"),  # type: ignore[dict-item]
]


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        *(("removal", *one) for one in REFUSED),
        *(("description", *one) for one in (*REFUSED, *REFUSED_DESCRIPTIONS)),
    ],
)
async def test_what_ingest_cannot_do_is_refused(
    rig: Rig, kind: str, fields: dict[str, Any], reason: str
):
    await rig.event()
    [failed] = messages(await getattr(rig, kind)(**fields))
    assert (failed.reason, failed.version, failed.upload_event_id[1:]) == (reason, 0, "1")
    assert rig.state() == "ACCEPTED"


@pytest.mark.parametrize("kind", ["removal", "description"])
async def test_the_tenant_of_an_event_is_checked(rig: Rig, kind: str):
    await rig.event()
    await rig.deliver(TenantSuspended(tenant=TENANT))
    [failed] = messages(await getattr(rig, kind)(event_id="2"))
    assert failed.reason == "TENANT_SUSPENDED"
    rig.rows.execute("DELETE FROM tenants")
    with pytest.raises(TenantLateError):
        await getattr(rig, kind)(event_id="3", attempt=1)
    with pytest.raises(NotFoundError) as refusal:
        await getattr(rig, kind)(event_id="3", attempt=5)
    assert refusal.value.reason == "TENANT_UNKNOWN"
    assert rig.state() == "ACCEPTED"


@pytest.mark.parametrize("kind", [DocumentRemoved, DocumentDescribed])
async def test_a_dead_or_unreadable_event_has_a_result(rig: Rig, kind: Any):
    event = kind(tenant=TENANT, document=NAME, correlation_id="c")
    error = InvalidInputError("EVENT_UNDECODABLE", "no")
    [failed] = messages(await rig.give_up(event, error, event_id="1"))
    assert (failed.reason, failed.upload_event_id) == ("EVENT_UNDECODABLE", "1")
    seen = Glimpse(event_id="2", source="/a", document=NAME, correlation_id="c")
    before = rig.last_outgoing()
    unreadable = Unreadable(tenant=TENANT, seen=seen, sequence=1, stored_ns=1)
    await rig.wired.use_cases.answers.refuse_unreadable(unreadable, error)
    [failed] = messages(rig.outgoing(before))
    assert (failed.reason, failed.upload_event_id) == ("EVENT_UNDECODABLE", "2")


async def test_a_description_replaces_title_and_metadata_and_is_passed_on(rig: Rig):
    await rig.event(title="Old", metadata=to_struct({"a": 1}))
    await rig.prepare()
    await rig.searchable()
    first = await rig.description(
        title="New", metadata=to_struct({"b": [True]}), correlation_id="c"
    )
    changed, updated = messages(first)
    assert isinstance(changed, DescriptionChanged)
    assert (changed.description.title, to_json(changed.description.metadata)) == (
        "New",
        {"b": [True]},
    )
    assert updated == DocumentUpdated(
        tenant=TENANT, document=NAME, version=1, upload_event_id="d1", correlation_id="c"
    )
    assert ids(await rig.description(title="Other", stored_ns=9 * 10**18)) == ids(first)[1:]
    assert (rig.version()["title"], rig.version()["metadata"]) == ("New", {"b": [True]})


async def test_a_description_reaches_the_live_version_under_an_unfinished_one(rig: Rig):
    await rig.index_version()
    await rig.upload(b"Newer.")
    await rig.description(title="New")
    assert (rig.version(1)["title"], rig.version(2)["title"]) == ("New", "New")


@pytest.mark.parametrize(
    "later", ["upload", "same bytes", "call", "description", "same", "removal"]
)
async def test_a_late_description_changes_nothing(rig: Rig, later: str):
    await rig.event(title="First", stored_ns=1_000)
    match later:
        case "upload":
            await rig.event(b"Other.", event_id="2", title="Last", stored_ns=3_000)
        case "same bytes":
            await rig.event(event_id="2", title="Last", stored_ns=3_000)
        case "call":
            changes = read_changes([], title="Last", metadata=None)
            await rig.wired.rpc.update.run(TENANT, NAME, changes)
        case "description":
            await rig.description(event_id="2", title="Last", stored_ns=3_000)
        case "same":
            await rig.description(event_id="2", title="First", stored_ns=3_000)
        case "removal":
            await rig.removal(stored_ns=3_000)
    number = 2 if later == "upload" else 1
    before = rig.version(number)["title"]
    [failed] = messages(await rig.description(event_id="late", title="Late", stored_ns=2_000))
    assert failed.reason == "VERSION_SUPERSEDED"
    assert rig.version(number)["title"] == before != "Late"


async def test_an_upload_from_before_a_call_gets_the_title_that_the_call_set(rig: Rig):
    await rig.event(CONTENTS[0], event_id="e1", title="First", stored_ns=1_000)
    await rig.description(event_id="d1", title="Described", stored_ns=1_100)
    changes = read_changes(("title",), title="Called", metadata=None)
    await rig.wired.rpc.update.run(TENANT, NAME, changes)
    await rig.event(CONTENTS[1], event_id="e2", title="Second", stored_ns=1_050)
    assert (rig.version(2)["title"], rig.version(1)["title"]) == ("Called", "Called")


async def test_a_repeated_delete_forgets_the_description_kept_for_a_later_upload(rig: Rig):
    await rig.event(event_id="e1", stored_ns=1_000)
    await rig.description(title="Kept", stored_ns=3_000)
    await rig.removal(stored_ns=2_000)
    await rig.delete()
    described = rig.rows.execute("SELECT description FROM documents").fetchall()
    assert described == [{"description": {}}]


@pytest.mark.parametrize(("age_s", "title"), [(86_400, "Kept"), (8 * 86_400, "Second")])
async def test_a_kept_description_is_forgotten_after_days(rig: Rig, age_s: int, title: str):
    given = time.time_ns() - age_s * 10**9
    await rig.event(CONTENTS[0], event_id="e1", stored_ns=given - 2)
    await rig.description(title="Kept", stored_ns=given)
    forgotten = title != "Kept"
    for left in (forgotten, False):
        assert await rig.wired.maintenance.forget_descriptions.run() == left
    await rig.event(CONTENTS[1], event_id="e2", title="Second", stored_ns=given - 1)
    if forgotten:
        assert rig.rows.execute("SELECT description FROM documents").fetchall() == [
            {"description": {}}
        ]
    else:
        assert rig.version(2)["title"] == title


async def test_a_deleted_document_cannot_be_described(rig: Rig):
    await rig.index_version()
    await rig.delete()
    [failed] = messages(await rig.description())
    assert failed.reason == "DOCUMENT_DELETED"


async def test_a_removal_leaves_no_description(rig: Rig):
    await rig.event(stored_ns=1_000)
    await rig.description(title="Secret", stored_ns=2_000)
    await rig.removal(stored_ns=3_000)
    await rig.report_purged()
    kept = rig.rows.execute("SELECT description FROM documents").fetchall()
    assert [row["description"] for row in kept] == [{}]


CONTENTS = (b"First text.", b"Second text.")
event_kinds = st.tuples(
    st.sampled_from(["upload", "upload", "remove", "describe"]), st.integers(0, 1)
)


async def handle(rig: Rig, place: int, kind: str, number: int, attempt: int) -> None:
    """The event at a place of the stream, as its consumer handles it."""
    about: dict[str, Any] = {"event_id": f"e{place}", "stored_ns": 1_000 + place}
    described = {"title": f"T{place}", "metadata": to_struct({"place": place})}
    match kind:
        case "upload":
            await rig.event(CONTENTS[number], **described, **about)
        case "remove":
            await rig.removal(attempt=attempt, **about)
        case "describe":
            await rig.description(attempt=attempt, **described, **about)


async def handle_all(rig: Rig, stream: list[tuple[str, int]], order: list[int]) -> Any:
    """Events in an order of handling; one that waits is handled after the others."""
    waiting = [(place, 1) for place in order]
    while waiting:
        place, attempt = waiting.pop(0)
        try:
            await handle(rig, place, *stream[place], attempt)
        except ConflictError:
            waiting.append((place, attempt + 1))
    view = await _find(rig)
    if view is None or view.entry.latest_version <= view.entry.tombstone_version:
        return None
    version = view.version
    return (rig.content(version.number), version.given_title, dict(version.metadata))


async def _find(rig: Rig) -> Any:
    async with rig.begin(TENANT) as work:
        return await work.documents.find_newest(NAME)


@given(
    stream=st.lists(event_kinds, min_size=1, max_size=5), random=st.randoms(use_true_random=False)
)
@pytest.mark.timeout(300)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
def test_the_last_event_of_a_document_wins_whichever_is_handled_first(
    migrated: TestDatabase,
    all_rows: psycopg.Connection[DictRow],
    stream: list[tuple[str, int]],
    random: Any,
):
    order = random.sample(range(len(stream)), len(stream))
    order += random.choices(order, k=2)

    async def run(places: list[int]) -> Any:
        all_rows.execute("; ".join(f"DELETE FROM {table}" for table in TABLES))
        with tempfile.TemporaryDirectory() as folder:
            async with (
                open_database(migrated.dsn("ingest"), "ingest", 2) as database,
                open_rig(database, all_rows, Path(folder), CutSmallText(CHUNKS)) as rig,
            ):
                found = await handle_all(rig, stream, places)
                _check_results(rig, len(stream))
                return found

    assert asyncio.run(run(order)) == asyncio.run(run(list(range(len(stream)))))


def _check_results(rig: Rig, count: int) -> None:
    """At most one kind of final result for each event, under one id; none means that it waits."""
    published = rig.outgoing()
    results = [
        one
        for one in zip(ids(published), messages(published), strict=True)
        if isinstance(one[1], RESULTS)
    ]
    for place in range(count):
        mine = {(id_, repr(one)) for id_, one in results if one.upload_event_id == f"e{place}"}
        assert len(mine) <= 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_a_description_after_a_removal_survives_any_order(rig: Rig, order: tuple[int, ...]):
    stream = [("upload", 0), ("remove", 0), ("upload", 1), ("describe", 0)]
    assert await handle_all(rig, stream, list(order)) == (CONTENTS[1], "T3", {"place": 3})
