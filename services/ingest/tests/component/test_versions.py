"""Versions of a document: how long they are kept, roll backs and pins."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentFailed
from chassis.base.errors import FailedPreconditionError, NotFoundError, ServiceError
from ingest.collections import CollectionSettings
from ingest.domain import State, View
from ingest.usecases.documents.read_text import TextQuery
from services.ingest.tests.component.test_reconcile import reconcile, show
from services.ingest.tests.conftest import NAME, TENANT, Rig, messages

COLLECTION = NAME.split("/")[1]
# Too large for the database.
LARGE = b"Water finds its way. " * 8_000
SIZES = pytest.mark.parametrize("filling", [b"", LARGE], ids=["row", "object"])


async def keep(rig: Rig, number: int) -> None:
    """So many superseded versions are kept from now on."""
    given = CollectionSettings(version_retention=number)
    update = rig.wired.rpc.update_collection
    if not rig.rows.execute("SELECT 1 FROM collections").fetchone():
        await rig.wired.rpc.create_collection.run(TENANT, COLLECTION, CollectionSettings())
    await update.run(TENANT, COLLECTION, given, ["version_retention"])


async def index_many(rig: Rig, count: int, *, filling: bytes = b"") -> None:
    for number in range(1, count + 1):
        await rig.index_version(text_of(number, filling=filling))


def text_of(number: int, *, filling: bytes = b"") -> bytes:
    return b"Text of version %d. " % number + filling


async def roll_back(rig: Rig, number: int = 1, **about: Any) -> View:
    return await rig.wired.rpc.roll_back.run(TENANT, NAME, number, **about)


async def refusal(waiting: Any) -> str:
    with pytest.raises(ServiceError) as caught:
        await waiting
    return caught.value.reason


async def read_text(rig: Rig, number: int) -> str:
    part = await rig.wired.rpc.get_text.run(TENANT, NAME, TextQuery(version=number))
    return part.text


async def list_kept(rig: Rig) -> list[int]:
    """Versions whose bytes are stored, as the list says; the stores must agree."""
    views = await rig.wired.rpc.list_versions.run(TENANT, NAME, before=0, limit=100)
    having = [view.version for view in views if view.has_bytes]
    keys = {one.stored.key for one in having if one.stored.key}
    assert keys == set(await rig.objects.list(TENANT))
    rows = {row["version"] for row in rig.rows.execute("SELECT version FROM contents")}
    assert rows == {one.number for one in having if not one.stored.key}
    return [one.number for one in having]


@SIZES
async def test_the_newest_superseded_versions_keep_bytes_and_text(rig: Rig, filling: bytes):
    await keep(rig, 2)
    await index_many(rig, 5, filling=filling)
    assert await list_kept(rig) == [5, 4, 3]
    for number in (3, 4):
        assert await read_text(rig, number) == text_of(number, filling=filling).decode().strip()
    assert await refusal(read_text(rig, 2)) == "TEXT_MISSING"
    assert [rig.state(number) for number in (2, 3, 5)] == ["SUPERSEDED", "SUPERSEDED", "INDEXED"]


async def test_without_retention_no_superseded_version_is_kept(rig: Rig):
    await index_many(rig, 3)
    assert await list_kept(rig) == [3]


async def test_a_failed_version_is_not_kept_and_takes_no_place(rig: Rig):
    await keep(rig, 1)
    await index_many(rig, 1)
    await rig.upload(b"Bad.")
    await rig.prepare(2)
    await rig.reject(2)
    assert await list_kept(rig) == [2, 1]
    await rig.index_version(b"Good again.")
    assert await list_kept(rig) == [3, 1]
    assert rig.state(2) == "FAILED"


async def test_a_version_superseded_on_its_way_keeps_its_bytes(rig: Rig):
    """Its text was not read yet, and is not when its order arrives late."""
    await keep(rig, 5)
    await index_many(rig, 1)
    await rig.upload(b"Overtaken.")
    await rig.index_version(b"Faster.")
    assert await list_kept(rig) == [3, 2, 1]
    await rig.prepare(2)
    assert await refusal(read_text(rig, 2)) == "TEXT_MISSING"
    restored = await roll_back(rig, 2)
    await rig.prepare(4)
    await rig.searchable(4)
    assert (restored.version.number, await read_text(rig, 4)) == (4, "Overtaken.")


@SIZES
async def test_a_lower_retention_removes_what_is_beyond_it(rig: Rig, filling: bytes):
    await keep(rig, 3)
    await index_many(rig, 4, filling=filling)
    await keep(rig, 1)
    before = rig.version(2)["updated_at"]
    assert await list_kept(rig) == [4, 3, 2, 1]
    assert await rig.wired.maintenance.drop_versions.run() == 2
    assert await list_kept(rig) == [4, 3]
    assert {r["version"] for r in rig.rows.execute("SELECT version FROM chunks")} == {3, 4}
    assert rig.version(2)["updated_at"] == before
    assert await rig.wired.maintenance.drop_versions.run() == 0
    await keep(rig, 3)
    await rig.index_version(b"Fifth.")
    assert await list_kept(rig) == [5, 4, 3]


async def test_a_lower_retention_holds_for_all_documents_and_no_other_collection(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ingest.usecases.versions.keep_versions.DOCUMENTS_AT_ONCE", 1)
    await keep(rig, 1)
    other = CollectionSettings(version_retention=1)
    await rig.wired.rpc.create_collection.run(TENANT, "others", other)
    for name in (NAME, f"{NAME}-2", f"{NAME}-3", "collections/others/documents/a"):
        await rig.index_version(b"First.", name=name)
        await rig.index_version(b"Second.", name=name)
    await keep(rig, 0)
    assert await rig.wired.maintenance.drop_versions.run() == 3
    left = rig.rows.execute("SELECT document FROM versions WHERE kept").fetchall()
    assert [row["document"] for row in left] == ["collections/others/documents/a"]


async def test_a_lower_retention_holds_for_the_next_version_at_once(rig: Rig):
    await keep(rig, 3)
    await index_many(rig, 4)
    await keep(rig, 0)
    await rig.index_version(b"Fifth.")
    assert await list_kept(rig) == [5]
    assert await rig.wired.maintenance.drop_versions.run() == 0


async def test_the_sweep_and_the_reconciler_leave_kept_versions(rig: Rig):
    await keep(rig, 1)
    await index_many(rig, 3, filling=LARGE)
    show(rig)
    assert await replace(rig.wired.maintenance.sweep_objects, age_s=-1.0).run() == 0
    assert await reconcile(rig) == {}
    assert await list_kept(rig) == [3, 2]
    await rig.objects.delete(rig.version(2)["object_key"])
    assert await reconcile(rig, dry_run=True) == {"OBJECT_MISSING": (1, 0)}


@SIZES
async def test_a_delete_removes_kept_versions_and_counts_them(rig: Rig, filling: bytes):
    await keep(rig, 2)
    await index_many(rig, 4, filling=filling)
    chunks = rig.count("chunks")
    await rig.delete()
    assert rig.version(3)["kept"] is False
    [event] = messages(await rig.report_purged(4))
    assert (event.receipt.objects, event.receipt.chunks) == (3, chunks)
    assert (await rig.objects.list(TENANT), rig.count("contents"), rig.count("chunks")) == (
        [],
        0,
        0,
    )
    assert await list_kept(rig) == []
    views = await rig.wired.rpc.list_versions.run(TENANT, NAME, before=0, limit=9)
    assert [(one.version.number, one.version.state) for one in views] == [
        (number, State.DELETED) for number in (4, 3, 2, 1)
    ]


@SIZES
async def test_a_roll_back_uploads_the_old_version_again(rig: Rig, filling: bytes):
    await keep(rig, 1)
    given = {"title": "One", "metadata": {"year": 2020}, "file_name": "one.txt"}
    first = await rig.upload(text_of(1, filling=filling), media_type="text/plain", **given)
    await rig.prepare()
    await rig.searchable()
    await rig.upload(b"Second.", title="Two")
    await rig.prepare(2)
    await rig.searchable(2)
    view = await roll_back(rig, 1, trace_id="t")
    assert (view.version.number, view.version.state, view.entry.live_version) == (3, "ACCEPTED", 2)
    assert view.version.stored.sha256 == first.version.stored.sha256
    assert (view.version.given_title, view.version.metadata) == ("One", {"year": 2020})
    assert (view.version.file_name, view.version.media_type_hint) == ("one.txt", "text/plain")
    assert (view.version.trace_id, view.version.origin.source) == ("t", "")
    await rig.prepare(3)
    await rig.searchable(3)
    assert await list_kept(rig) == [3, 2]
    assert await read_text(rig, 3) == text_of(1, filling=filling).decode().strip()


@SIZES
async def test_a_repeated_roll_back_has_no_effect(rig: Rig, filling: bytes):
    """Not even after a later upload, or when the bytes are no longer stored."""
    await keep(rig, 2)
    await index_many(rig, 2, filling=filling)
    for _ in range(3):
        assert (await roll_back(rig, 1, request_id="r")).version.number == 3
    await rig.prepare(3)
    await rig.searchable(3)
    await rig.index_version(b"Later.")
    assert (await roll_back(rig, 1, request_id="r")).version.number == 3
    await keep(rig, 0)
    await rig.wired.maintenance.drop_versions.run()
    assert (await roll_back(rig, 1, request_id="r")).version.number == 3
    assert await refusal(roll_back(rig, 2, request_id="r")) == "REQUEST_REUSED"
    assert (await rig.get()).version.number == 4
    assert await list_kept(rig) == [4]


async def test_two_roll_backs_at_once_with_one_request_id_are_one(rig: Rig):
    await keep(rig, 2)
    await index_many(rig, 2)
    views = await asyncio.gather(*(roll_back(rig, 1, request_id="r") for _ in range(4)))
    assert {view.version.number for view in views} == {3}


async def test_a_roll_back_to_bytes_that_are_the_newest_adds_no_version(rig: Rig):
    await keep(rig, 5)
    await index_many(rig, 2)
    assert (await roll_back(rig, 1)).version.number == 3
    assert (await roll_back(rig, 1)).version.number == 3


async def test_an_upload_published_before_a_roll_back_comes_too_late(rig: Rig):
    await keep(rig, 2)
    await index_many(rig, 2)
    earlier = next(rig.clock)
    await roll_back(rig, 1)
    [event] = messages(await rig.event(b"Late.", stored_ns=earlier))
    assert (event.reason, event.version) == ("VERSION_SUPERSEDED", 0)
    later = await rig.event(b"Later.", event_id="e2", stored_ns=time.time_ns())
    assert messages(later)[0].version == 4


async def test_a_failed_or_unfinished_version_can_be_rolled_back_from(rig: Rig):
    """The live version has its bytes without any retention."""
    await index_many(rig, 1)
    await rig.upload(b"Bad.")
    await rig.prepare(2)
    await rig.reject(2)
    assert (await roll_back(rig, 1)).version.number == 3
    await rig.upload(b"Next.")
    assert (await roll_back(rig, 1)).version.number == 5


async def test_what_cannot_be_rolled_back(rig: Rig):
    assert await refusal(roll_back(rig)) == "DOCUMENT_UNKNOWN"
    await index_many(rig, 2)
    assert await refusal(roll_back(rig, 1)) == "BYTES_REMOVED"
    assert await refusal(roll_back(rig, 2)) == "VERSION_NEWEST"
    for number in (-1, 0, 3):
        assert await refusal(roll_back(rig, number)) == "VERSION_UNKNOWN"
    await rig.delete()
    assert await refusal(roll_back(rig, 1)) == "DOCUMENT_DELETED"
    await rig.report_purged(2)
    await rig.index_version(b"New.")
    assert await refusal(roll_back(rig, 1)) == "DOCUMENT_DELETED"
    assert rig.count("versions") == 3


@SIZES
async def test_what_is_deleted_during_a_roll_back_does_not_come_back(
    rig: Rig, filling: bytes, monkeypatch: pytest.MonkeyPatch
):
    await keep(rig, 2)
    await index_many(rig, 2, filling=filling)
    admit = rig.wired.rpc.accept.admission.admit

    async def delete_first(*_: str) -> None:
        monkeypatch.undo()
        await rig.delete()
        await admit(TENANT)

    monkeypatch.setattr(type(rig.wired.rpc.accept.admission), "admit", delete_first)
    assert await refusal(roll_back(rig, 1, request_id="r")) == "DOCUMENT_DELETED"
    await rig.report_purged(2)
    assert await rig.objects.list(TENANT) == []
    assert (await rig.get()).version.number == 2
    assert await refusal(roll_back(rig, 1, request_id="r")) == "DOCUMENT_DELETED"


async def test_bytes_that_go_during_a_roll_back_are_reported_as_removed(rig: Rig):
    await keep(rig, 2)
    await index_many(rig, 2, filling=LARGE)
    await rig.objects.delete(rig.version(1)["object_key"])
    assert await refusal(roll_back(rig, 1)) == "BYTES_REMOVED"


async def pin(rig: Rig, number: int) -> View:
    return await rig.wired.rpc.pin.run(TENANT, NAME, number)


async def unpin(rig: Rig) -> View:
    return await rig.wired.rpc.unpin.run(TENANT, NAME)


@SIZES
async def test_a_pinned_document_refuses_uploads_until_it_is_unpinned(rig: Rig, filling: bytes):
    await keep(rig, 2)
    await index_many(rig, 2, filling=filling)
    for _ in range(2):
        assert (await pin(rig, 2)).entry.pinned
    assert await refusal(rig.upload(text_of(3, filling=filling))) == "DOCUMENT_PINNED"
    assert await refusal(roll_back(rig, 1)) == "DOCUMENT_PINNED"
    for _ in range(2):
        sent = await rig.event(b"Refused.", event_id="e1", stored_ns=time.time_ns())
        [event] = messages(sent)
        assert isinstance(event, DocumentFailed)
        assert (event.reason, event.version) == ("DOCUMENT_PINNED", 0)
    assert await list_kept(rig) == [2, 1]
    for _ in range(2):
        assert not (await unpin(rig)).entry.pinned
    assert await rig.index_version(text_of(3, filling=filling)) == 3


async def test_a_pinned_document_answers_repeats_and_its_own_bytes(rig: Rig):
    await rig.event(b"First.", event_id="e1")
    await rig.upload(b"Second.", request_id="r2")
    await rig.index_version(b"Third.")
    await pin(rig, 3)
    assert (await rig.upload(b"Second.", request_id="r2")).version.number == 2
    [again] = messages(await rig.event(b"First.", event_id="e1"))
    assert (again.version, again.reason) == (1, "VERSION_SUPERSEDED")
    view = await rig.upload(b"Third.", title="New title")
    assert (view.version.number, view.version.title) == (3, "New title")
    [event] = messages(await rig.event(b"Third.", event_id="e3", title="New title"))
    assert (event.version, event.unchanged) == (3, True)


async def test_what_cannot_be_pinned(rig: Rig):
    assert await refusal(pin(rig, 1)) == "DOCUMENT_UNKNOWN"
    assert await refusal(unpin(rig)) == "DOCUMENT_UNKNOWN"
    await rig.upload(b"First.")
    assert await refusal(pin(rig, 1)) == "VERSION_NOT_LIVE"
    await rig.prepare()
    await rig.searchable()
    for number in (-1, 0, 2):
        assert await refusal(pin(rig, number)) == "VERSION_UNKNOWN"
    await rig.upload(b"On its way.")
    assert await refusal(pin(rig, 1)) == "VERSION_NOT_LIVE"
    await rig.prepare(2)
    await rig.reject(2)
    # It may still become searchable.
    assert await refusal(pin(rig, 1)) == "VERSION_NOT_LIVE"
    await rig.searchable(2)
    assert await refusal(pin(rig, 1)) == "VERSION_NOT_LIVE"
    assert (await pin(rig, 2)).entry.live_version == 2
    assert not (await rig.delete()).entry.pinned
    assert await refusal(pin(rig, 2)) == "DOCUMENT_DELETED"
    await rig.report_purged(2)
    assert await rig.index_version(b"After the delete.") == 3


async def test_late_events_change_nothing_for_a_pinned_document(rig: Rig):
    await keep(rig, 1)
    await rig.upload(b"First.")
    await rig.index_version(b"Second.")
    await pin(rig, 2)
    await rig.prepare(1)
    await rig.searchable(1)
    await rig.searchable(2)
    await rig.reject(2)
    view = await rig.get()
    assert (view.entry.live_version, view.version.state, view.entry.pinned) == (2, "INDEXED", True)


async def test_versions_are_listed_newest_first_from_any_number(rig: Rig):
    listing = rig.wired.rpc.list_versions
    with pytest.raises(NotFoundError):
        await listing.run(TENANT, NAME, before=0, limit=5)
    await index_many(rig, 4)
    numbers = [v.version.number for v in await listing.run(TENANT, NAME, before=4, limit=2)]
    assert numbers == [3, 2]
    assert await listing.run(TENANT, NAME, before=1, limit=2) == []
    with pytest.raises(NotFoundError):
        await listing.run("other", NAME, before=0, limit=5)
    with pytest.raises(FailedPreconditionError):
        await roll_back(rig, 1)
