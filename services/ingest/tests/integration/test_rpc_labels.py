"""Labels over a real connection: for a key without one, a labelled document does not exist."""

import hashlib
from typing import Any

import pytest

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.collection_pb2 import Collection
from aquifer.ingest.v1.document_pb2 import Description
from services.ingest.tests.conftest import NAME

from .doors import Client, content, opening, refusal

HR, ENG = {"labels": "hr"}, {"labels": "eng"}
TEXT = b"The salaries of everybody."
SHA256 = hashlib.sha256(TEXT).hexdigest()
COLLECTION, UNKNOWN = NAME.rsplit("/", 2)[0], NAME + "-unknown"
FORBIDDEN = ("PERMISSION_DENIED", "LABELS_FORBIDDEN")


async def send(client: Client, name: str = NAME, *, who: Any = None, **header: Any) -> Any:
    return await client.upload(opening(name, **header), content(TEXT), **(who or {}))


async def index(client: Client, name: str = NAME, **header: Any) -> None:
    await send(client, name, **header)
    await client.rig.prepare(name=name)
    await client.rig.searchable(name=name)


def reads(name: str) -> list[tuple[str, Any]]:
    """One request of each method about one document."""
    return [
        ("GetDocument", pb.GetDocumentRequest(name=name)),
        ("GetDocumentText", pb.GetDocumentTextRequest(name=name)),
        ("ListDocumentVersions", pb.ListDocumentVersionsRequest(name=name)),
        ("RollBackDocument", pb.RollBackDocumentRequest(name=name, version=1)),
        ("PinDocument", pb.PinDocumentRequest(name=name, version=1)),
        ("UnpinDocument", pb.UnpinDocumentRequest(name=name)),
        ("DeleteDocument", pb.DeleteDocumentRequest(name=name)),
        ("UpdateDocument", pb.UpdateDocumentRequest(document={"name": name, "title": "Mine"})),
        ("UpdateDocument", pb.UpdateDocumentRequest(document={"name": name, "labels": ["eng"]})),
    ]


@pytest.mark.parametrize(("method", "request_"), [(m, n) for n, (m, _) in enumerate(reads(NAME))])
@pytest.mark.parametrize("held", ["eng", ""])
async def test_a_method_answers_as_for_an_unknown_document(
    client: Client, method: str, request_: int, held: str
):
    await index(client, labels=["hr"])
    hidden = client.call(method, reads(NAME)[request_][1], labels=held)
    unknown = client.call(method, reads(UNKNOWN)[request_][1], labels=held)
    assert await refusal(hidden) == await refusal(unknown)
    assert (await client.get(labels="hr")).title == ""
    assert (await client.get()).labels == ["hr"]


async def test_one_label_in_common_is_enough_to_read_and_change(client: Client):
    await index(client, labels=["hr", "law"])
    assert (await client.get(labels="law eng")).own_labels
    assert (await client.text(who={"labels": "law"})).text == TEXT.decode()
    assert (await client.update(title="Pay", who=HR)).title == "Pay"
    assert (await client.delete(labels="hr")).name == NAME


async def test_a_list_and_counts_leave_out_what_the_key_may_not_see(client: Client):
    await index(client, labels=["hr"])
    await index(client, NAME + "-plain")
    await index(client, "collections/secret/documents/d", labels=["hr"])

    async def listed(**who: str) -> list[str]:
        response = await client.call("ListDocuments", pb.ListDocumentsRequest(), **who)
        indexed = pb.ListDocumentsRequest(state="DOCUMENT_STATE_INDEXED")
        in_state = await client.call("ListDocuments", indexed, **who)
        assert [one.name for one in response.documents] == [one.name for one in in_state.documents]
        return [one.name for one in response.documents]

    assert await listed(**ENG) == [NAME + "-plain"]
    assert len(await listed(**HR)) == len(await listed()) == 3
    page = await client.call("ListCollections", pb.ListCollectionsRequest(), **ENG)
    assert [(one.name, one.document_count) for one in page.collections] == [(COLLECTION, 1)]
    page = await client.call("ListCollections", pb.ListCollectionsRequest(), **HR)
    assert [one.document_count for one in page.collections] == [2, 1]
    hidden = client.call("GetCollection", pb.GetCollectionRequest(name="collections/secret"), **ENG)
    assert (await refusal(hidden))[1] == "COLLECTION_UNKNOWN"


async def test_a_check_knows_no_hidden_document_nor_duplicate(client: Client):
    await index(client, labels=["hr"])
    same, other = (pb.DocumentCheck(document=n, sha256=SHA256) for n in (NAME, NAME + "-copy"))
    [one, two] = await client.check(same, other, **ENG)
    assert (one.result, one.version, two.duplicate_of) == (pb.CHECK_RESULT_NEW, 0, "")
    [one, two] = await client.check(same, other, **HR)
    assert (one.result, two.duplicate_of) == (pb.CHECK_RESULT_UNCHANGED, NAME)
    described = pb.DocumentCheck(document=NAME, sha256=SHA256, description=Description())
    described.labels.append("law")
    [changed] = await client.check(described, labels="hr law")
    assert changed.result == pb.CHECK_RESULT_CHANGED


async def test_a_watch_does_not_show_it(client: Client):
    await index(client, labels=["hr"])
    one = client.stub.WatchDocument(
        pb.WatchDocumentRequest(name=NAME), metadata=client.tokens.metadata(**ENG), timeout=10
    )
    assert (await refusal(anext(aiter(one))))[1] == "DOCUMENT_UNKNOWN"
    many = client.stub.WatchDocuments(
        pb.WatchDocumentsRequest(), metadata=client.tokens.metadata(**ENG), timeout=20
    )
    changes = aiter(many)
    assert (await anext(changes)).HasField("subscribed")
    await client.update(title="Hidden")
    await client.update(title="Seen", name=(await send(client, NAME + "-plain")).name)
    assert (await anext(changes)).document.name == NAME + "-plain"
    many.cancel()


async def test_an_upload_over_a_hidden_document_is_refused(client: Client):
    await index(client, labels=["hr"])
    assert (await refusal(send(client, who=ENG)))[:2] == FORBIDDEN
    assert (await refusal(send(client, who=ENG, labels=["eng"])))[:2] == FORBIDDEN
    assert (await client.get()).version == 1
    assert (await send(client, who=HR, title="Again")).title == "Again"


async def test_a_key_gives_only_labels_that_it_has(client: Client):
    await index(client, labels=["hr"])
    assert (await refusal(send(client, UNKNOWN, who=ENG, labels=["eng", "hr"])))[:2] == FORBIDDEN
    assert (await refusal(client.update(labels=["law"], who=HR)))[:2] == FORBIDDEN
    assert (await refusal(client.update("labels", who=HR)))[:2] == FORBIDDEN
    assert (await client.update(labels=["eng"], who={"labels": "eng hr"})).labels == ["eng"]
    assert (await client.update("labels")).labels == []
    assert (await client.get(**HR)).labels == []


async def test_only_a_key_with_all_labels_changes_collections(client: Client):
    await index(client, labels=["hr"])
    collection = Collection(name=COLLECTION, retention={"seconds": 60})
    for method, request in (
        ("CreateCollection", pb.CreateCollectionRequest(collection=collection)),
        ("UpdateCollection", pb.UpdateCollectionRequest(collection=collection)),
        ("DeleteCollection", pb.DeleteCollectionRequest(name=COLLECTION, force=True)),
    ):
        assert (await refusal(client.call(method, request, **HR)))[:2] == FORBIDDEN


@pytest.mark.parametrize("label", ["", "HR", "a b", "a,b", "*", "-a", "x" * 64, "ü"])
async def test_a_label_of_another_form_is_refused(client: Client, label: str):
    code, reason, details = await refusal(send(client, labels=[label]))
    assert (code, reason) == ("INVALID_ARGUMENT", "LABELS_INVALID")
    assert details["BadRequest"].field_violations[0].field == "header.labels"
    too_many = client.update(labels=[f"l{n}" for n in range(17)])
    assert (await refusal(too_many))[1] == "LABELS_INVALID"


async def test_labels_are_sorted_and_come_with_the_chunks(client: Client):
    await send(client, labels=["hr", "eng", "hr"])
    assert (await client.get()).labels == ["eng", "hr"]
    await client.rig.prepare()
    [chunks] = [one for one in client.rig.outbox() if one.DESCRIPTOR.name == "ChunksPrepared"]
    assert chunks.labels == ["eng", "hr"]
    assert chunks.labels_order > 0
