"""Large documents are sent in parts, and continue after a broken call."""

import asyncio
from dataclasses import replace
from functools import partial
from io import BytesIO

import pytest

from aquifer_cli import parts
from aquifer_cli import upload as uploading

from .loopback import Ingest, items, name, send, serving

CONTENT = bytes(range(256)) * (40 << 10)


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(uploading, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(parts, "CALL_BYTES", 4 << 20)


async def test_a_large_document_arrives_whole_over_several_calls():
    ingest = Ingest()
    async with serving(ingest) as (client, _):
        [outcome] = await send(client, items(1, CONTENT), wait=True)
    assert (outcome.state, ingest.contents) == ("INDEXED", {name(0): CONTENT})
    assert ingest.appends == [0, 4 << 20, 8 << 20]
    assert ingest.told_bytes == set()


async def test_after_a_broken_call_it_continues_where_the_service_is():
    ingest, moved = Ingest(cut_appends=2), []
    async with serving(ingest) as (client, _):
        [outcome] = await uploading.send(
            client,
            items(1, CONTENT),
            wait=False,
            on_done=lambda _: None,
            on_bytes=moved.append,
        )
    assert (outcome.state, ingest.contents[name(0)]) == ("ACCEPTED", CONTENT)
    # Never from the start again.
    assert sorted(set(ingest.appends)) == ingest.appends
    assert sum(moved) == len(CONTENT)


async def test_a_new_command_continues_what_another_began():
    ingest = Ingest()
    async with serving(ingest) as (client, _):
        call = asyncio.ensure_future(send(client, items(1, CONTENT), wait=False))
        while len(ingest.appends) < 2:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await send(client, items(1, CONTENT), wait=False)
    assert ingest.appends[2] >= 4 << 20
    assert ingest.contents[name(0)] == CONTENT


async def test_a_file_that_becomes_shorter_meanwhile_is_refused_by_name(monkeypatch):
    class Shrinking(BytesIO):
        def seek(self, *position):
            if position == (4 << 20,):
                self.truncate(4 << 20)
            return super().seek(*position)

    ingest = Ingest()
    async with serving(ingest) as (client, _):
        [item] = items(1, CONTENT)
        [outcome] = await send(
            client, [replace(item, open=partial(Shrinking, CONTENT))], wait=False
        )
    assert outcome.reason == "FILE_UNREADABLE"
    assert ingest.contents == {}
