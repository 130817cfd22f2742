"""Deleted is dead: out of search before the answer, out of every store after, and never back."""

import asyncio

import pytest

from aquifer.ingest.v1.document_events_pb2 import (
    DocumentDeleted,
    DocumentDeletionRequested,
    VersionAccepted,
)
from aquifer.ingest.v1.document_pb2 import DeletionReceipt
from chassis.base.errors import InvalidInputError, NotFoundError, UnavailableError
from ingest.domain import State
from services.ingest.tests.conftest import NAME, TABLES, TENANT, Rig, messages

SECRET = b"A sentence nobody may find again."
LARGE = b"Another sentence nobody may find again. " * 2_000


@pytest.mark.parametrize("content", [SECRET, LARGE], ids=["row", "object"])
async def test_a_delete_hides_then_removes_everything_and_leaves_a_receipt(rig: Rig, content):
    await rig.index_version(content)
    chunks = rig.count("chunks")
    rig.clear_outbox()
    view = await rig.delete()
    assert (view.version.state, view.entry.live_version) == (State.DELETING, 0)
    assert rig.siblings.hidden == [(NAME, 1)]
    [requested] = rig.outbox()
    assert requested == DocumentDeletionRequested(tenant=TENANT, document=NAME, version=1)
    rig.siblings.letters = 3
    [event] = messages(await rig.report_purged())
    assert event == DocumentDeleted(
        tenant=TENANT,
        document=NAME,
        version=1,
        receipt=DeletionReceipt(
            objects=1,
            chunks=chunks,
            passages=2,
            points=2,
            outbox_rows=1,
            dead_letters=3,
        ),
    )
    assert (rig.count("chunks"), rig.count("contents")) == (0, 0)
    assert await rig.objects.list(TENANT) == []
    assert rig.state() == "DELETED"
    assert (await rig.get()).version.state is State.DELETED


def find_tables(rig: Rig, secret: str) -> list[str]:
    """Tables with a row that contains the text."""
    return [
        table
        for table in TABLES
        for row in rig.rows.execute(f"SELECT * FROM {table}")
        if secret in repr(row) or secret.encode() in bytes(row.get("payload", b""))
    ]


async def test_no_row_holds_anything_of_a_deleted_document_but_its_name(rig: Rig):
    secret = "nobody may find again"
    await rig.upload(SECRET, title=secret, file_name=f"{secret}.txt", metadata={"k": secret})
    await rig.prepare()
    await rig.searchable()
    assert {"versions", "chunks"} <= set(find_tables(rig, secret))
    await rig.delete()
    await rig.report_purged()
    assert find_tables(rig, secret) == []


async def test_a_delete_is_pending_while_query_is_away_and_a_repeat_finishes_it(rig: Rig):
    await rig.index_version()
    rig.siblings.query_is_away = True
    with pytest.raises(UnavailableError) as pending:
        await rig.delete()
    assert pending.value.reason == "HIDE_PENDING"
    view = await rig.get()
    assert (view.version.state, view.entry.live_version) == (State.DELETING, 1)
    rig.siblings.query_is_away = False
    assert (await rig.delete()).entry.live_version == 0
    requests = [e for e in rig.outbox() if isinstance(e, DocumentDeletionRequested)]
    assert len(requests) == 1


async def test_a_delete_that_query_finished_first_is_done(rig: Rig):
    await rig.index_version()
    rig.siblings.query_is_away = True
    with pytest.raises(UnavailableError):
        await rig.delete()
    await rig.report_purged()
    assert (await rig.delete()).version.state is State.DELETED
    assert rig.siblings.hidden == []


async def test_deleting_twice_is_deleting_once(rig: Rig):
    await rig.index_version()
    await asyncio.gather(*(rig.delete() for _ in range(4)))
    await rig.delete()
    requests = [e for e in rig.outbox() if isinstance(e, DocumentDeletionRequested)]
    assert len(requests) == 1
    assert len(await rig.report_purged(event_id="p1")) == 1
    assert await rig.report_purged(event_id="p1") == []
    assert await rig.report_purged(event_id="p2") == []


async def test_the_receipt_counts_the_bytes_that_were_there(rig: Rig):
    """A superseded version lost its own when the next one went live."""
    await rig.index_version(SECRET)
    await rig.index_version(LARGE)
    await rig.upload(b"Not indexed yet.")
    await rig.delete()
    assert (len(await rig.objects.list(TENANT)), rig.count("contents")) == (1, 1)
    [event] = messages(await rig.report_purged(3))
    assert event.receipt.objects == 2
    assert await rig.objects.list(TENANT) == []


async def test_the_receipt_tells_what_attempts_removed_that_broke_off(rig: Rig):
    await rig.index_version(LARGE)
    await rig.delete()
    rig.siblings.letters, rig.siblings.bus_is_away = 3, True
    with pytest.raises(UnavailableError):
        await rig.report_purged(event_id="p1")
    assert await rig.objects.list(TENANT) == []
    rig.siblings.bus_is_away = False
    rig.rows.execute("ALTER TABLE chunks RENAME TO chunks_away")
    try:
        with pytest.raises(UnavailableError):
            await rig.report_purged(event_id="p1")
    finally:
        rig.rows.execute("ALTER TABLE chunks_away RENAME TO chunks")
    rig.siblings.letters = 2
    [event] = messages(await rig.report_purged(event_id="p1"))
    assert (event.receipt.objects, event.receipt.dead_letters) == (1, 5)


async def test_a_later_delete_tells_what_an_older_one_removed_that_broke_off(rig: Rig):
    await rig.index_version(LARGE)
    await rig.delete()
    rig.siblings.bus_is_away = True
    with pytest.raises(UnavailableError):
        await rig.report_purged(1)
    await rig.upload(b"Something new.")
    await rig.delete()
    rig.siblings.bus_is_away = False
    [event] = messages(await rig.report_purged(2))
    assert (event.version, event.receipt.objects) == (2, 2)


async def test_an_unknown_document_can_not_be_deleted(rig: Rig):
    with pytest.raises(NotFoundError) as unknown:
        await rig.delete()
    assert unknown.value.reason == "DOCUMENT_UNKNOWN"
    with pytest.raises(InvalidInputError):
        await rig.delete("no-name")


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_delete_during_indexing_wins_over_whatever_comes_late(rig: Rig, *, prepared: bool):
    await rig.event()
    if prepared:
        await rig.prepare()
    await rig.delete()
    assert await rig.prepare() == []
    assert await rig.searchable() == []
    assert rig.state() == "DELETING"
    [event] = messages(await rig.report_purged())
    assert isinstance(event, DocumentDeleted)
    assert event.upload_event_id == "e1"
    assert await rig.prepare() == []
    assert await rig.searchable() == []
    assert (rig.state(), rig.count("chunks")) == ("DELETED", 0)


async def test_a_delete_meets_a_prepare_and_no_chunk_is_left(rig: Rig):
    for number in range(1, 5):
        await rig.upload(f"Text number {number}.".encode())
        await asyncio.gather(rig.prepare(number), rig.delete())
        await rig.report_purged(number)
        assert (rig.count("chunks"), rig.state(number)) == (0, "DELETED")


async def test_every_waiting_upload_event_is_told_of_the_delete(rig: Rig):
    await rig.event(event_id="e1")
    await rig.event(event_id="e2")
    await rig.event(b"The second edition.", event_id="e3")
    await rig.delete()
    published = messages(await rig.report_purged(2))
    assert sorted(event.upload_event_id for event in published) == ["e1", "e2", "e3"]
    assert {event.version for event in published} == {2}
    rig.clear_outbox()
    await rig.event(event_id="e1")
    [again] = rig.outbox()
    assert again in published


async def test_an_upload_event_published_before_a_delete_and_handled_after_it_is_too_late(rig: Rig):
    published_ns = next(rig.clock)
    await rig.index_version()
    await rig.delete()
    [event] = messages(await rig.event(SECRET, event_id="late", stored_ns=published_ns))
    assert (event.reason, event.version, event.upload_event_id) == ("VERSION_SUPERSEDED", 0, "late")
    assert rig.count("versions") == 1


async def test_an_upload_event_delivered_after_the_delete_resurrects_nothing(rig: Rig):
    await rig.event()
    await rig.delete()
    await rig.event()
    assert rig.count("versions") == 1
    await rig.report_purged()
    await rig.event()
    assert (rig.count("versions"), rig.state()) == (1, "DELETED")
    assert await rig.objects.list(TENANT) == []


async def test_a_request_repeated_after_the_delete_resurrects_nothing(rig: Rig):
    await rig.upload(request_id="r1")
    await rig.delete()
    await rig.report_purged()
    assert (await rig.upload(request_id="r1")).version.state is State.DELETED
    assert rig.count("versions") == 1


async def test_the_bytes_of_a_deleted_document_are_a_new_version(rig: Rig):
    await rig.index_version()
    await rig.delete()
    await rig.report_purged()
    assert await rig.index_version() == 2
    view = await rig.get()
    assert (view.version.state, view.entry.live_version) == (State.INDEXED, 2)


async def test_a_reupload_during_the_purge_survives_it(rig: Rig):
    await rig.index_version(SECRET)
    await rig.delete()
    await rig.upload(b"Something new.")
    await rig.prepare(2)
    [event] = messages(await rig.report_purged(1))
    assert event.version == 1
    assert [rig.state(1), rig.state(2)] == ["DELETED", "PREPARED"]
    for table in ("chunks", "contents"):
        assert [row["version"] for row in rig.rows.execute(f"SELECT version FROM {table}")] == [2]
    await rig.searchable(2)
    assert (await rig.get()).entry.live_version == 2


async def test_a_version_that_goes_live_before_an_older_delete_is_done_takes_nothing_of_it(
    rig: Rig,
):
    await rig.index_version(SECRET)
    await rig.delete()
    await rig.upload(b"   ")
    await rig.prepare(2)
    await rig.index_version(b"Something new.")
    [event] = messages(await rig.report_purged(1))
    assert (event.receipt.chunks, event.receipt.objects) == (1, 1)
    assert [rig.state(n) for n in (1, 2, 3)] == ["DELETED", "FAILED", "INDEXED"]
    assert (await rig.get()).entry.live_version == 3


async def test_a_purge_leaves_the_outgoing_facts_of_a_newer_version(rig: Rig):
    await rig.index_version()
    await rig.delete()
    rig.clear_outbox()
    await rig.upload(b"Something new.")
    await rig.report_purged(1)
    assert VersionAccepted(tenant=TENANT, document=NAME, version=2) in rig.outbox()


async def test_a_second_delete_during_the_first_ends_both(rig: Rig):
    await rig.index_version()
    await rig.delete()
    await rig.upload(b"Something new.")
    await rig.delete()
    pending = rig.rows.execute("SELECT version FROM versions WHERE step_due_at IS NOT NULL")
    assert [row["version"] for row in pending] == [2]
    [event] = messages(await rig.report_purged(2))
    assert (event.version, event.receipt.objects) == (2, 2)
    assert await rig.report_purged(1) == []
    assert [rig.state(1), rig.state(2)] == ["DELETED", "DELETED"]


async def test_a_purge_of_an_older_delete_leaves_the_newer_one_pending(rig: Rig):
    await rig.index_version()
    await rig.delete()
    await rig.upload(b"Something new.")
    await rig.delete()
    await rig.report_purged(1)
    assert [rig.state(1), rig.state(2)] == ["DELETED", "DELETING"]
    [event] = messages(await rig.report_purged(2))
    assert (event.version, event.receipt.objects) == (2, 1)


async def test_a_delete_of_a_failed_document_works(rig: Rig):
    await rig.upload(b"   ")
    await rig.prepare()
    await rig.delete()
    await rig.report_purged()
    assert rig.version()["reason"] == ""
    assert rig.state() == "DELETED"
