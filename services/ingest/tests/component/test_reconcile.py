"""What `aquifer reconcile` finds in ingest, and between ingest and query, and how it repairs it."""

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.message import Message

from aquifer.ingest.v1.document_events_pb2 import (
    ChunksPrepared,
    DocumentDeletionRequested,
    VersionAccepted,
)
from aquifer.ops.v1 import reconcile_service_pb2 as pb
from chassis.base.errors import InvalidInputError, NotFoundError
from chassis.identity.tokens import Caller, admit
from chassis.process.reconcile import ReconcileRpc
from ingest.labels import Labels
from ingest.usecases.documents.read_text import TextQuery
from ingest.usecases.ports import Shown
from services.ingest.tests.conftest import NAME, TENANT, Rig, ids, messages

OTHER = "collections/minutes/documents/may"
OPERATOR = Caller(
    tenant="system",
    principal="user:ada",
    key_id="key1",
    scopes=frozenset({"operate"}),
    expires_at=float("inf"),
)
NO_CONTEXT: Any = None
# Too large for the database.
LARGE = b"Water finds its way. " * 8_000
LONG = " ".join(f"Sentence number {n} says something of its own." for n in range(400)).encode()


async def reconcile(
    rig: Rig, *, dry_run: bool = False, collection: str = ""
) -> dict[str, tuple[int, int]]:
    """Number found and repaired of each kind, over all slices."""
    admit(OPERATOR, "")
    rpc = ReconcileRpc(rig.wired.checks)
    found: dict[str, tuple[int, int]] = {}
    token, calls = "", 0
    while token or not calls:
        request = pb.ReconcileRequest(dry_run=dry_run, collection=collection, page_token=token)
        response = await rpc.Reconcile(request, NO_CONTEXT)
        for one in response.differences:
            name = pb.DifferenceKind.Name(one.kind).removeprefix("DIFFERENCE_KIND_")
            count, repaired = found.get(name, (0, 0))
            found[name] = (count + one.count, repaired + one.repaired)
        token, calls = response.next_page_token, calls + 1
        assert calls < 100
    return found


async def repair(rig: Rig, expected: dict[str, tuple[int, int]]) -> Sequence[Message]:
    """A dry run and a repair both find the same; returns what only the repair sends."""
    before = rig.last_outgoing()
    assert await reconcile(rig, dry_run=True) == expected
    assert rig.outgoing(before) == []
    assert await reconcile(rig) == expected
    return messages(rig.outgoing(before))


def show(rig: Rig, name: str = NAME, **changes: Any) -> None:
    """Query shows a document as ingest has it, but for these changes."""
    row = rig.rows.execute(
        "SELECT live_version, tombstone_version, (SELECT chunk_count FROM versions"
        " WHERE document = name AND version = live_version) AS passages"
        " FROM documents WHERE name = %s",
        [name],
    ).fetchone()
    rig.siblings.shown[name] = dataclasses.replace(
        Shown(document=name, **{key: value or 0 for key, value in (row or {}).items()}), **changes
    )


async def test_nothing_differs_where_nothing_is_broken(rig: Rig):
    await rig.index_version()
    show(rig)
    await rig.upload(name=OTHER)
    assert await repair(rig, {}) == []


async def test_a_lost_step_is_sent_again_and_one_that_waits_is_not(rig: Rig):
    await rig.upload()
    rig.clear_outbox()
    rig.age_versions()
    rig.siblings.last = {"VersionAccepted": 5}
    assert await repair(rig, {"STEP_OVERDUE": (1, 0)}) == []
    rig.siblings.handled = {"VersionAccepted": 5}
    assert await repair(rig, {"STEP_OVERDUE": (1, 1)}) == [
        VersionAccepted(tenant=TENANT, document=NAME, version=1, attempt=1)
    ]


async def test_more_lost_steps_than_one_slice_repairs_are_all_sent_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ingest.usecases.upkeep.repair.BATCH", 2)
    monkeypatch.setattr("ingest.usecases.upkeep.reconcile_own.BATCH", 2)
    for number in range(5):
        await rig.upload(name=f"{NAME}-{number}")
    rig.clear_outbox()
    rig.age_versions()
    assert await reconcile(rig) == {"STEP_OVERDUE": (5, 5)}
    assert len({event.document for event in rig.outbox()}) == 5  # type: ignore[attr-defined]


async def test_a_delete_that_does_not_end_is_asked_for_again(rig: Rig):
    await rig.index_version()
    show(rig)
    await rig.delete()
    rig.clear_outbox()
    rig.age_versions()
    assert await repair(rig, {"DELETE_UNFINISHED": (1, 1)}) == [
        DocumentDeletionRequested(tenant=TENANT, document=NAME, version=1, attempt=1)
    ]


async def test_an_object_that_no_version_needs_goes_when_it_is_old(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    await rig.index_version(LARGE)
    show(rig)
    [kept] = await rig.objects.list()
    folder = kept.rpartition("/")[0]
    old, new = f"{folder}/0000000000001-a", f"{folder}/9999999999999-b"
    for key in (old, new):
        await rig.objects.put(key, b"x", max_bytes=10)
    assert await reconcile(rig, dry_run=True) == {"OBJECT_UNUSED": (1, 1)}
    assert old in await rig.objects.list()
    # Such an object belongs to no collection.
    assert await reconcile(rig, collection="reports") == {}
    assert await reconcile(rig) == {"OBJECT_UNUSED": (1, 1)}
    assert sorted(await rig.objects.list()) == sorted([kept, new])


async def test_an_object_that_a_delete_has_removed_is_not_missing(rig: Rig):
    await rig.index_version(LARGE)
    key = rig.version()["object_key"]
    await rig.delete()
    await rig.objects.delete(key)
    assert "OBJECT_MISSING" not in await reconcile(rig)


async def test_a_missing_object_is_told_and_the_document_stays(rig: Rig):
    await rig.index_version(LARGE)
    await rig.index_version(LARGE, name=OTHER)
    for name in (NAME, OTHER):
        show(rig, name)
    await rig.objects.delete(rig.version()["object_key"])
    assert await repair(rig, {"OBJECT_MISSING": (1, 0)}) == []
    assert await reconcile(rig, collection="minutes") == {}
    assert await reconcile(rig, collection="reports") == {"OBJECT_MISSING": (1, 0)}
    assert rig.state() == "INDEXED"


@pytest.mark.parametrize("lost", [{}, {"passages": 0}, {"live_version": 0, "passages": 0}])
async def test_chunks_of_a_version_that_query_lost_are_sent_again(rig: Rig, lost: dict[str, int]):
    await rig.upload(LONG)
    first = await rig.prepare()
    await rig.searchable()
    if lost:
        show(rig, **lost)
    sent = await repair(rig, {"PASSAGES_MISSING": (1, 1)})
    assert [event for event in sent if isinstance(event, ChunksPrepared)] == messages(first)
    # New events, which no inbox swallows.
    again = [one for one in rig.outgoing() if one.headers["ce-id"] not in ids(first)]
    assert len({one.headers["ce-id"] for one in again}) >= len(first)
    assert rig.state() == "INDEXED"


async def test_a_single_lost_passage_is_enough(rig: Rig):
    await rig.upload(LONG)
    await rig.prepare()
    await rig.searchable()
    show(rig, passages=rig.version()["chunk_count"] - 1)
    await repair(rig, {"PASSAGES_MISSING": (1, 1)})


async def test_a_version_on_its_way_is_no_difference(rig: Rig):
    """Query shows the second version already; ingest has not heard of it."""
    await rig.index_version()
    await rig.upload(b"Other words.")
    await rig.prepare(2)
    rig.clear_outbox()
    show(rig, live_version=2, passages=1)
    assert await repair(rig, {}) == []


@pytest.mark.parametrize("ahead", [{"live_version": 7}, {"tombstone_version": 7}])
async def test_what_query_alone_knows_of_a_live_document_is_told(rig: Rig, ahead: dict[str, int]):
    await rig.index_version()
    show(rig, **ahead)
    assert await repair(rig, {"VERSION_AHEAD": (1, 0)}) == []


@pytest.mark.parametrize(
    "left",
    [
        {"live_version": 1, "tombstone_version": 0, "passages": 1},
        {"live_version": 1, "tombstone_version": 1, "deleted_passages": 1},
    ],
)
async def test_a_deleted_document_that_query_still_has_is_deleted_again(
    rig: Rig, left: dict[str, int]
):
    await rig.index_version()
    await rig.delete()
    await rig.report_purged()
    assert rig.state() == "DELETED"
    show(rig, **left)
    first = ids(rig.outgoing())
    sent = await repair(rig, {"PASSAGES_LEFT": (1, 1)})
    assert sent == [DocumentDeletionRequested(tenant=TENANT, document=NAME, version=1, attempt=0)]
    assert ids(rig.outgoing())[-1] not in first
    # The answer finds nothing left to do.
    assert await rig.report_purged() == []


@pytest.mark.parametrize("removed", [False, True])
async def test_a_document_that_ingest_does_not_know_is_deleted_from_query(
    rig: Rig, *, removed: bool
):
    if removed:
        await rig.removal()
        rig.clear_outbox()
    rig.siblings.shown[NAME] = Shown(document=NAME, live_version=3, passages=2)
    assert await repair(rig, {"PASSAGES_LEFT": (1, 1)}) == [
        DocumentDeletionRequested(tenant=TENANT, document=NAME, version=3)
    ]
    assert rig.state(3) == "DELETING"
    for number in (1, 2, 4):
        # Only the last version became known.
        with pytest.raises(NotFoundError) as unknown:
            await rig.wired.rpc.get_text.run(TENANT, NAME, TextQuery(version=number))
        assert unknown.value.reason == "VERSION_UNKNOWN"
    await rig.report_purged(3)
    assert rig.state(3) == "DELETED"
    # It is known now: a new upload is above what query may hide.
    view = await rig.upload()
    assert view.version.number == 4


async def test_a_running_delete_is_left_alone(rig: Rig):
    await rig.index_version()
    show(rig)
    await rig.delete()
    rig.clear_outbox()
    assert await repair(rig, {}) == []


async def test_only_the_collection_is_compared(rig: Rig):
    for name in (NAME, OTHER):
        await rig.upload(name=name)
        await rig.prepare(name=name)
        await rig.searchable(name=name)
    rig.clear_outbox()
    assert await reconcile(rig, collection="minutes") == {"PASSAGES_MISSING": (1, 1)}
    assert {event.document for event in rig.outbox()} == {OTHER}  # type: ignore[attr-defined]
    assert await reconcile(rig, collection="nothing") == {}


async def test_many_documents_are_compared_slice_by_slice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ingest.usecases.upkeep.reconcile_search.SLICE", 2)
    for number in range(5):
        await rig.index_version(name=f"{NAME}-{number}")
    assert await reconcile(rig, dry_run=True) == {"PASSAGES_MISSING": (5, 5)}


async def test_operators_at_the_same_time_do_no_harm(rig: Rig):
    await rig.upload()
    rig.clear_outbox()
    rig.age_versions()
    both = await asyncio.gather(reconcile(rig), reconcile(rig))
    assert sum(one.get("STEP_OVERDUE", (0, 0))[1] for one in both) == 1


@pytest.mark.parametrize("changes", [{"dry_run": True}, {"collection": "c"}])
async def test_a_token_is_only_valid_for_the_same_request(rig: Rig, changes: dict[str, Any]):
    admit(OPERATOR, "")
    rpc = ReconcileRpc(rig.wired.checks)
    first = await rpc.Reconcile(pb.ReconcileRequest(), NO_CONTEXT)
    request = pb.ReconcileRequest(page_token=first.next_page_token, **changes)
    with pytest.raises(InvalidInputError) as refused:
        await rpc.Reconcile(request, NO_CONTEXT)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_query_gets_the_labels_of_ingest_again(rig: Rig):
    """Also if query has later ones, as after restoring an older backup of ingest."""
    await rig.upload(labels=("hr",))
    await rig.prepare()
    await rig.searchable()
    rig.siblings.labelled[NAME] = Labels(names=("law",), order=time.time_ns())
    show(rig, labels=("law",))
    assert await reconcile(rig, dry_run=True) == {"LABELS_DIFFER": (1, 1)}
    assert await rig.wired.maintenance.send_labels.run() == 0
    assert await reconcile(rig) == {"LABELS_DIFFER": (1, 1)}
    await rig.wired.maintenance.send_labels.run()
    assert rig.siblings.labelled[NAME].names == ("hr",)
    show(rig, labels=("hr",))
    assert await reconcile(rig) == {}
