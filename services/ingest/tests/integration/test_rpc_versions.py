"""Versions over a real connection: lists, roll backs, pins, and who may do what."""

from typing import Any

import pytest

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.collection_pb2 import Collection
from aquifer.ingest.v1.document_pb2 import DocumentState
from services.ingest.tests.conftest import NAME

from .doors import Client, refusal

COLLECTION = NAME.rsplit("/", 2)[0]


async def keep(client: Client, number: int) -> Any:
    request = pb.CreateCollectionRequest(
        collection=Collection(name=COLLECTION, version_retention=number)
    )
    return await client.call("CreateCollection", request)


def versions(client: Client, name: str = NAME, *, who: str = "acme", **page: Any) -> Any:
    request = pb.ListDocumentVersionsRequest(name=name, **page)
    return client.call("ListDocumentVersions", request, tenant=who)


def roll_back(client: Client, version: int, *, who: str = "acme", **about: Any) -> Any:
    request = pb.RollBackDocumentRequest(name=NAME, version=version, **about)
    return client.call("RollBackDocument", request, tenant=who)


def pin(client: Client, version: int, *, who: str = "acme") -> Any:
    request = pb.PinDocumentRequest(name=NAME, version=version)
    return client.call("PinDocument", request, tenant=who)


def unpin(client: Client, *, who: str = "acme") -> Any:
    return client.call("UnpinDocument", pb.UnpinDocumentRequest(name=NAME), tenant=who)


async def index_many(client: Client, count: int) -> None:
    for number in range(count):
        await client.rig.index_version(b"Text number %d." % number)


async def test_every_version_is_listed_with_what_is_known_of_it(client: Client):
    assert (await keep(client, 1)).version_retention == 1
    await index_many(client, 3)
    sent = await client.send(b"Title and all.", title="Wells", file_name="w.txt")
    listed = await versions(client)
    assert [one.version for one in listed.versions] == [4, 3, 2, 1]
    assert [one.live for one in listed.versions] == [False, True, False, False]
    assert [one.bytes_kept for one in listed.versions] == [True, True, True, False]
    newest, oldest = listed.versions[0], listed.versions[3]
    assert newest.state == DocumentState.DOCUMENT_STATE_ACCEPTED
    assert oldest.state == DocumentState.DOCUMENT_STATE_SUPERSEDED
    for field in ("title", "file_name", "size_bytes", "sha256", "create_time", "trace_id"):
        assert getattr(newest, field) == getattr(sent, field)
    assert (oldest.document, oldest.media_type) == (NAME, "text/plain")
    assert oldest.update_time.ToNanoseconds() > oldest.create_time.ToNanoseconds()


async def test_the_password_of_a_roll_back_is_stored_sealed(client: Client):
    await keep(client, 1)
    await index_many(client, 2)
    await roll_back(client, 1, password="Sesam-4711")
    [row] = client.rig.rows.execute("SELECT password FROM versions WHERE version = 3").fetchall()
    assert row["password"]
    assert b"Sesam" not in row["password"]
    code, reason, *_ = await refusal(roll_back(client, 2, password="x" * 129))
    assert (code, reason) == ("INVALID_ARGUMENT", "METADATA_RANGE")


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_pages_go_on_where_they_ended_whatever_is_uploaded_meanwhile(
    client: Client, size: int
):
    await index_many(client, 5)
    numbers, token = [], ""
    while True:
        page = await versions(client, page_size=size, page_token=token)
        numbers += [one.version for one in page.versions]
        if not (token := page.next_page_token):
            break
        await client.rig.index_version(b"More after page %d." % len(numbers))
    assert numbers == [5, 4, 3, 2, 1]


async def test_a_token_belongs_to_its_document(client: Client):
    await index_many(client, 2)
    other = NAME + "-other"
    await client.send(b"Text.", document=other)
    token = (await versions(client, page_size=1)).next_page_token
    for given in (token[:-2], "x", "WyJhIiwgImIiXQ"):
        reason = (await refusal(versions(client, page_token=given)))[1]
        assert reason == "PAGE_TOKEN_INVALID"
    assert (await refusal(versions(client, other, page_token=token)))[1] == "PAGE_TOKEN_INVALID"
    assert (await refusal(versions(client, page_size=1_001)))[1] == "PAGE_SIZE_RANGE"
    assert (await refusal(versions(client, "q3")))[:2] == ("INVALID_ARGUMENT", "DOCUMENT_NAME")


async def test_a_roll_back_is_answered_with_the_new_version(client: Client):
    await keep(client, 1)
    await index_many(client, 2)
    answer = await roll_back(client, 1, request_id="r")
    assert (answer.version, answer.live_version) == (3, 2)
    assert await roll_back(client, 1, request_id="r") == answer
    listed = (await versions(client)).versions
    assert listed[0].sha256 == listed[2].sha256 == answer.sha256
    await client.rig.prepare(3)
    await client.rig.searchable(3)
    assert (await client.text()).text == "Text number 0."
    assert (await client.text(version=2)).text == "Text number 1."


@pytest.mark.parametrize(
    ("version", "code", "reason"),
    [
        (1, "FAILED_PRECONDITION", "BYTES_REMOVED"),
        (2, "FAILED_PRECONDITION", "VERSION_NEWEST"),
        (0, "NOT_FOUND", "VERSION_UNKNOWN"),
        (2**63 - 1, "NOT_FOUND", "VERSION_UNKNOWN"),
    ],
)
async def test_a_refused_roll_back_says_why(client: Client, version: int, code: str, reason: str):
    await index_many(client, 2)
    assert (await refusal(roll_back(client, version)))[:2] == (code, reason)
    long = roll_back(client, version, request_id="r" * 129)
    assert (await refusal(long))[:2] == ("INVALID_ARGUMENT", "METADATA_RANGE")


async def test_a_pin_is_shown_and_uploads_are_refused_until_it_ends(client: Client):
    await index_many(client, 2)
    assert (await refusal(pin(client, 1)))[:2] == ("FAILED_PRECONDITION", "VERSION_NOT_LIVE")
    pinned = await pin(client, 2)
    assert (pinned.pinned, pinned.live_version) == (True, 2)
    assert await client.get() == pinned
    code, reason, _ = await refusal(client.send(b"Other bytes."))
    assert (code, reason) == ("FAILED_PRECONDITION", "DOCUMENT_PINNED")
    assert not (await unpin(client)).pinned
    assert (await client.send(b"Other bytes.")).version == 3


async def test_other_tenants_learn_nothing_of_versions(client: Client):
    await index_many(client, 1)
    other: dict[str, Any] = {"who": "other"}
    for call in (
        versions(client, **other),
        roll_back(client, 1, **other),
        pin(client, 1, **other),
        unpin(client, **other),
    ):
        assert (await refusal(call))[:2] == ("NOT_FOUND", "DOCUMENT_UNKNOWN")
