"""CheckDocuments and the filter of ListDocuments over a real connection."""

import hashlib

import pytest

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_pb2 import Description, DocumentState
from services.ingest.tests.conftest import NAME

from .doors import Client, refusal

WATER = b"Water finds its way."
DIGEST = hashlib.sha256(WATER).hexdigest()


def check(name: str = NAME, sha256: str = DIGEST, **fields: object) -> pb.DocumentCheck:
    return pb.DocumentCheck(document=name, sha256=sha256, **fields)


async def test_a_client_learns_what_it_need_not_send(client: Client):
    await client.send(WATER, title="Water", metadata={"k": "v"})
    twin = f"{NAME}-2"
    changed, new = await client.check(check(sha256="0" * 64), check(twin))
    assert (changed.document, changed.result) == (NAME, pb.CHECK_RESULT_CHANGED)
    assert (changed.version, changed.state) == (1, DocumentState.DOCUMENT_STATE_ACCEPTED)
    assert (new.document, new.result) == (twin, pb.CHECK_RESULT_NEW)
    assert (new.version, new.state) == (0, DocumentState.DOCUMENT_STATE_UNSPECIFIED)
    assert (changed.duplicate_of, new.duplicate_of) == ("", NAME)
    results = await client.check(
        check(),
        check(media_type="text/html"),
        check(description=Description(title="Water", metadata={"k": "v"}, revision=7)),
        check(description=Description()),
    )
    assert [one.result for one in results] == [
        pb.CHECK_RESULT_UNCHANGED,
        pb.CHECK_RESULT_CHANGED,
        pb.CHECK_RESULT_UNCHANGED,
        pb.CHECK_RESULT_CHANGED,
    ]


async def test_another_tenant_learns_nothing(client: Client):
    await client.send(WATER)
    assert await client.check(check(), check(f"{NAME}-2"), tenant="globex") == [
        pb.CheckedDocument(document=NAME, result=pb.CHECK_RESULT_NEW),
        pb.CheckedDocument(document=f"{NAME}-2", result=pb.CHECK_RESULT_NEW),
    ]


@pytest.mark.parametrize(
    ("checks", "reason", "field"),
    [
        ([], "CHECK_COUNT", "documents"),
        ([check("reports/q3")], "DOCUMENT_NAME", "documents[0].document"),
        ([check(), check(sha256="none")], "SHA256_INVALID", "documents[1].sha256"),
    ],
)
async def test_a_bad_check_is_refused(client: Client, checks, reason, field):
    code, said, details = await refusal(client.check(*checks))
    assert (code, said) == ("INVALID_ARGUMENT", reason)
    [violation] = details["BadRequest"].field_violations
    assert violation.field == field


async def test_a_thousand_checks_fit_into_a_message(client: Client):
    names = [f"collections/{'c' * 128}/documents/{'d' * 120}{n:03}" for n in range(1_000)]
    found = await client.check(*map(check, names))
    assert [one.document for one in found] == names


async def test_a_list_is_filtered_from_page_to_page(client: Client):
    for number in range(7):
        title = "Even" if number % 2 == 0 else "Odd"
        await client.send(WATER, document=f"collections/x/documents/{number}", title=title)
    found, token = [], ""
    while True:
        page = await client.list_all(page_size=2, page_token=token, filter='title = "Even"')
        found += [document.name[-1] for document in page.documents]
        if not (token := page.next_page_token):
            break
    assert found == ["0", "2", "4", "6"]


async def test_the_longest_filter_has_pages_too(client: Client):
    for name in ("a", "b"):
        await client.send(WATER, document=f"collections/x/documents/{name}")
    text = f'title != "{"x" * 980}"'
    token = (await client.list_all(page_size=1, filter=text)).next_page_token
    [document] = (await client.list_all(page_token=token, filter=text)).documents
    assert document.name == "collections/x/documents/b"


async def test_a_bad_filter_is_refused_with_its_position(client: Client):
    # Also where nothing could be found anyway.
    for collection in ("", "x", "no/such%"):
        call = client.list_all(collection=collection, filter="state = INDEXED AND colour = red")
        code, reason, details = await refusal(call)
        assert (code, reason) == ("INVALID_ARGUMENT", "FILTER_INVALID")
        [violation] = details["BadRequest"].field_violations
        assert violation.field == "filter"
        assert "size_bytes" in violation.description
