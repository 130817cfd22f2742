"""The same bytes again: what an upload says of them is valid from then on."""

from typing import Any

import pytest

from aquifer.ingest.v1.document_events_pb2 import (
    ChunksPrepared,
    DescriptionChanged,
    DocumentFailed,
    DocumentIndexed,
    VersionAccepted,
)
from aquifer.ingest.v1.document_pb2 import Description
from services.ingest.tests.conftest import NAME, TENANT, Rig, messages

TEXT = b"# Water\n\nIt finds its way."
NOTES = {"file_name": "water.md", "metadata": {"author": "Ada"}}


async def read_description(rig: Rig) -> tuple[str, dict[str, str], int]:
    version = (await rig.get()).version
    return version.title, dict(version.metadata), version.number


def list_events(rig: Rig, kind: type[Any]) -> list[Any]:
    return [event for event in rig.outbox() if isinstance(event, kind)]


async def test_a_live_document_gets_another_title_and_metadata(rig: Rig):
    await rig.upload(TEXT, **NOTES)
    await rig.prepare()
    await rig.searchable()
    assert await read_description(rig) == ("Water", {"author": "Ada"}, 1)
    rig.clear_outbox()
    view = await rig.upload(TEXT, title="Rivers", metadata={"author": "Bea"})
    assert (view.version.title, view.version.metadata) == ("Rivers", {"author": "Bea"})
    assert await read_description(rig) == ("Rivers", {"author": "Bea"}, 1)
    assert rig.outbox() == [
        DescriptionChanged(
            tenant=TENANT,
            document=NAME,
            version=1,
            description=Description(
                title="Rivers",
                metadata={"author": "Bea"},
                revision=1,
                create_time=rig.version()["accepted_at"],
            ),
        )
    ]


async def test_without_a_title_that_of_the_text_is_valid_again(rig: Rig):
    await rig.upload(TEXT, title="Rivers", **NOTES)
    await rig.prepare()
    await rig.upload(TEXT, **NOTES)
    assert await read_description(rig) == ("Water", {"author": "Ada"}, 1)
    [changed] = list_events(rig, DescriptionChanged)
    assert changed.description.title == "Water"


async def test_what_is_not_prepared_yet_is_prepared_with_the_latest(rig: Rig):
    await rig.upload(TEXT, **NOTES)
    await rig.upload(TEXT, title="Rivers")
    assert list_events(rig, DescriptionChanged) == []
    await rig.prepare()
    [prepared] = list_events(rig, ChunksPrepared)
    assert prepared.description == Description(
        title="Rivers", metadata={}, revision=1, create_time=rig.version()["accepted_at"]
    )


async def test_the_same_description_again_is_no_change(rig: Rig):
    await rig.index_version(TEXT)
    await rig.upload(TEXT, **NOTES)
    await rig.upload(TEXT, **NOTES)
    assert len(list_events(rig, DescriptionChanged)) == 1
    assert rig.version()["revision"] == 1


async def test_an_upload_event_is_told_that_its_bytes_are_unchanged(rig: Rig):
    await rig.event(TEXT)
    await rig.prepare()
    await rig.searchable()
    rig.clear_outbox()
    await rig.event(TEXT, event_id="e2", title="Rivers")
    changed, indexed = rig.outbox()
    assert changed.description == Description(
        title="Rivers", metadata={}, revision=1, create_time=rig.version()["accepted_at"]
    )
    assert (indexed.upload_event_id, indexed.version, indexed.unchanged) == ("e2", 1, True)


async def test_an_upload_event_delivered_again_does_not_undo_a_later_one(rig: Rig):
    await rig.event(TEXT, event_id="e0")
    await rig.event(TEXT, event_id="e1", title="First")
    await rig.event(TEXT, event_id="e2", title="Second")
    await rig.event(TEXT, event_id="e1", title="First", attempt=2)
    assert (await read_description(rig))[0] == "Second"
    assert rig.version()["revision"] == 2


async def test_an_earlier_upload_handled_later_changes_nothing(rig: Rig):
    await rig.event(TEXT, event_id="e2", title="Second", stored_ns=2_000)
    await rig.event(TEXT, event_id="e1", title="First", stored_ns=1_000)
    assert await read_description(rig) == ("Second", {}, 1)
    await rig.prepare()
    await rig.searchable()
    assert {e.upload_event_id for e in list_events(rig, DocumentIndexed)} == {"e1", "e2"}


@pytest.mark.parametrize(
    ("first", "second", "version"),
    [
        ("text/markdown", "text/plain", 2),
        ("text/plain; charset=koi8-r", "text/plain; charset=utf-8", 2),
        ("text/markdown", "TEXT/MARKDOWN", 1),
        ("text/markdown", "", 1),
        ("", "text/plain", 1),
        ("", "text/markdown", 2),
    ],
)
async def test_another_media_type_is_a_new_version_parsed_again(
    rig: Rig, first: str, second: str, version: int
):
    await rig.upload(TEXT, media_type=first)
    await rig.prepare()
    await rig.searchable()
    rig.clear_outbox()
    view = await rig.upload(TEXT, media_type=second)
    assert view.version.number == version
    orders = [VersionAccepted(tenant=TENANT, document=NAME, version=2)]
    assert rig.outbox() == (orders if version == 2 else [])


async def test_an_earlier_upload_of_another_media_type_is_superseded(rig: Rig):
    await rig.event(TEXT, event_id="e2", media_type="text/plain", stored_ns=2_000)
    sent = await rig.event(TEXT, event_id="e1", media_type="text/markdown", stored_ns=1_000)
    [failed] = messages(sent)
    assert isinstance(failed, DocumentFailed)
    assert failed.reason == "VERSION_SUPERSEDED"
