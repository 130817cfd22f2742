"""Checks before uploads: what is unchanged is not sent, and a check that fails costs nothing."""

import asyncio
import threading
from dataclasses import replace
from functools import partial
from io import BytesIO

import pytest
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code

from aquifer.ingest.v1.ingest_service_pb2 import CheckResult, UploadHeader
from aquifer_cli import checking
from aquifer_cli.checking import check
from aquifer_cli.sources import Item

from .loopback import FAILED, Ingest, items, name, send, serving


async def test_what_is_unchanged_is_not_sent():
    ingest = Ingest(answer_after_s=0)
    async with serving(ingest) as (client, _):
        first = await send(client, items(30), wait=True)
        assert {o.change for o in first} == {"NEW"}
        calls = ingest.calls
        again = await send(client, [*items(30), replace(items(31)[30])], wait=True)
    assert ingest.calls == calls + 1
    assert [o.change for o in again] == ["UNCHANGED"] * 30 + ["NEW"]
    assert {(o.state, o.version) for o in again} == {("INDEXED", 1)}


async def test_changed_bytes_and_failed_documents_are_sent():
    ingest = Ingest(answer_after_s=0, finals={name(1): FAILED})
    async with serving(ingest) as (client, _):
        await send(client, items(2), wait=True)
        changed, failed = await send(client, [items(1, b"other")[0], items(2)[1]], wait=True)
    assert (changed.change, changed.state) == ("CHANGED", "INDEXED")
    assert (failed.change, failed.state) == ("CHANGED", "FAILED")
    assert ingest.contents[name(0)] == b"other"


async def test_an_unchanged_document_that_is_unfinished_is_waited_for():
    ingest = Ingest(answer_after_s=0, final_after_s=None)
    async with serving(ingest) as (client, _):
        [sent] = await send(client, items(1), wait=False)
        assert sent.state == "ACCEPTED"
        asyncio.get_running_loop().call_later(0.3, ingest.finish, name(0))
        [waited] = await send(client, items(1), wait=True)
    assert (waited.change, waited.state) == ("UNCHANGED", "INDEXED")
    assert ingest.sent == 1


@pytest.mark.parametrize(
    "refused",
    [
        (Code.PERMISSION_DENIED, "SCOPE_MISSING"),
        (Code.UNIMPLEMENTED, "UNIMPLEMENTED"),
        (Code.UNAVAILABLE, "DATABASE_UNAVAILABLE"),
    ],
)
async def test_where_a_check_is_refused_everything_is_sent(refused):
    ingest = Ingest(answer_after_s=0)
    async with serving(ingest) as (client, _):
        await send(client, items(3), wait=False)
        ingest.check_refusals.append(refused)
        ingest.contents.clear()
        outcomes = await send(client, items(3), wait=False)
    assert {(o.state, o.change) for o in outcomes} == {("ACCEPTED", "")}
    assert len(ingest.contents) == 3


async def test_many_documents_are_checked_in_few_calls():
    ingest = Ingest(answer_after_s=0)
    async with serving(ingest) as (client, _):
        found = [one async for one in check(client, enumerate(items(2_500)))]
    assert [number for number, _, _ in found] == list(range(2_500))
    assert {checked.document for _, _, checked in found} == {name(n) for n in range(2_500)}
    assert ingest.checks == 3


async def test_descriptions_are_sent_in_messages_that_fit(monkeypatch):
    monkeypatch.setattr(checking, "CHECKS_MAX_BYTES", 10_000)
    sizes: list[int] = []
    ingest = Ingest()
    asked = ingest.CheckDocuments

    async def measured(request: Message, context: object) -> Message:
        sizes.append(request.ByteSize())
        return await asked(request, context)

    ingest.CheckDocuments = measured
    described = [
        Item(
            path=str(n),
            header=UploadHeader(document=name(n), title="t" * 500, metadata={"k": "v" * 500}),
            open=partial(BytesIO, b"text"),
        )
        for n in range(20)
    ]
    huge = replace(described[0], header=UploadHeader(document=name(99), title="t" * 20_000))
    async with serving(ingest) as (client, _):
        found = [one async for one in check(client, enumerate([*described, huge]))]
    assert [checked.document for _, _, checked in found] == [i.header.document for _, i, _ in found]
    assert max(sizes[:-1]) < 11_000
    assert len(sizes) >= 3


async def test_what_cannot_be_read_or_is_skipped_is_not_checked(tmp_path):
    unread = Item(path="x", header=UploadHeader(document=name(1)), open=(tmp_path / "no").open)
    skipped = replace(items(1)[0], skipped="ID_REPEATED")
    async with serving(Ingest()) as (client, _):
        found = [c async for _, _, c in check(client, enumerate([unread, skipped, items(3)[2]]))]
    assert [error.reason for error in found[:2]] == ["FILE_UNREADABLE", "ID_REPEATED"]
    assert found[2].result == CheckResult.CHECK_RESULT_NEW


async def test_reading_ends_soon_after_it_is_cancelled():
    reading, ended = threading.Event(), threading.Event()

    class Endless(BytesIO):
        def read(self, size=-1):
            reading.set()
            return b"x" * size

        def close(self):
            ended.set()
            super().close()

    endless = Item(path="x", header=UploadHeader(document=name(1)), open=Endless)
    async with serving(Ingest()) as (client, _):
        task = asyncio.create_task(send(client, [endless], wait=False))
        await asyncio.to_thread(reading.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await asyncio.to_thread(ended.wait, 10)
