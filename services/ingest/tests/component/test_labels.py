"""Labels of documents: which are valid, in whatever order they come, and how query gets them."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentUpdated
from chassis.base.errors import (
    AlreadyExistsError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from chassis.base.labels import hold
from ingest.changes import read_changes
from ingest.checks import Check
from ingest.collections import CollectionSettings
from ingest.domain import Draft, Origin
from ingest.labels import Labels
from ingest.usecases.documents.read_text import TextQuery
from ingest.usecases.rows import PageQuery
from services.ingest.tests.conftest import NAME, TENANT, Rig

COLLECTION = NAME.split("/")[1]


CONTENT = b"Water finds its way."
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@contextmanager
def holding(*labels: str) -> Iterator[None]:
    """A call of a key with these labels."""
    hold(frozenset(labels))
    try:
        yield
    finally:
        hold(None)


def change(rig: Rig, *labels: str, name: str = NAME) -> Any:
    changes = read_changes(["labels"], title="", metadata=None, labels=labels)
    return rig.wired.rpc.update.run(TENANT, name, changes)


def label_collection(rig: Rig, *labels: str) -> Any:
    settings = CollectionSettings(access_labels=labels)
    update = rig.wired.rpc.update_collection
    return update.run(TENANT, COLLECTION, settings, ["access_labels"])


async def names(rig: Rig, name: str = NAME) -> tuple[str, ...]:
    return (await rig.get(name)).entry.labels.names


async def test_query_has_changed_labels_when_the_call_ends(rig: Rig):
    await rig.index_version()
    view = await change(rig, "hr")
    assert rig.siblings.labelled == {NAME: view.entry.labels}
    assert view.entry.labels.names == ("hr",)
    await change(rig)
    assert rig.siblings.labelled[NAME].names == ()


async def test_a_call_says_that_searches_do_not_follow_yet(rig: Rig):
    await rig.index_version()
    rig.siblings.query_is_away = True
    for _ in range(2):
        with pytest.raises(UnavailableError, match="searches will follow"):
            await change(rig, "hr")
    assert await names(rig) == ("hr",)
    with pytest.raises(UnavailableError):
        await rig.wired.maintenance.send_labels.run()
    rig.siblings.query_is_away = False
    assert await rig.wired.maintenance.send_labels.run() == 1
    assert rig.siblings.labelled[NAME].names == ("hr",)
    assert await rig.wired.maintenance.send_labels.run() == 0
    await change(rig, "hr")


async def test_an_upload_without_labels_keeps_them(rig: Rig):
    await rig.upload(labels=("hr",))
    for content in (b"Water finds its way.", b"Another text."):
        await rig.upload(content)
        assert await names(rig) == ("hr",)
    await rig.upload(b"Another text.", labels=("law",))
    assert await names(rig) == ("law",)
    assert await rig.wired.maintenance.send_labels.run() == 1
    assert rig.siblings.labelled[NAME].names == ("law",)


async def test_labels_outlive_a_deletion(rig: Rig):
    await rig.index_version()
    await change(rig, "hr")
    await rig.delete()
    await rig.report_purged()
    await rig.upload()
    assert await names(rig) == ("hr",)


async def test_a_repeated_upload_does_not_bring_its_labels_back(rig: Rig):
    await rig.upload(request_id="r", labels=("hr",))
    await change(rig, "law")
    await rig.upload(request_id="r", labels=("hr",))
    assert await names(rig) == ("law",)


async def test_the_last_event_wins_in_any_order(rig: Rig):
    await rig.event(b"One", event_id="e1", stored_ns=100, labels=["a"])
    await rig.event(b"Three", event_id="e3", stored_ns=300, labels=["c"])
    await rig.event(b"Two", event_id="e2", stored_ns=200, labels=["b"])
    assert await names(rig) == ("c",)
    sent = await rig.description(event_id="d5", stored_ns=500, labels=["e"])
    assert DocumentUpdated.DESCRIPTOR.full_name in sent[-1].subject
    await rig.event(b"Three", event_id="e4", stored_ns=400, labels=["d"])
    assert await names(rig) == ("e",)
    await rig.description(event_id="d6", stored_ns=600)
    assert await names(rig) == ("e",)


async def test_a_refused_upload_changes_no_labels(rig: Rig):
    await rig.index_version()
    await rig.wired.rpc.pin.run(TENANT, NAME, 1)
    with pytest.raises(Exception, match="pinned"):
        await rig.upload(b"Other bytes.", labels=("hr",))
    assert await names(rig) == ()


async def test_labels_of_a_collection_hold_for_documents_without_own_ones(rig: Rig):
    other, new = NAME + "-own", NAME + "-new"
    await rig.index_version()
    await rig.index_version(name=other)
    await change(rig, "law", name=other)
    await label_collection(rig, "hr")
    assert (await names(rig), await names(rig, other)) == (("hr",), ("law",))
    assert rig.siblings.labelled[NAME].names == ("hr",)
    await rig.upload(name=new)
    assert await names(rig, new) == ("hr",)
    await label_collection(rig, "eng")
    assert [await names(rig, one) for one in (NAME, other, new)] == [("eng",), ("law",), ("eng",)]
    await change(rig, name=other)
    assert (await rig.get(other)).entry.labels.own is False
    assert await names(rig, other) == ("eng",)
    await label_collection(rig)
    assert await names(rig) == await names(rig, other) == await names(rig, new) == ()


async def test_a_change_of_a_collection_that_is_not_sent_says_so(rig: Rig):
    await rig.index_version()
    rig.siblings.query_is_away = True
    with pytest.raises(UnavailableError, match="searches will follow"):
        await label_collection(rig, "hr")
    assert await names(rig) == ("hr",)
    rig.siblings.query_is_away = False
    await label_collection(rig, "hr")
    assert rig.siblings.labelled[NAME].names == ("hr",)


async def test_a_key_cannot_upload_what_it_would_not_see(rig: Rig):
    await label_or_create(rig)
    with holding("eng"):
        with pytest.raises(ForbiddenError, match="lacks"):
            await rig.upload()
        await rig.upload(labels=("eng",))
    assert (await rig.get()).entry.labels == Labels(
        names=("eng",), own=True, order=(await rig.get()).entry.labels.order
    )


async def label_or_create(rig: Rig) -> None:
    create = rig.wired.rpc.create_collection
    await create.run(TENANT, COLLECTION, CollectionSettings(access_labels=("hr",)))


async def test_unfinished_uploads_keep_their_labels(rig: Rig):
    """An upload in several calls has the labels of its start."""
    content = b"Water finds its way."
    draft = Draft(tenant=TENANT, name=NAME, metadata={}, labels=("hr",), origin=Origin())
    digest = hashlib.sha256(content).hexdigest()
    session = await rig.wired.rpc.start_upload.run(draft, digest, len(content))
    assert session.draft.labels == ("hr",)


async def hide(rig: Rig) -> None:
    """Two versions of a document, with the label `hr`."""
    await rig.index_version(b"First.")
    await rig.index_version(CONTENT)
    await change(rig, "hr")


@pytest.mark.parametrize("call", ["get", "text", "versions", "update", "delete", "pin", "unpin"])
async def test_a_hidden_document_is_unknown_to_every_call(rig: Rig, call: str):
    await hide(rig)
    rpc = rig.wired.rpc
    calls = {
        "get": lambda: rpc.get.run(TENANT, NAME),
        "text": lambda: rpc.get_text.run(TENANT, NAME, TextQuery()),
        "versions": lambda: rpc.list_versions.run(TENANT, NAME, before=0, limit=9),
        "update": lambda: change(rig, "eng"),
        "delete": lambda: rpc.delete.run(TENANT, NAME),
        "pin": lambda: rpc.pin.run(TENANT, NAME, 2),
        "unpin": lambda: rpc.unpin.run(TENANT, NAME),
    }
    with holding("eng"), pytest.raises(NotFoundError, match="no document has this name"):
        await calls[call]()
    assert await names(rig) == ("hr",)
    with holding("hr", "eng"):
        await calls[call]()


async def test_a_hidden_document_is_in_no_list_and_no_comparison(rig: Rig):
    await hide(rig)
    other = NAME + "-other"
    query = PageQuery(collection="", state=None, after="", limit=9)
    checks = [
        Check(name=NAME, sha256=DIGEST, metadata={}),
        Check(name=other, sha256=DIGEST, metadata={}),
    ]
    with holding("eng"):
        assert await rig.wired.rpc.list_page.run(TENANT, query) == []
        own, twin = await rig.wired.rpc.check.run(TENANT, checks)
        assert (own.newest, twin.duplicate_of) == (None, "")
        view = await rig.upload(CONTENT, name=other, labels=("eng",))
        assert view.same_content == ()
    with holding("hr"):
        assert [one.entry.name for one in await rig.wired.rpc.list_page.run(TENANT, query)] == [
            NAME
        ]


async def test_a_used_request_id_does_not_name_a_hidden_document(rig: Rig):
    await rig.upload(request_id="r", labels=("hr",))
    with holding("eng"), pytest.raises(AlreadyExistsError) as refusal:
        await rig.upload(name=NAME + "-other", request_id="r", labels=("eng",))
    assert refusal.value.reason == "REQUEST_REUSED"
    assert NAME not in str(refusal.value.facts)


async def read(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_finished_upload_of_a_hidden_document_is_unknown(rig: Rig):
    draft = Draft(tenant=TENANT, name=NAME, metadata={}, labels=("hr",), origin=Origin())
    rpc = rig.wired.rpc
    session = await rpc.start_upload.run(draft, DIGEST, len(CONTENT))
    await rpc.append_upload.run(TENANT, session.upload_id, 0, read(CONTENT))
    await rpc.finish_upload.run(TENANT, session.upload_id, "")
    with holding("hr"):
        assert (await rpc.finish_upload.run(TENANT, session.upload_id, "")).version.number == 1
    with holding("eng"), pytest.raises(NotFoundError) as refusal:
        await rpc.finish_upload.run(TENANT, session.upload_id, "")
    assert refusal.value.reason == "UPLOAD_UNKNOWN"
