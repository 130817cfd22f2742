"""UpdateDocument: title and metadata change at once, and no upload that came before undoes it."""

import asyncio
import time
from typing import Any

import pytest

from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared, DescriptionChanged
from aquifer.ingest.v1.document_pb2 import Description
from aquifer.structs import JsonObject
from chassis.base.errors import (
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    ServiceError,
)
from ingest.changes import read_changes
from ingest.domain import View
from services.ingest.tests.conftest import NAME, TENANT, Rig

TEXT = b"# Water\n\nIt finds its way."
OTHER = b"# Fire\n\nIt finds its way too."
TYPED = {"year": 2020, "public": True, "tags": ["a"]}


async def update(
    rig: Rig,
    *paths: str,
    title: str = "",
    metadata: JsonObject | None = None,
    name: str = NAME,
    tenant: str = TENANT,
) -> View:
    changes = read_changes(paths, title=title, metadata=metadata)
    return await rig.wired.rpc.update.run(tenant, name, changes)


async def index(rig: Rig, content: bytes = TEXT, **header: Any) -> int:
    view = await rig.upload(content, file_name="water.md", **header)
    number = view.version.number
    await rig.prepare(number)
    await rig.searchable(number)
    rig.clear_outbox()
    return number


async def refused(work: Any, kind: type[ServiceError]) -> str:
    with pytest.raises(kind) as refusal:
        await work
    return refusal.value.reason


async def test_title_and_metadata_change_without_a_new_version(rig: Rig):
    await index(rig, title="Old", metadata={"year": "2020"})
    view = await update(rig, title="Rivers", metadata=TYPED)
    assert (view.version.number, view.version.title) == (1, "Rivers")
    assert view.version.metadata == TYPED
    assert await rig.get() == view
    assert rig.outbox() == [
        DescriptionChanged(
            tenant=TENANT,
            document=NAME,
            version=1,
            description=Description(
                title="Rivers", metadata=TYPED, revision=1, create_time=rig.version()["accepted_at"]
            ),
        )
    ]


async def test_one_key_changes_and_the_others_stay(rig: Rig):
    await index(rig, title="Old", metadata={"a": 1, "b": ["x"], "c": "gone"})
    await update(rig, "metadata.a", "metadata.c", metadata={"a": 2, "b": "ignored"})
    version = (await rig.get()).version
    assert (version.title, version.metadata) == ("Old", {"a": 2, "b": ["x"]})


async def test_the_same_values_again_are_no_change(rig: Rig):
    await index(rig)
    first = await update(rig, title="Rivers", metadata=TYPED)
    assert await update(rig, title="Rivers", metadata=TYPED) == first
    assert await update(rig) == first
    assert len(rig.outbox()) == 1
    assert rig.version()["revision"] == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [(2020, "2020"), (1, True), (0, False), (["a"], "a"), ([1], [True]), (["a", "b"], ["b", "a"])],
)
async def test_a_value_of_another_type_is_a_change(rig: Rig, before: Any, after: Any):
    await index(rig, metadata={"k": before})
    await update(rig, metadata={"k": after})
    [changed] = rig.outbox()
    assert changed.description == Description(
        title="Water", metadata={"k": after}, revision=1, create_time=rig.version()["accepted_at"]
    )
    await rig.upload(TEXT, file_name="water.md", metadata={"k": before})
    assert rig.version()["revision"] == 2
    await rig.upload(TEXT, file_name="water.md", metadata={"k": before})
    assert rig.version()["revision"] == 2


async def test_an_empty_title_is_that_of_the_text(rig: Rig):
    await index(rig, title="Given")
    assert (await update(rig, "title")).version.title == "Water"
    [changed] = rig.outbox()
    assert changed.description.title == "Water"


async def test_what_is_not_prepared_yet_is_prepared_with_it(rig: Rig):
    await rig.upload(TEXT, file_name="water.md")
    rig.clear_outbox()
    await update(rig, title="Rivers", metadata=TYPED)
    assert rig.outbox() == []
    await rig.prepare()
    [prepared] = [event for event in rig.outbox() if isinstance(event, ChunksPrepared)]
    assert prepared.description == Description(
        title="Rivers", metadata=TYPED, revision=1, create_time=rig.version()["accepted_at"]
    )


async def test_what_is_on_its_way_to_the_index_hears_of_it(rig: Rig):
    await rig.upload(TEXT, file_name="water.md")
    await rig.prepare()
    rig.clear_outbox()
    await update(rig, metadata=TYPED)
    [changed] = rig.outbox()
    assert changed.description.revision == 1


@pytest.mark.parametrize("ends", ["in progress", "failed"])
async def test_the_version_that_searches_find_changes_with_the_newest(rig: Rig, ends: str):
    await index(rig, title="Old", metadata={"a": 1, "old": True})
    await rig.upload(b"   " if ends == "failed" else OTHER, title="New", metadata={"a": 1})
    await rig.prepare(2)
    assert rig.state(2) == ("FAILED" if ends == "failed" else "PREPARED")
    rig.clear_outbox()
    view = await update(rig, "metadata.a", metadata={"a": 2})
    assert (view.version.number, view.version.title) == (2, "New")
    assert [(e.version, dict(e.description.metadata)) for e in rig.outbox()] == [
        (1, {"a": 2, "old": True}),
        (2, {"a": 2}),
    ]


async def test_an_upload_that_came_before_does_not_undo_it(rig: Rig):
    await rig.event(TEXT, event_id="e1", title="First", stored_ns=1_000)
    await update(rig, title="Updated", metadata=TYPED)
    await rig.event(TEXT, event_id="e2", title="Earlier", stored_ns=2_000)
    version = (await rig.get()).version
    assert (version.number, version.title, version.metadata) == (1, "Updated", TYPED)
    later_ns = time.time_ns() + 1_000_000_000
    await rig.event(TEXT, event_id="e3", title="Later", stored_ns=later_ns)
    version = (await rig.get()).version
    assert (version.number, version.title, version.metadata) == (1, "Later", {})
    assert rig.version()["revision"] == 2


async def test_other_bytes_that_came_before_it_are_not_lost_and_get_its_title(rig: Rig):
    await rig.event(TEXT, event_id="e1", stored_ns=1_000)
    await update(rig, title="Updated")
    await rig.event(OTHER, event_id="e2", title="Other", stored_ns=2_000)
    version = (await rig.get()).version
    assert (version.number, version.title) == (2, "Updated")


async def test_updates_of_different_keys_at_once_all_stay(rig: Rig):
    await index(rig)
    await asyncio.gather(*(update(rig, f"metadata.{n}", metadata={f"{n}": n}) for n in range(8)))
    assert (await rig.get()).version.metadata == {f"{n}": n for n in range(8)}
    revisions = [event.description.revision for event in rig.outbox()]
    assert sorted(revisions) == list(range(1, 9))
    latest = max(rig.outbox(), key=lambda event: event.description.revision)
    assert dict(latest.description.metadata) == {f"{n}": n for n in range(8)}


async def test_a_watcher_sees_it(rig: Rig):
    await rig.upload(TEXT, file_name="water.md")
    watch = rig.wired.rpc.watch.run(TENANT, NAME)
    await anext(watch)
    await update(rig, metadata=TYPED)
    view, _ = await asyncio.wait_for(anext(watch), 10)
    assert view.version.metadata == TYPED
    await watch.aclose()


async def test_a_deleted_document_is_not_changed(rig: Rig):
    await index(rig)
    await rig.delete()
    for state in ("DELETING", "DELETED"):
        assert rig.state() == state
        reason = await refused(update(rig, metadata=TYPED), FailedPreconditionError)
        assert reason == "DOCUMENT_DELETED"
        await rig.report_purged()
    assert rig.version()["metadata"] == {}


async def test_after_a_delete_the_new_version_alone_is_changed(rig: Rig):
    await index(rig)
    await rig.delete()
    await rig.upload(TEXT, title="Again")
    await rig.prepare(2)
    rig.clear_outbox()
    await update(rig, metadata=TYPED)
    assert [event.version for event in rig.outbox()] == [2]


async def test_what_does_not_exist_or_is_another_tenants_is_unknown(rig: Rig):
    await index(rig)
    for other in ({"name": "collections/a/documents/none"}, {"tenant": "globex"}):
        reason = await refused(update(rig, metadata=TYPED, **other), NotFoundError)
        assert reason == "DOCUMENT_UNKNOWN"
    assert (await rig.get()).version.metadata == {}


async def test_a_refused_change_changes_nothing(rig: Rig):
    await index(rig, metadata=TYPED)
    work = update(rig, "title", "metadata.bad", title="New", metadata={"bad": None})
    assert await refused(work, InvalidInputError) == "METADATA_RANGE"
    version = (await rig.get()).version
    assert (version.title, version.metadata) == ("Water", TYPED)
    assert rig.outbox() == []
