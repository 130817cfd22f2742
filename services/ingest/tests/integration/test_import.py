"""ImportDocuments over a real connection: one answer for each document, whatever the others are."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_pb2 import (
    LANE_BULK,
    LANE_INTERACTIVE,
    LANE_UNSPECIFIED,
    DocumentState,
)
from ingest import import_stream
from ingest.usecases.uploads.admission import Limits
from services.ingest.tests.conftest import NAME

from .doors import Client, refusal

MIB = 1 << 20


def document(number: int, content: bytes = b"", **header: Any) -> pb.ImportDocumentsRequest:
    name = header.pop("document", f"{NAME}-{number}")
    return pb.ImportDocumentsRequest(
        header=pb.UploadHeader(document=name, **header),
        content=content or f"Water finds way {number}.".encode(),
    )


async def send(
    client: Client, *requests: pb.ImportDocumentsRequest, **who: str
) -> list[pb.ImportDocumentsResponse]:
    async def stream() -> AsyncIterator[pb.ImportDocumentsRequest]:
        for request in requests:
            yield request

    metadata = client.tokens.metadata(**who)
    return [
        response
        async for response in client.stub.ImportDocuments(stream(), metadata=metadata, timeout=30)
    ]


async def test_every_document_is_answered_in_order_and_durable(client: Client):
    requests = [document(number) for number in range(300)]
    responses = await send(client, *requests)
    assert [response.document for response in responses] == [
        request.header.document for request in requests
    ]
    for response in responses:
        assert response.accepted.version == 1
        assert response.accepted.state == DocumentState.DOCUMENT_STATE_ACCEPTED
    assert client.rig.count("versions") == 300


async def test_each_document_has_its_own_trace(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(import_stream, "tracer", TracerProvider().get_tracer("test"))
    responses = await send(client, document(0), document(1))
    traces = [response.accepted.trace_id for response in responses]
    assert len(set(traces)) == 2
    stored = [client.rig.version(name=f"{NAME}-{number}")["trace_id"] for number in range(2)]
    assert stored == traces


@pytest.mark.parametrize(
    ("bad", "code", "reason"),
    [
        (document(1, document="reports/q3"), grpc.StatusCode.INVALID_ARGUMENT, "DOCUMENT_NAME"),
        (document(1, document=""), grpc.StatusCode.INVALID_ARGUMENT, "DOCUMENT_NAME"),
        (document(1, title="t" * 513), grpc.StatusCode.INVALID_ARGUMENT, "METADATA_RANGE"),
        (document(1, size_bytes=3), grpc.StatusCode.INVALID_ARGUMENT, "SIZE_MISMATCH"),
        (document(1, size_bytes=-1), grpc.StatusCode.INVALID_ARGUMENT, "SIZE_MISMATCH"),
        (document(1, b"x" * (MIB + 1)), grpc.StatusCode.INVALID_ARGUMENT, "DOCUMENT_TOO_LARGE"),
        (
            pb.ImportDocumentsRequest(header=pb.UploadHeader(document=f"{NAME}-1")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "EMPTY_DOCUMENT",
        ),
        (pb.ImportDocumentsRequest(), grpc.StatusCode.INVALID_ARGUMENT, "DOCUMENT_NAME"),
    ],
)
async def test_a_refused_document_harms_no_other(client: Client, bad, code, reason):
    first, refused, last = await send(client, document(0), bad, document(2))
    assert (first.accepted.version, last.accepted.version) == (1, 1)
    assert (refused.refused.code, refused.refused.reason) == (code.value[0], reason)
    assert refused.document == bad.header.document
    assert refused.refused.detail
    assert client.rig.count("documents") == 2


async def test_a_full_backlog_says_when_to_come_again(client: Client):
    client.rig.wired.rpc.accept.admission.limits = Limits(documents=1, size_bytes=1 << 30)
    await send(client, document(0))
    (response,) = await send(client, document(1))
    assert response.refused.reason == "BACKLOG_FULL"
    assert response.refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert response.refused.retry_after_s == 5


async def test_every_document_of_an_import_is_bulk(client: Client):
    """Whatever its header says: otherwise every import would be interactive."""
    for number, lane in enumerate((LANE_UNSPECIFIED, LANE_INTERACTIVE, LANE_BULK)):
        await send(client, document(number, lane=lane))
        assert client.rig.version(name=f"{NAME}-{number}")["lane"] == "BULK"


async def test_a_reused_request_id_is_refused_and_a_repeated_upload_is_not(client: Client):
    await send(client, document(0, request_id="r"))
    again, other = await send(
        client, document(0, request_id="r"), document(0, b"Other bytes.", request_id="r")
    )
    assert again.accepted.version == 1
    assert other.refused.reason == "REQUEST_REUSED"
    assert client.rig.count("versions") == 1


async def test_uploads_of_one_document_become_versions_in_order(client: Client):
    name = f"{NAME}-same"
    texts = [f"Water, part {number}.".encode() for number in range(8)]
    responses = await send(client, *(document(0, text, document=name) for text in texts))
    assert [response.accepted.version for response in responses] == list(range(1, 9))
    assert client.rig.content(8, name=name) == texts[-1]


async def test_a_read_only_key_may_not_import(client: Client):
    code, reason, _ = await refusal(send(client, document(0), scope="documents.read"))
    assert (code, reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
    assert client.rig.count("documents") == 0


async def test_content_in_hand_has_a_bound(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(import_stream, "IN_PROGRESS_MAX_BYTES", 3 * MIB)
    run = client.rig.wired.rpc.accept.run
    sizes: list[int] = []
    most = 0

    async def slow(draft: Any, content: bytes) -> Any:
        nonlocal most
        sizes.append(len(content))
        most = max(most, sum(sizes))
        await asyncio.sleep(0.02)
        try:
            return await run(draft, content)
        finally:
            sizes.remove(len(content))

    monkeypatch.setattr(type(client.rig.wired.rpc.accept), "run", lambda _, *given: slow(*given))
    responses = await send(client, *(document(n, bytes([65 + n]) * MIB) for n in range(12)))
    assert all(response.accepted.version == 1 for response in responses)
    assert MIB < most <= 3 * MIB


async def test_a_client_that_leaves_in_between_loses_nothing_that_was_answered(client: Client):
    call = client.stub.ImportDocuments(metadata=client.tokens.metadata(), timeout=30)
    await call.write(document(0))
    answered = await call.read()
    assert answered.accepted.version == 1
    await call.write(document(1))
    call.cancel()
    assert (await client.get(f"{NAME}-0")).version == 1
    # The server goes on; the client sends the unanswered document again.
    (again,) = await send(client, document(1))
    assert again.accepted.version == 1


async def test_each_answer_names_documents_with_the_same_bytes(client: Client):
    first = f"{NAME}-1"
    await send(client, document(1))
    twin, other = await send(
        client, document(2, b"Water finds way 1."), document(3, b"Water finds way 2.")
    )
    assert list(twin.accepted.same_content) == [first]
    assert list(other.accepted.same_content) == []
    [foreign] = await send(client, document(4, b"Water finds way 1."), tenant="globex")
    assert list(foreign.accepted.same_content) == []
