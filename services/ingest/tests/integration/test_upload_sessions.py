"""Uploads in several calls over a real connection, which breaks."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from ingest.usecases.uploads.admission import Limits
from services.ingest.tests.conftest import NAME

from .doors import Client, refusal

# The rig takes up to 1 MiB.
CONTENT = random.Random(2).randbytes(1 << 20)
PIECE = 128 << 10


async def start(client: Client, content: bytes = CONTENT) -> pb.UploadSession:
    header = pb.UploadHeader(document=NAME, size_bytes=len(content), title="Random")
    digest = hashlib.sha256(content).hexdigest()
    return await client.call("StartUpload", pb.StartUploadRequest(header=header, sha256=digest))


@pytest.mark.parametrize("method", ["StartUpload", "FinishUpload"])
async def test_a_full_backlog_says_when_to_come_again(client: Client, method: str):
    session = await start(client)
    await append(client, position(session.upload_id, 0), *pieces(CONTENT))
    client.rig.wired.rpc.accept.admission.limits = Limits(documents=1, size_bytes=1 << 30)
    await client.send(b"Another document.", document=f"{NAME}-other")
    if method == "StartUpload":
        call = start(client)
    else:
        call = client.call(method, pb.FinishUploadRequest(upload_id=session.upload_id))
    code, found, details = await refusal(call)
    assert (code, found) == ("RESOURCE_EXHAUSTED", "BACKLOG_FULL")
    assert details["RetryInfo"].retry_delay.seconds == 5


async def test_the_limit_of_unfinished_uploads_says_when_to_come_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    rpc = client.rig.wired.rpc
    monkeypatch.setitem(vars(rpc), "start_upload", replace(rpc.start_upload, sessions_max=1))
    await start(client)
    code, found, details = await refusal(start(client, b"Other bytes."))
    assert (code, found) == ("RESOURCE_EXHAUSTED", "UPLOADS_FULL")
    assert details["RetryInfo"].retry_delay.seconds == 60


def position(upload_id: str, offset: int) -> pb.AppendUploadRequest:
    return pb.AppendUploadRequest(position=pb.UploadPosition(upload_id=upload_id, offset=offset))


def pieces(content: bytes) -> list[pb.AppendUploadRequest]:
    return [
        pb.AppendUploadRequest(content=content[start : start + PIECE])
        for start in range(0, len(content), PIECE)
    ]


async def append(client: Client, *parts: pb.AppendUploadRequest) -> pb.UploadSession:
    async def stream() -> AsyncIterator[pb.AppendUploadRequest]:
        for part in parts:
            yield part

    return await client.stub.AppendUpload(stream(), metadata=client.tokens.metadata(), timeout=20)


async def reason(call: Any) -> tuple[str, ErrorInfo]:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    status, info = rpc_status.from_call(failed.value), ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    return failed.value.code().name, info


async def test_an_upload_is_started_appended_to_and_finished(client: Client):
    session = await start(client)
    assert (session.document, session.size_bytes, session.offset) == (NAME, 1 << 20, 0)
    assert session.expire_time.seconds > 0
    half = len(CONTENT) // 2
    session = await append(client, position(session.upload_id, 0), *pieces(CONTENT[:half]))
    assert session.offset == half
    found = await client.call("GetUpload", pb.GetUploadRequest(upload_id=session.upload_id))
    assert found.offset == half
    await append(client, position(session.upload_id, half), *pieces(CONTENT[half:]))
    finish = pb.FinishUploadRequest(upload_id=session.upload_id)
    document = await client.call("FinishUpload", finish)
    assert (document.name, document.version, document.title) == (NAME, 1, "Random")
    assert document.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert await client.call("FinishUpload", finish) == document
    assert list(document.same_content) == []
    await client.rig.upload(CONTENT, name=f"{NAME}-b")
    same = (await client.call("FinishUpload", finish)).same_content
    assert list(same) == [f"{NAME}-b"]


@pytest.mark.parametrize("sent", [1, 4, 7])
async def test_a_call_that_is_cut_off_is_continued_where_it_ended(client: Client, sent: int):
    session = await start(client)
    received = sent * PIECE

    async def stream() -> AsyncIterator[pb.AppendUploadRequest]:
        yield position(session.upload_id, 0)
        for part in pieces(CONTENT[:received]):
            yield part
        await asyncio.sleep(60)

    call = client.stub.AppendUpload(stream(), metadata=client.tokens.metadata())
    await asyncio.sleep(0.5)
    call.cancel()
    request = pb.GetUploadRequest(upload_id=session.upload_id)
    async with asyncio.timeout(20):
        while (session := await client.call("GetUpload", request)).offset < received:
            await asyncio.sleep(0.05)
    await append(client, position(session.upload_id, received), *pieces(CONTENT[received:]))
    finish = pb.FinishUploadRequest(upload_id=session.upload_id)
    assert (await client.call("FinishUpload", finish)).version == 1


async def test_the_right_offset_is_in_the_error(client: Client):
    session = await start(client)
    code, info = await reason(append(client, position(session.upload_id, 5), *pieces(CONTENT)))
    assert (code, info.reason, info.metadata["offset"]) == ("ABORTED", "UPLOAD_OFFSET", "0")


async def test_messages_out_of_order_are_refused(client: Client):
    session = await start(client)
    first, content = position(session.upload_id, 0), pieces(CONTENT)[0]
    large = pb.AppendUploadRequest(content=b"x" * ((1 << 20) + 1))
    for parts in ([], [content], [first, first], [first, pb.AppendUploadRequest()], [first, large]):
        code, info = await reason(append(client, *parts))
        assert (code, info.reason) == ("INVALID_ARGUMENT", "UPLOAD_ORDER")


async def test_an_unfinished_upload_cannot_be_finished(client: Client):
    session = await start(client)
    finish = pb.FinishUploadRequest(upload_id=session.upload_id)
    code, info = await reason(client.call("FinishUpload", finish))
    assert (code, info.reason, info.metadata["offset"]) == (
        "INVALID_ARGUMENT",
        "SIZE_MISMATCH",
        "0",
    )


async def test_without_the_scope_nothing_is_started(client: Client):
    header = pb.UploadHeader(document=NAME, size_bytes=1)
    request = pb.StartUploadRequest(header=header, sha256="0" * 64)
    call = client.call("StartUpload", request, scope="documents.read")
    assert (await reason(call))[1].reason == "SCOPE_MISSING"
