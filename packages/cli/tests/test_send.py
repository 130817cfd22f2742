"""Sending and following, against a server on loopback that refuses, fails and is slow on demand."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from aquifer.auth.v1.auth_service_pb2 import ExchangeTokenResponse
from aquifer.auth.v1.auth_service_pb2_grpc import (
    AuthServiceServicer,
    add_AuthServiceServicer_to_server,
)
from aquifer.ingest.v1.document_pb2 import Document, DocumentState
from aquifer.ingest.v1.ingest_service_pb2 import ListDocumentsResponse, UploadHeader
from aquifer.ingest.v1.ingest_service_pb2_grpc import (
    IngestServiceServicer,
    add_IngestServiceServicer_to_server,
)
from aquifer.services import NAMES
from aquifer_cli import upload as uploading
from aquifer_cli.client import open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, CommandError
from aquifer_cli.sending import exit_code, what_next
from aquifer_cli.sources import Item

ACCEPTED = DocumentState.DOCUMENT_STATE_ACCEPTED
PREPARED = DocumentState.DOCUMENT_STATE_PREPARED
INDEXED = DocumentState.DOCUMENT_STATE_INDEXED
FAILED = DocumentState.DOCUMENT_STATE_FAILED


async def refuse(context, code, reason):
    detail = Any()
    detail.Pack(ErrorInfo(reason=reason))
    status = Status(code=code, message=f"because of {reason}", details=[detail])
    await context.abort_with_status(rpc_status.to_status(status))


class Auth(AuthServiceServicer):
    async def ExchangeToken(self, request, context):
        if request.api_key != "right":
            await refuse(context, Code.UNAUTHENTICATED, "KEY_INVALID")
        answer = ExchangeTokenResponse(access_token="token")
        answer.expire_time.GetCurrentTime()
        answer.expire_time.seconds += 600
        return answer


@dataclass
class Ingest(IngestServiceServicer):
    """Keeps uploads in memory; a document is final after it was looked at `looks` times."""

    refusals: list[tuple[int, str]] = field(default_factory=list)
    finals: dict[str, int] = field(default_factory=dict)
    looks: int = 1
    contents: dict[str, bytes] = field(default_factory=dict)
    told_bytes: set[int] = field(default_factory=set)
    looked: dict[str, int] = field(default_factory=dict)
    open_now: int = 0
    open_most: int = 0

    async def UploadDocument(self, request_iterator, context):
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            parts = aiter(request_iterator)
            header = (await anext(parts)).header
            content = b"".join([part.content async for part in parts])
            await asyncio.sleep(0.01)
            if self.refusals:
                await refuse(context, *self.refusals.pop(0))
            self.contents[header.document] = content
            self.told_bytes.add(header.size_bytes)
            return Document(name=header.document, version=1, state=ACCEPTED)
        finally:
            self.open_now -= 1

    async def GetDocument(self, request, context):
        if self.refusals:
            await refuse(context, *self.refusals.pop(0))
        self.looked[request.name] = self.looked.get(request.name, 0) + 1
        return self.document(request.name)

    async def ListDocuments(self, request, context):
        for name in self.contents:
            self.looked[name] = self.looked.get(name, 0) + 1
        documents = [self.document(name) for name in self.contents]
        return ListDocumentsResponse(documents=[d for d in documents if d.state == request.state])

    def document(self, name):
        state = self.finals.get(name, INDEXED) if self.looked[name] > self.looks else PREPARED
        reason = "NO_TEXT" if state == FAILED else ""
        return Document(name=name, version=1, state=state, reason=reason)


@asynccontextmanager
async def serving(ingest, api_key="right"):
    server = grpc.aio.server()
    add_AuthServiceServicer_to_server(Auth(), server)
    add_IngestServiceServicer_to_server(ingest, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    endpoints = Endpoints(
        services=dict.fromkeys(NAMES, address),
        traces="",
        tenant="default",
        api_key=api_key,
    )
    try:
        async with open_client(endpoints) as client:
            yield client, server
    finally:
        await server.stop(0)


def name(number):
    return f"collections/c/documents/{number}"


def items(count, content=b"text"):
    return [
        Item(
            path=f"file:{number}",
            header=UploadHeader(document=name(number)),
            open=partial(BytesIO, content),
        )
        for number in range(count)
    ]


def quick(monkeypatch, **seconds):
    for constant, value in {"RETRY_FIRST_S": 0.01, "LOOK_FIRST_S": 0.01, **seconds}.items():
        monkeypatch.setattr(uploading, constant, value)


async def send(client, sent, *, wait):
    heard = []
    outcomes = await uploading.send(client, sent, wait=wait, done=heard.append)
    assert sorted(o.path for o in heard) == sorted(o.path for o in outcomes)
    return outcomes


async def test_content_arrives_whole_and_outcomes_in_order():
    ingest = Ingest()
    content = bytes(range(256)) * 4000
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(40, content), wait=False)
    assert [o.document for o in outcomes] == [name(n) for n in range(40)]
    assert {o.state for o in outcomes} == {"ACCEPTED"}
    assert set(ingest.contents.values()) == {content}
    assert ingest.told_bytes == {len(content)}
    assert ingest.open_most <= uploading.SIDE_BY_SIDE


@pytest.mark.parametrize("count", [3, uploading.FEW + 20])
async def test_each_document_is_followed_to_its_end(monkeypatch, count):
    quick(monkeypatch)
    ingest = Ingest(finals={name(1): FAILED}, looks=3)
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(count), wait=True)
    assert [o.state for o in outcomes].count("INDEXED") == count - 1
    assert (outcomes[1].state, outcomes[1].reason, outcomes[1].failed) == (
        "FAILED",
        "NO_TEXT",
        True,
    )


async def test_what_is_refused_for_the_moment_is_sent_again(monkeypatch):
    quick(monkeypatch)
    reasons = [
        (Code.RESOURCE_EXHAUSTED, "BACKLOG_FULL"),
        (Code.UNAVAILABLE, "DATABASE_UNAVAILABLE"),
        (Code.RESOURCE_EXHAUSTED, "CALLS_OPEN"),
    ]
    waits = []
    async with serving(Ingest(refusals=list(reasons))) as (client, _):
        [outcome] = await uploading.send(
            client, items(1), wait=False, done=lambda _: None, waits=waits.append
        )
    assert outcome.state == "ACCEPTED"
    assert waits == [reason for _, reason in reasons] + [""]


async def test_what_is_refused_for_good_is_not_sent_again():
    ingest = Ingest(refusals=[(Code.INVALID_ARGUMENT, "METADATA_RANGE")])
    async with serving(ingest) as (client, _):
        first, second = await send(client, items(2), wait=False)
    refused = next(o for o in (first, second) if o.failed)
    assert (refused.state, refused.reason) == ("REFUSED", "METADATA_RANGE")
    assert len(ingest.contents) == 1


async def test_a_service_that_stays_away_ends_it_for_all(monkeypatch):
    quick(monkeypatch, PATIENCE_S=0.5)
    ingest = Ingest(looks=10**6)
    async with serving(ingest) as (client, server):
        sending = asyncio.ensure_future(send(client, items(200), wait=True))
        while len(ingest.contents) <= uploading.SIDE_BY_SIDE:  # else none might have been answered
            await asyncio.sleep(0.01)
        await server.stop(0)
        outcomes = await asyncio.wait_for(sending, 60)
    assert {o.reason for o in outcomes} == {"UNAVAILABLE"}
    assert {o.state for o in outcomes} == {"ACCEPTED", "NOT_SENT"}
    assert all(o.failed and o.unreachable for o in outcomes)
    assert exit_code(outcomes) == EXIT_UNAVAILABLE


async def test_what_is_refused_for_too_long_was_not_sent(monkeypatch):
    quick(monkeypatch, PATIENCE_S=0.1)
    ingest = Ingest(refusals=[(Code.RESOURCE_EXHAUSTED, "BACKLOG_FULL")] * 1000)
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(40), wait=False)
    assert {(o.state, o.reason) for o in outcomes} == {("NOT_SENT", "BACKLOG_FULL")}
    assert exit_code(outcomes) == EXIT_FAILED


def test_what_comes_next_is_told_as_far_as_it_is_true():
    accepted = uploading.Outcome(path="a", document=name(1), state="ACCEPTED")
    unsent = uploading.Outcome(path="b", document=name(2), state="NOT_SENT")
    assert "goes on" not in what_next([unsent], unsent=True)
    assert "sends the rest" in what_next([accepted, unsent], unsent=True)
    assert what_next([accepted], unsent=False).startswith(
        "what is ACCEPTED goes on by itself while"
    )
    assert what_next([], unsent=False) == ""


async def test_a_short_absence_while_following_is_survived(monkeypatch):
    quick(monkeypatch)
    ingest = Ingest(looks=2)
    async with serving(ingest) as (client, _):
        sending = asyncio.ensure_future(send(client, items(1), wait=True))
        while not ingest.contents:
            await asyncio.sleep(0.001)
        ingest.refusals += [(Code.UNAVAILABLE, "DATABASE_UNAVAILABLE")] * 3
        [outcome] = await sending
    assert outcome.state == "INDEXED"


async def test_a_key_revoked_while_following_is_told_for_each(monkeypatch):
    quick(monkeypatch)
    ingest = Ingest(looks=10**6)
    async with serving(ingest) as (client, _):
        sending = asyncio.ensure_future(send(client, items(3), wait=True))
        while len(ingest.contents) < 3:
            await asyncio.sleep(0.001)
        ingest.refusals += [(Code.UNAUTHENTICATED, "KEY_REVOKED")] * 100
        outcomes = await sending
    assert {(o.state, o.reason) for o in outcomes} == {("ACCEPTED", "KEY_REVOKED")}


async def test_waiting_ends_when_nothing_moves(monkeypatch):
    quick(monkeypatch, WAIT_S=0.3)
    async with serving(Ingest(looks=10**6)) as (client, _):
        outcomes = await asyncio.wait_for(send(client, items(2), wait=True), 60)
    assert {(o.state, o.reason, o.failed) for o in outcomes} == {("ACCEPTED", "WAIT_EXPIRED", True)}


async def test_a_file_that_can_not_be_read_stops_no_other(tmp_path):
    bad = Item(
        path="gone",
        header=UploadHeader(document=name("gone")),
        open=(tmp_path / "gone").open,
    )
    async with serving(Ingest()) as (client, _):
        outcomes = await send(client, [bad, *items(2)], wait=False)
    assert [o.reason for o in outcomes] == ["FILE_UNREADABLE", "", ""]


async def test_a_wrong_key_sends_nothing():
    ingest = Ingest()
    async with serving(ingest, api_key="wrong") as (client, _):
        with pytest.raises(CommandError) as refusal:
            await send(client, items(5), wait=True)
    assert refusal.value.reason == "KEY_INVALID"
    assert ingest.contents == {}


async def test_an_interrupt_ends_every_task(monkeypatch):
    quick(monkeypatch)
    async with serving(Ingest(looks=10**6)) as (client, _):
        before = asyncio.all_tasks()
        sending = asyncio.ensure_future(send(client, items(50), wait=True))
        await asyncio.sleep(0.2)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.sleep(0)
        left = {t for t in asyncio.all_tasks() - before if "aquifer_cli" in repr(t.get_coro())}
    assert left == set()


async def test_a_reader_that_goes_away_ends_it_as_what_it_is():
    def done(_):
        raise BrokenPipeError

    async with serving(Ingest()) as (client, _):
        with pytest.raises(BrokenPipeError):
            await uploading.send(client, items(20), wait=False, done=done)
