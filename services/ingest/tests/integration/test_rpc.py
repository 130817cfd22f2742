"""The service over a real connection: who may, what is answered, and every refusal by its name."""

import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_pb2 import DocumentState
from aquifer.structs import to_json
from ingest.usecases.uploads.admission import Limits
from services.ingest.tests.conftest import NAME

from .doors import Client, content, opening, refusal


async def test_a_streamed_upload_is_answered_with_the_document(client: Client):
    document = await client.send(
        b"Water ", b"finds ", b"its way.", file_name="w.txt", title="Water", metadata={"k": "v"}
    )
    assert (document.name, document.version, document.size_bytes) == (NAME, 1, 20)
    assert document.state == DocumentState.DOCUMENT_STATE_ACCEPTED
    assert (document.title, dict(document.metadata)) == ("Water", {"k": "v"})
    assert len(document.sha256) == 64
    assert document.create_time.seconds > 0
    assert (document.media_type, document.live_version, document.chunk_count) == ("", 0, 0)


async def test_a_document_is_followed_to_its_end(client: Client):
    await client.send(b"Water finds its way.")
    request = pb.WatchDocumentRequest(name=NAME)
    watch = client.stub.WatchDocument(request, metadata=client.tokens.metadata(), timeout=10)
    states = []
    async for response in watch:
        states.append(response.document.state)
        if len(states) == 1:
            await client.rig.prepare()
            await client.rig.searchable()
    assert states[0] == DocumentState.DOCUMENT_STATE_ACCEPTED
    assert states[-1] == DocumentState.DOCUMENT_STATE_INDEXED
    document = await client.get()
    assert (document.live_version, document.chunk_count, document.media_type) == (
        1,
        1,
        "text/plain",
    )


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "UPLOAD_ORDER"),
        ([content(b"x")], "UPLOAD_ORDER"),
        ([pb.UploadDocumentRequest()], "UPLOAD_ORDER"),
        ([opening(), opening()], "UPLOAD_ORDER"),
        ([opening(), content(b"x"), pb.UploadDocumentRequest()], "UPLOAD_ORDER"),
        ([opening(), content(b"x" * ((1 << 20) + 1))], "UPLOAD_ORDER"),
        ([opening()], "EMPTY_DOCUMENT"),
        ([opening(), content(b"")], "EMPTY_DOCUMENT"),
        ([opening(), content(b"x" * (1 << 20)), content(b"x")], "DOCUMENT_TOO_LARGE"),
        ([opening(size_bytes=3), content(b"x"), content(b"y")], "SIZE_MISMATCH"),
        ([opening(size_bytes=3), content(b"xy"), content(b"za")], "SIZE_MISMATCH"),
        ([opening(size_bytes=3)], "SIZE_MISMATCH"),
        ([opening(size_bytes=-1), content(b"x")], "SIZE_MISMATCH"),
        ([opening("reports/q3"), content(b"x")], "DOCUMENT_NAME"),
        ([opening(title="t" * 513), content(b"x")], "METADATA_RANGE"),
        ([opening(request_id="r" * 129), content(b"x")], "METADATA_RANGE"),
    ],
)
async def test_a_bad_upload_is_refused_by_name_and_leaves_nothing(client: Client, parts, reason):
    code, said, _ = await refusal(client.upload(*parts))
    assert (code, said) == ("INVALID_ARGUMENT", reason)
    assert client.rig.count("documents") == 0
    assert await client.rig.objects.list() == []


def bytes_on_disk(client: Client) -> list[Path]:
    folder = client.rig.objects_dir
    return [path for path in folder.rglob("*") if path.is_file()]


# More than fits a row: it is on disk as it comes.
HALF = b"half of it" * 10_000


@pytest.mark.parametrize("size_bytes", [0, 2 * len(HALF)])
async def test_an_upload_that_is_cut_off_is_no_shorter_document(client: Client, size_bytes: int):
    """To the server such a stream ends like a complete one, and the cancellation comes after."""

    async def stream() -> AsyncIterator[pb.UploadDocumentRequest]:
        yield opening(size_bytes=size_bytes)
        yield content(HALF)
        await asyncio.sleep(60)

    for _ in range(10):
        call = client.stub.UploadDocument(stream(), metadata=client.tokens.metadata())
        async with asyncio.timeout(60):
            while not bytes_on_disk(client):
                await asyncio.sleep(0.01)
            call.cancel()
            while bytes_on_disk(client):
                await asyncio.sleep(0.01)
    assert client.rig.count("documents") == 0


DYING = """
import sys, time, grpc
from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub

def parts():
    yield pb.UploadDocumentRequest(header=pb.UploadHeader(document=sys.argv[2], size_bytes=200_000))
    yield pb.UploadDocumentRequest(content=b"half of it" * 10_000)
    time.sleep(60)

channel = grpc.insecure_channel(sys.argv[1])
IngestServiceStub(channel).UploadDocument(parts(), metadata=[("authorization", sys.argv[3])])
"""


async def test_a_client_that_is_killed_half_way_leaves_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    """No waiting is involved where the size is declared: with none at all, the same holds."""
    monkeypatch.setattr("ingest.rpc.CUT_OFF_S", 0.0)
    [(_, token)] = client.tokens.metadata()
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DYING, client.target, NAME, token
    )
    async with asyncio.timeout(60):
        while not bytes_on_disk(client):
            await asyncio.sleep(0.01)
        dying.kill()
        await dying.wait()
        while bytes_on_disk(client):
            await asyncio.sleep(0.01)
    assert client.rig.count("documents") == 0


async def test_where_the_size_is_told_nothing_is_waited_for(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ingest.rpc.CUT_OFF_S", 60.0)
    document = await client.send(b"Water ", b"finds its way.", size_bytes=20)
    assert document.size_bytes == 20


async def test_a_reused_request_id_names_what_it_made(client: Client):
    await client.send(b"One.", request_id="r")
    code, reason, _ = await refusal(client.send(b"Two.", request_id="r"))
    assert (code, reason) == ("ALREADY_EXISTS", "REQUEST_REUSED")


async def test_a_full_backlog_says_when_to_come_again(client: Client):
    client.rig.wired.rpc.accept.admission.limits = Limits(documents=1, size_bytes=1 << 30)
    await client.send(b"One.")
    code, reason, details = await refusal(client.send(b"Two.", document=f"{NAME}-2"))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "BACKLOG_FULL")
    assert details["RetryInfo"].retry_delay.seconds == 5


@pytest.mark.parametrize(("lane", "stored"), [(0, "INTERACTIVE"), (1, "INTERACTIVE"), (2, "BULK")])
async def test_a_single_upload_is_interactive_unless_it_says_bulk(client: Client, lane, stored):
    await client.send(b"One.", lane=lane)
    assert client.rig.version()["lane"] == stored


async def test_another_tenants_document_looks_like_none(client: Client):
    await client.send(b"Water finds its way.")
    answers = []
    other = f"{NAME}-none"
    for foreign_call, unknown_call in (
        (client.get(tenant="globex"), client.get(other)),
        (client.delete(tenant="globex"), client.delete(other)),
        (client.update(title="t", who={"tenant": "globex"}), client.update(title="t", name=other)),
    ):
        foreign, unknown = await refusal(foreign_call), await refusal(unknown_call)
        assert foreign == unknown
        answers.append(foreign[:2])
    assert set(answers) == {("NOT_FOUND", "DOCUMENT_UNKNOWN")}


@pytest.mark.parametrize("scope", ["documents.read", "documents.write", "search"])
async def test_each_method_needs_its_scope(client: Client, scope: str):
    await client.send(b"Water finds its way.")
    listed = client.stub.ListDocuments(
        pb.ListDocumentsRequest(), metadata=client.tokens.metadata(scope=scope), timeout=10
    )
    collections = client.stub.ListCollections(
        pb.ListCollectionsRequest(), metadata=client.tokens.metadata(scope=scope), timeout=10
    )
    check = pb.DocumentCheck(document=NAME, sha256="0" * 64)
    calls = {
        "documents.read": [
            client.get(scope=scope),
            listed,
            collections,
            client.check(check, scope=scope),
        ],
        "documents.write": [
            client.upload(opening(), content(b"Water finds its way."), scope=scope),
            client.update(title="Water", who={"scope": scope}),
            client.delete(scope=scope),
        ],
    }
    for needed, made in calls.items():
        for call in made:
            if needed == scope:
                await call
            else:
                assert (await refusal(call))[:2] == ("PERMISSION_DENIED", "SCOPE_MISSING")


async def list_pages(client: Client, **fields: Any) -> Sequence[str]:
    found, token = [], ""
    while True:
        page = await client.list_all(page_token=token, page_size=2, **fields)
        found += [document.name.rpartition("/")[2] for document in page.documents]
        token = page.next_page_token
        if not token:
            return found


async def test_a_list_goes_on_from_page_to_page(client: Client):
    for name in ("d", "a", "c", "b"):
        await client.send(b"Text.", document=f"collections/x/documents/{name}")
    assert await list_pages(client) == ["a", "b", "c", "d"]
    assert await list_pages(client, collection="x") == ["a", "b", "c", "d"]
    assert await list_pages(client, collection="y") == []
    assert await list_pages(client, state=DocumentState.DOCUMENT_STATE_ACCEPTED) == [
        "a",
        "b",
        "c",
        "d",
    ]
    assert await list_pages(client, state=DocumentState.DOCUMENT_STATE_FAILED) == []
    assert await list_pages(client, collection="no/such%") == []


async def test_collections_are_listed_with_their_documents(client: Client):
    for name in ("a/documents/1", "a/documents/2", "a-b/documents/1", "b/documents/1"):
        await client.send(b"Text.", document=f"collections/{name}")
    await client.delete("collections/a/documents/2")
    await client.delete("collections/b/documents/1")
    found = await client.list_collections()
    counts = {one.name: one.document_count for one in found.collections}
    assert counts == {"collections/a": 1, "collections/a-b": 1}
    assert found.next_page_token == ""


async def test_collections_tell_how_many_documents_are_in_each_state(client: Client):
    document = "collections/a/documents/"
    for name in ("1", "2", "3", "4"):
        await client.rig.index_version(name=f"{document}{name}")
    await client.delete(f"{document}4")
    # Newer versions count alone, whatever became of the older ones.
    await client.send(b"Newer.", document=f"{document}2")
    await client.send(b"Newer.", document=f"{document}3")
    await client.rig.prepare(2, name=f"{document}3")
    await client.send(b"Text.", document=f"{document}5")
    await client.rig.prepare(name=f"{document}5")
    await client.rig.reject(name=f"{document}5")
    [found] = (await client.list_collections()).collections
    counts = {
        DocumentState.Name(one.state).removeprefix("DOCUMENT_STATE_"): one.document_count
        for one in found.state_counts
    }
    assert counts == {"ACCEPTED": 1, "PREPARED": 1, "INDEXED": 1, "FAILED": 1}
    assert list(counts) == ["ACCEPTED", "PREPARED", "INDEXED", "FAILED"]
    assert found.document_count == 4


async def test_a_list_of_collections_goes_on_from_page_to_page(client: Client):
    names = {f"collections/{name}" for name in ("a", "a-b", "a.b", "ab", "B")}
    for name in names:
        await client.send(b"Text.", document=f"{name}/documents/1")
    found, token = [], ""
    while True:
        page = await client.list_collections(page_size=2, page_token=token)
        found += [one.name for one in page.collections]
        if not (token := page.next_page_token):
            break
    assert (len(found), set(found)) == (len(names), names)
    for wrong, reason in (
        ({"page_size": 1_001}, "PAGE_SIZE_RANGE"),
        ({"page_token": "none"}, "PAGE_TOKEN_INVALID"),
    ):
        assert (await refusal(client.list_collections(**wrong)))[1] == reason


async def test_a_page_of_large_documents_is_shorter_and_none_is_missed(client: Client):
    metadata = {f"key-{number}": "\N{DROPLET}" * 512 for number in range(7)}
    names = [f"collections/x/documents/{number:03}" for number in range(230)]
    sending = [client.send(b"Text.", document=name, metadata=metadata) for name in names]
    await asyncio.gather(*sending)
    first = await client.list_all(page_size=300)
    assert 0 < len(first.documents) < len(names)
    rest = await client.list_all(page_size=300, page_token=first.next_page_token)
    assert [document.name for document in (*first.documents, *rest.documents)] == names
    assert rest.next_page_token == ""


async def test_a_page_token_is_bound_to_its_filter(client: Client):
    for name in ("a", "b"):
        await client.send(b"Text.", document=f"collections/x/documents/{name}")
    token = (await client.list_all(page_size=1)).next_page_token
    filtered = {"filter": "state = ACCEPTED"}
    for fields in ({"collection": "x"}, {"state": DocumentState.DOCUMENT_STATE_FAILED}, filtered):
        answer = await refusal(client.list_all(page_token=token, **fields))
        assert answer[:2] == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    token = (await client.list_all(page_size=1, **filtered)).next_page_token
    [document] = (await client.list_all(page_token=token, **filtered)).documents
    assert document.name == "collections/x/documents/b"
    for other in ("state = FAILED", "state=ACCEPTED", ""):
        answer = await refusal(client.list_all(page_token=token, filter=other))
        assert answer[:2] == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    assert (await refusal(client.list_all(page_size=1_001)))[1] == "PAGE_SIZE_RANGE"


TYPED = {"year": 2020, "public": True, "tags": ["a"], "published": "2024-05-01T00:00:00Z"}


async def test_metadata_keeps_its_types(client: Client):
    sent = await client.send(b"Water finds its way.", metadata=TYPED)
    for document in (sent, await client.get(), (await client.list_all()).documents[0]):
        assert json.dumps(to_json(document.metadata), sort_keys=True) == json.dumps(
            TYPED, sort_keys=True
        )
    changed = await client.send(b"Water finds its way.", metadata={"year": "2020"})
    assert (changed.version, to_json(changed.metadata)) == (1, {"year": "2020"})


@pytest.mark.parametrize("value", [None, {"a": 1}, [[1]], math.nan, "v" * 513])
async def test_metadata_of_another_kind_is_refused_and_its_key_is_named(client: Client, value: Any):
    await client.send(b"Water finds its way.", metadata=TYPED)
    metadata = {"good": 1, "bad": value}
    for call in (
        client.send(b"Water.", document=f"{NAME}-2", metadata=metadata),
        client.update(metadata=metadata),
        client.update("metadata.bad", metadata=metadata),
    ):
        code, reason, details = await refusal(call)
        assert (code, reason) == ("INVALID_ARGUMENT", "METADATA_RANGE")
        [violation] = details["BadRequest"].field_violations
        assert violation.field == "metadata.bad"
        assert "a finite number, true or false, or a list" in violation.description


async def test_an_update_is_answered_with_the_document(client: Client):
    sent = await client.send(b"Water finds its way.", title="Water", metadata={"a": 1, "b": [2]})
    updated = await client.update("title", "metadata.b", title="Rivers", metadata={"a": 5})
    assert (updated.title, to_json(updated.metadata)) == ("Rivers", {"a": 1})
    assert (updated.version, updated.state, updated.sha256) == (1, sent.state, sent.sha256)
    assert await client.get() == updated
    # What was read may be sent back: all other fields are ignored.
    back = pb.UpdateDocumentRequest(document=updated)
    back.document.metadata.update(TYPED)
    answer = await client.stub.UpdateDocument(back, metadata=client.tokens.metadata(), timeout=10)
    assert to_json(answer.metadata) == {"a": 1} | TYPED


async def test_an_update_of_anything_else_is_refused(client: Client):
    await client.send(b"Water finds its way.")
    code, reason, details = await refusal(client.update("title", "state", title="Rivers"))
    assert (code, reason) == ("INVALID_ARGUMENT", "UPDATE_MASK")
    assert [one.field for one in details["BadRequest"].field_violations] == ["update_mask"]
    code, reason, details = await refusal(client.update(name="water", title="Rivers"))
    assert (code, reason) == ("INVALID_ARGUMENT", "DOCUMENT_NAME")
    assert [one.field for one in details["BadRequest"].field_violations] == ["document.name"]
    assert (await client.get()).title == ""
    await client.delete()
    answer = await refusal(client.update(title="Rivers"))
    assert answer[:2] == ("FAILED_PRECONDITION", "DOCUMENT_DELETED")


async def test_a_deleted_document_is_answered_hidden(client: Client):
    await client.rig.index_version()
    document = await client.delete()
    assert document.state == DocumentState.DOCUMENT_STATE_DELETING
    assert document.live_version == 0
    client.rig.siblings.query_is_away = True
    await client.rig.index_version(b"Again.")
    code, reason, details = await refusal(client.delete())
    assert (code, reason) == ("UNAVAILABLE", "HIDE_PENDING")
    assert "RetryInfo" in details
