"""A deleted collection is gone with the documents it had; later uploads are new ones."""

import asyncio
import hashlib
import time
from typing import Any

import pytest

from aquifer.ingest.v1.collection_events_pb2 import CollectionDeleted
from aquifer.ingest.v1.document_events_pb2 import (
    DocumentDeleted,
    DocumentDeletionRequested,
    DocumentFailed,
)
from aquifer.ingest.v1.document_pb2 import DeletionReceipt
from aquifer.ingest.v1.upload_events_pb2 import ContentReference
from chassis.base.errors import FailedPreconditionError, NotFoundError, UnavailableError
from ingest.checks import Check
from ingest.collections import CollectionSettings
from ingest.domain import State
from ingest.steps import Step
from ingest.usecases.deletion import delete_collection
from services.ingest.tests.conftest import NAME, TABLES, TENANT, Rig, messages

REPORTS = "reports"
SECRET = b"A sentence nobody may find again."
LARGE = b"Another sentence nobody may find again. " * 2_000
OTHER = "collections/other/documents/q3"


def document(number: int, collection: str = REPORTS) -> str:
    return f"collections/{collection}/documents/{number}"


async def remove(rig: Rig, collection: str = REPORTS) -> Any:
    return await rig.wired.rpc.delete_collection.run(TENANT, collection, force=True)


async def read(rig: Rig, collection: str = REPORTS) -> Any:
    return await rig.wired.rpc.get_collection_deletion.run(TENANT, collection)


async def go_on(rig: Rig) -> int:
    """A round of the loop."""
    return await rig.wired.maintenance.continue_deletions.run()


async def purge(rig: Rig) -> list[Any]:
    """Query answers every order to remove a document; the receipts."""
    ordered = [one for one in rig.outbox() if isinstance(one, DocumentDeletionRequested)]
    sent: list[Any] = []
    for one in ordered:
        sent += messages(await rig.report_purged(one.version, name=one.document))
    return sent


async def test_all_documents_are_hidden_then_removed_with_one_receipt(rig: Rig):
    for number in range(3):
        await rig.index_version(SECRET if number else LARGE, name=document(number))
    await rig.index_version(name=OTHER)
    chunks = rig.count("chunks") - 1
    rig.clear_outbox()
    deletion = await remove(rig)
    assert (deletion.number, deletion.documents, deletion.remaining) == (1, 3, 3)
    assert rig.siblings.hidden == [(document(number), 1) for number in range(3)]
    states = [(await rig.get(document(number))).version.state for number in range(3)]
    assert states == [State.DELETING] * 3
    assert await go_on(rig) == 0
    receipts = await purge(rig)
    assert {one.document for one in receipts} == {document(number) for number in range(3)}
    rig.clear_outbox()
    assert await go_on(rig) == 1
    [event] = rig.outbox()
    assert event == CollectionDeleted(
        tenant=TENANT,
        collection="collections/reports",
        number=1,
        document_count=3,
        receipt=DeletionReceipt(
            objects=3, chunks=chunks, passages=6, points=6, outbox_rows=3, redacted_answers=0
        ),
    )
    done = await read(rig)
    assert (done.remaining, done.finished_at is None, done.receipt.chunks) == (0, False, chunks)
    assert await go_on(rig) == 0
    assert (await rig.get(OTHER)).version.state is State.INDEXED


async def test_no_row_holds_anything_of_its_documents_but_names(rig: Rig):
    secret = "nobody may find again"
    await rig.upload(SECRET, title=secret, file_name=f"{secret}.txt", metadata={"k": secret})
    await rig.prepare()
    await rig.searchable()
    await remove(rig)
    await purge(rig)
    await go_on(rig)
    kept = [
        table
        for table in TABLES
        for row in rig.rows.execute(f"SELECT * FROM {table}")
        if secret in repr(row) or secret.encode() in bytes(row.get("payload", b""))
    ]
    assert kept == []


async def test_the_settings_go_with_it_and_a_new_one_has_none_of_them(rig: Rig):
    create = rig.wired.rpc.create_collection
    await create.run(TENANT, REPORTS, CollectionSettings(description="old"))
    await rig.index_version()
    await remove(rig)
    with pytest.raises(NotFoundError):
        await rig.wired.rpc.get_collection.run(TENANT, REPORTS)
    assert (await create.run(TENANT, REPORTS, CollectionSettings())).settings.description == ""


async def test_without_force_only_an_empty_collection_is_deleted(rig: Rig):
    await rig.index_version()
    with pytest.raises(FailedPreconditionError) as refused:
        await rig.wired.rpc.delete_collection.run(TENANT, REPORTS, force=False)
    assert refused.value.reason == "COLLECTION_NOT_EMPTY"
    assert (await rig.get()).version.state is State.INDEXED


async def test_an_unknown_collection_is_not_deleted_and_was_not(rig: Rig):
    with pytest.raises(NotFoundError) as unknown:
        await remove(rig)
    assert unknown.value.reason == "COLLECTION_UNKNOWN"
    with pytest.raises(NotFoundError) as never:
        await read(rig)
    assert never.value.reason == "COLLECTION_DELETION_UNKNOWN"


async def test_the_deletion_goes_on_by_itself_while_query_was_away(rig: Rig):
    await rig.index_version()
    rig.siblings.query_is_away = True
    with pytest.raises(UnavailableError) as pending:
        await remove(rig)
    assert pending.value.reason == "HIDE_PENDING"
    assert await go_on(rig) == 0
    assert (await rig.get()).version.state is State.DELETING
    rig.siblings.query_is_away = False
    assert await go_on(rig) == 0
    assert rig.siblings.hidden == [(NAME, 1)]
    assert (await remove(rig)).number == 1
    await purge(rig)
    assert await go_on(rig) == 1


async def test_one_deletion_that_can_not_go_on_delays_no_other(rig: Rig):
    await rig.index_version(name=document(1, "done"))
    await remove(rig, "done")
    await rig.index_version(name=document(1))
    rig.siblings.query_is_away = True
    with pytest.raises(UnavailableError):
        await remove(rig)
    await rig.report_purged(name=document(1, "done"))
    assert await go_on(rig) == 1
    assert (await read(rig, "done")).finished_at is not None
    assert (await read(rig)).finished_at is None


async def test_a_repeat_is_the_same_deletion(rig: Rig):
    await rig.index_version()
    answers = await asyncio.gather(*(remove(rig) for _ in range(4)))
    assert {one.number for one in answers} == {1}
    requests = [one for one in rig.outbox() if isinstance(one, DocumentDeletionRequested)]
    assert len(requests) == 1
    await purge(rig)
    await go_on(rig)
    assert (await remove(rig)).finished_at is not None


async def test_a_death_after_any_batch_leaves_the_rest_to_another_process(rig: Rig, monkeypatch):
    monkeypatch.setattr(delete_collection, "BATCH", 2)
    for number in range(5):
        await rig.index_version(name=document(number))
    monkeypatch.setattr(delete_collection, "CALL_S", 0.0)
    with pytest.raises(UnavailableError) as pending:
        await remove(rig)  # recorded, and no batch was begun
    assert pending.value.reason == "HIDE_PENDING"
    assert (await rig.get(document(0))).version.state is State.INDEXED
    hide = rig.wired.maintenance.continue_deletions.hide
    deletion = await read(rig)
    assert await hide._mark(TENANT, deletion, "") == document(1)
    assert [(await rig.get(document(n))).version.state for n in (1, 2)] == [
        State.DELETING,
        State.INDEXED,
    ]
    monkeypatch.setattr(delete_collection, "CALL_S", 5.0)
    await go_on(rig)
    assert sorted(rig.siblings.hidden) == [(document(number), 1) for number in range(5)]
    await purge(rig)
    await go_on(rig)
    assert (await read(rig)).documents == 5


async def test_two_replicas_order_each_removal_once(rig: Rig, monkeypatch):
    monkeypatch.setattr(delete_collection, "BATCH", 3)
    for number in range(10):
        await rig.index_version(name=document(number))
    rig.siblings.query_is_away = True
    with pytest.raises(UnavailableError):
        await remove(rig)
    rig.siblings.query_is_away = False
    await asyncio.gather(*(go_on(rig) for _ in range(4)))
    requests = [one for one in rig.outbox() if isinstance(one, DocumentDeletionRequested)]
    assert sorted(one.document for one in requests) == [document(number) for number in range(10)]
    await purge(rig)
    assert sum(await asyncio.gather(*(go_on(rig) for _ in range(4)))) == 1
    assert len([one for one in rig.outbox() if isinstance(one, CollectionDeleted)]) == 1


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
async def test_an_event_published_before_the_deletion_resurrects_nothing(rig: Rig, *, known: bool):
    published_ns = next(rig.clock)
    await rig.index_version(name=document(1))
    await remove(rig)
    name = document(1 if known else 2)
    late: dict[str, Any] = {"name": name, "event_id": "late", "stored_ns": published_ns}
    [event] = messages(await rig.event(b"Late.", **late))
    assert (event.reason, event.version, event.upload_event_id) == ("COLLECTION_DELETED", 0, "late")
    await purge(rig)
    [again] = messages(await rig.event(b"Late.", **late))
    assert again == event
    assert rig.count("documents") == rig.count("versions") == 1
    assert await rig.objects.list(TENANT) == []


async def test_the_bytes_of_a_late_event_are_removed(rig: Rig):
    published_ns = next(rig.clock)
    await rig.index_version()
    await remove(rig)
    file = rig.drops / "late.txt"
    file.write_bytes(LARGE)
    reference = ContentReference(
        uri=file.as_uri(), sha256=hashlib.sha256(LARGE).hexdigest(), size_bytes=len(LARGE)
    )
    [event] = messages(
        await rig.event(name=document(2), reference=reference, stored_ns=published_ns)
    )
    assert event.reason == "COLLECTION_DELETED"
    assert await rig.objects.list(TENANT) == []


async def test_an_event_delivered_again_after_the_deletion_gets_its_result_again(rig: Rig):
    await rig.event(event_id="e1")
    await remove(rig)
    await rig.event(event_id="e1")
    assert rig.count("versions") == 1
    [deleted] = await purge(rig)
    assert (type(deleted), deleted.upload_event_id) == (DocumentDeleted, "e1")
    assert messages(await rig.event(event_id="e1")) == [deleted]
    assert (rig.count("versions"), rig.state()) == (1, "DELETED")


@pytest.mark.parametrize("by_event", [True, False], ids=["event", "call"])
async def test_an_upload_before_the_batch_reaches_its_document_is_a_new_version(
    rig: Rig, monkeypatch, *, by_event: bool
):
    """The upload writes the tombstone of what was there before, so that nothing else needs to."""
    await rig.index_version(SECRET)
    monkeypatch.setattr(delete_collection, "CALL_S", 0.0)
    with pytest.raises(UnavailableError):
        await remove(rig)
    monkeypatch.undo()
    if by_event:
        await rig.event(b"Something new.", stored_ns=time.time_ns())
    else:
        await rig.upload(b"Something new.")
    assert (rig.state(1), rig.state(2)) == ("DELETING", "ACCEPTED")
    await rig.prepare(2)
    await rig.searchable(2)
    await go_on(rig)
    assert rig.siblings.hidden == [(NAME, 1)]
    await purge(rig)
    assert await go_on(rig) == 1
    assert (rig.state(1), rig.state(2)) == ("DELETED", "INDEXED")
    assert (await read(rig)).documents == 1
    assert (await rig.get()).entry.live_version == 2


async def test_the_same_bytes_uploaded_after_the_deletion_are_a_new_version(rig: Rig, monkeypatch):
    await rig.index_version(SECRET)
    monkeypatch.setattr(delete_collection, "CALL_S", 0.0)
    with pytest.raises(UnavailableError):
        await remove(rig)
    assert (await rig.upload(SECRET)).version.number == 2
    assert rig.state(1) == "DELETING"


async def test_a_request_repeated_after_the_deletion_resurrects_nothing(rig: Rig, monkeypatch):
    await rig.upload(SECRET, request_id="r1")
    monkeypatch.setattr(delete_collection, "CALL_S", 0.0)
    with pytest.raises(UnavailableError):
        await remove(rig)
    assert (await rig.upload(SECRET, request_id="r1")).version.state is State.DELETING
    assert rig.count("versions") == 1


async def test_an_event_published_after_the_deletion_is_not_too_late_for_a_later_batch(
    rig: Rig, monkeypatch
):
    await rig.index_version(SECRET)
    monkeypatch.setattr(delete_collection, "CALL_S", 0.0)
    with pytest.raises(UnavailableError):
        await remove(rig)
    monkeypatch.undo()
    published_ns = (await read(rig)).upload_order + 1
    await go_on(rig)
    await rig.event(b"Something new.", stored_ns=published_ns)
    assert (rig.state(1), rig.state(2)) == ("DELETING", "ACCEPTED")


async def test_a_deletion_is_not_recorded_while_an_upload_is_open(rig: Rig):
    """Otherwise its document would be committed after the last batch has looked."""
    await rig.index_version()
    async with rig.begin(TENANT) as work:
        await work.documents.claim([document(1)])
        deleting = asyncio.create_task(remove(rig))
        elsewhere = asyncio.create_task(rig.upload(name=OTHER))
        await asyncio.wait({deleting}, timeout=0.3)
        assert (deleting.done(), elsewhere.done()) == (False, True)
        await work.documents.release([document(1)])
    assert (await deleting).hidden


async def test_uploads_that_meet_a_deletion_are_deleted_by_it_or_new(rig: Rig):
    """No upload is in between: each document ends deleted and counted, or searchable."""
    for number in range(20):
        await rig.index_version(name=document(number))

    async def upload(number: int) -> None:
        await asyncio.sleep(number / 2_000)
        await rig.upload(f"Text number {number}.".encode(), name=document(number))

    await asyncio.gather(*(upload(number) for number in range(40)), remove(rig))
    await go_on(rig)
    await purge(rig)
    assert await go_on(rig) == 1
    deletion = await read(rig)
    left = rig.rows.execute(
        "SELECT name, upload_order FROM documents WHERE latest_version > tombstone_version"
    ).fetchall()
    assert all(row["upload_order"] > deletion.upload_order for row in left)
    states = rig.rows.execute("SELECT DISTINCT state FROM versions").fetchall()
    assert {row["state"] for row in states} <= {"DELETED", "ACCEPTED"}
    old = rig.rows.execute("SELECT count(*) AS n FROM versions WHERE version = 1").fetchone()
    assert old is not None
    removed = rig.rows.execute(
        "SELECT count(DISTINCT document) AS n FROM versions WHERE collection_deletion = 1"
    ).fetchone()
    assert removed is not None
    assert removed["n"] == deletion.documents >= 20


async def test_documents_whose_own_delete_goes_on_belong_to_it(rig: Rig):
    await rig.index_version(name=document(1))
    await rig.index_version(name=document(2))
    await rig.delete(document(1))
    deletion = await remove(rig)
    assert deletion.documents == 2
    await rig.report_purged(1, name=document(2))
    assert await go_on(rig) == 0
    await rig.report_purged(1, name=document(1))
    assert await go_on(rig) == 1
    assert (await read(rig)).receipt.objects == 2


async def test_a_document_deleted_before_the_batch_reaches_it_belongs_to_it(rig: Rig, monkeypatch):
    await rig.index_version(SECRET)
    monkeypatch.setattr(delete_collection, "CALL_S", 0.0)
    with pytest.raises(UnavailableError):
        await remove(rig)
    monkeypatch.undo()
    await rig.delete()
    assert (await read(rig)).remaining == 1
    assert await go_on(rig) == 0
    await rig.report_purged(1)
    assert await go_on(rig) == 1
    done = await read(rig)
    assert (done.documents, done.receipt.objects) == (1, 1)


async def test_a_document_is_not_parsed_without_the_settings_of_its_deleted_collection(
    rig: Rig, monkeypatch
):
    """They may say what has to be masked; its tombstone follows."""
    await rig.wired.rpc.create_collection.run(
        TENANT, REPORTS, CollectionSettings(steps=(Step.PII_MASKING,))
    )
    await rig.upload(b"Write to jane@example.com.")
    monkeypatch.setattr(delete_collection, "CALL_S", 0.0)
    with pytest.raises(UnavailableError):
        await remove(rig)
    monkeypatch.undo()
    await rig.prepare()
    assert (rig.state(), rig.count("chunks")) == ("ACCEPTED", 0)
    await go_on(rig)
    assert rig.state() == "DELETING"


async def test_a_description_published_after_the_deletion_finds_no_document(rig: Rig, monkeypatch):
    await rig.index_version(SECRET)
    monkeypatch.setattr(delete_collection, "CALL_S", 0.0)
    with pytest.raises(UnavailableError):
        await remove(rig)
    monkeypatch.undo()
    sent = messages(await rig.description(title="Late"))
    assert [(type(one), one.reason) for one in sent] == [(DocumentFailed, "DOCUMENT_DELETED")]


async def test_unfinished_uploads_and_kept_descriptions_go_with_it(rig: Rig):
    rig.rows.execute(
        "INSERT INTO upload_sessions (tenant_id, upload_id, document, sha256, size_bytes,"
        " file_name, media_type, title, metadata, expires_at)"
        " SELECT %s, name, name, '', 1, '', '', '', '{}', now() + interval '1 day'"
        " FROM unnest(%s::text[]) AS name",
        [TENANT, [NAME, OTHER]],
    )
    await rig.index_version(SECRET)
    await rig.delete()
    kept = """UPDATE documents SET description = '{"title": "t", "metadata": {}}'"""
    rig.rows.execute(kept)
    await rig.index_version(name=document(2))
    await remove(rig)
    left = [row["document"] for row in rig.rows.execute("SELECT document FROM upload_sessions")]
    assert left == [OTHER]
    described = rig.rows.execute("SELECT count(*) AS n FROM documents WHERE description <> '{}'")
    assert described.fetchone() == {"n": 0}


async def test_a_second_deletion_has_its_own_receipt_and_ends_after_the_first(rig: Rig):
    await rig.index_version(SECRET, name=document(1))
    await remove(rig)
    await rig.index_version(name=document(2))
    assert (await remove(rig)).number == 2
    await rig.report_purged(1, name=document(2))
    assert await go_on(rig) == 0
    await rig.report_purged(1, name=document(1))
    assert await go_on(rig) == 2
    assert (await read(rig)).documents == 1


async def test_a_new_version_deleted_alone_meanwhile_does_not_keep_the_deletion_open(rig: Rig):
    await rig.index_version(SECRET)
    await remove(rig)
    await rig.upload(b"Something new.")
    await rig.delete()
    await rig.report_purged(2)
    assert await go_on(rig) == 1
    done = await read(rig)
    assert (done.documents, done.receipt.objects) == (1, 2)


async def test_documents_of_a_deletion_are_not_counted_nor_found_unchanged(rig: Rig, monkeypatch):
    view = await rig.upload(SECRET)
    monkeypatch.setattr(delete_collection, "CALL_S", 0.0)
    with pytest.raises(UnavailableError):
        await remove(rig)
    with pytest.raises(NotFoundError):
        await rig.wired.rpc.get_collection.run(TENANT, REPORTS)
    check = Check(name=NAME, sha256=view.version.stored.sha256, metadata={})
    twin = Check(name=document(9), sha256=view.version.stored.sha256, metadata={})
    found = await rig.wired.rpc.check.run(TENANT, [check, twin])
    assert [(one.newest, one.duplicate_of) for one in found] == [(None, ""), (None, "")]


async def test_another_tenant_keeps_its_collection_of_the_same_name(rig: Rig):
    await rig.index_version()
    await rig.upload(tenant="globex")
    await remove(rig)
    assert (await rig.get(tenant="globex")).version.state is State.ACCEPTED
    with pytest.raises(NotFoundError):
        await rig.wired.rpc.get_collection_deletion.run("globex", REPORTS)


async def test_what_indexing_brings_late_does_not_bring_a_document_back(rig: Rig):
    await rig.event(event_id="e1")
    await remove(rig)
    assert await rig.prepare() == []
    assert await rig.searchable() == []
    [event] = await purge(rig)
    assert not isinstance(event, DocumentFailed)
    assert await rig.searchable() == []
    assert (rig.state(), rig.count("chunks")) == ("DELETED", 0)
