"""Waiting for documents by one stream of changes, however often it breaks."""

import asyncio

import pytest
from google.rpc.code_pb2 import Code

from aquifer_cli import upload as uploading
from aquifer_cli import waiting
from aquifer_cli.errors import EXIT_UNAVAILABLE
from aquifer_cli.sending import exit_code

from .loopback import FAILED, Ingest, items, name, send, serving


def quick(monkeypatch, **seconds):
    for module in (uploading, waiting):
        for constant, value in {"RETRY_FIRST_S": 0.01, **seconds}.items():
            if hasattr(module, constant):
                monkeypatch.setattr(module, constant, value)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("count", [3, waiting.FEW + 20])
async def test_documents_are_followed_to_their_end_and_none_is_asked_for(count):
    ingest = Ingest(finals={name(1): FAILED})
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(count), wait=True)
    assert [o.state for o in outcomes].count("INDEXED") == count - 1
    assert (outcomes[1].state, outcomes[1].reason, outcomes[1].failed) == (
        "FAILED",
        "NO_TEXT",
        True,
    )
    assert (ingest.watches, ingest.read, ingest.listed) == (1, [], 0)


async def test_a_document_that_is_final_before_its_upload_is_answered_is_not_missed():
    ingest = Ingest(final_after_s=0, answer_after_s=0.2)
    async with serving(ingest) as (client, _):
        outcomes = await asyncio.wait_for(send(client, items(20), wait=True), 30)
    assert {o.state for o in outcomes} == {"INDEXED"}
    assert ingest.read == []


@pytest.mark.parametrize("count", [4, waiting.FEW + 20])
async def test_what_ended_while_the_stream_was_broken_is_read(monkeypatch, count):
    quick(monkeypatch, RETRY_FIRST_S=0.3)
    ingest = Ingest(final_after_s=None)
    async with serving(ingest) as (client, _):
        sending = asyncio.ensure_future(send(client, items(count), wait=True))
        await until(lambda: len(ingest.contents) == count)
        ingest.finish(name(0))
        ingest.cut()
        await until(lambda: not ingest.followers)
        for number in range(1, count - 1):
            ingest.finish(name(number))
        await until(lambda: ingest.followers)
        ingest.finish(name(count - 1))
        outcomes = await asyncio.wait_for(sending, 30)
    assert {o.state for o in outcomes} == {"INDEXED"}
    assert ingest.watches == 2
    assert bool(ingest.listed) is (count > waiting.FEW)


async def test_a_service_that_has_too_many_watchers_is_asked_again(monkeypatch):
    quick(monkeypatch)
    ingest = Ingest(watch_refusals=[(Code.RESOURCE_EXHAUSTED, "WATCHERS_FULL")] * 2)
    async with serving(ingest) as (client, _):
        outcomes = await asyncio.wait_for(send(client, items(3), wait=True), 30)
    assert {o.state for o in outcomes} == {"INDEXED"}
    assert ingest.watches == 3


async def test_a_stream_that_has_had_its_time_is_opened_again(monkeypatch):
    quick(monkeypatch, STREAM_S=0.2)
    ingest, waits = Ingest(final_after_s=0.7), []
    async with serving(ingest) as (client, _):
        [outcome] = await uploading.send(
            client, items(1), wait=True, on_done=lambda _: None, on_wait=waits.append
        )
    assert outcome.state == "INDEXED"
    assert ingest.watches >= 3
    assert "DEADLINE_EXCEEDED" not in waits


async def test_a_service_that_stays_away_ends_it_for_all(monkeypatch):
    quick(monkeypatch, PATIENCE_S=0.5)
    ingest = Ingest(final_after_s=None)
    async with serving(ingest) as (client, server):
        sending = asyncio.ensure_future(send(client, items(200), wait=True))
        await until(lambda: len(ingest.contents) > uploading.SIDE_BY_SIDE)
        await server.stop(0)
        outcomes = await asyncio.wait_for(sending, 60)
    assert {o.reason for o in outcomes} <= {"UNAVAILABLE", "SHUTTING_DOWN"}
    assert {o.state for o in outcomes} == {"ACCEPTED", "NOT_SENT"}
    assert all(o.failed and o.unreachable for o in outcomes)
    assert exit_code(outcomes) == EXIT_UNAVAILABLE


async def test_a_key_revoked_while_following_is_told_for_each(monkeypatch):
    quick(monkeypatch)
    ingest = Ingest(final_after_s=None)
    async with serving(ingest) as (client, _):
        sending = asyncio.ensure_future(send(client, items(3), wait=True))
        await until(lambda: len(ingest.contents) == 3)
        ingest.watch_refusals += [(Code.UNAUTHENTICATED, "KEY_REVOKED")]
        ingest.cut()
        outcomes = await asyncio.wait_for(sending, 30)
    assert {(o.state, o.reason) for o in outcomes} == {("ACCEPTED", "KEY_REVOKED")}


async def test_waiting_ends_when_nothing_moves(monkeypatch):
    quick(monkeypatch, WAIT_S=0.3)
    async with serving(Ingest(final_after_s=None)) as (client, _):
        outcomes = await asyncio.wait_for(send(client, items(2), wait=True), 60)
    assert {(o.state, o.reason, o.failed) for o in outcomes} == {("ACCEPTED", "WAIT_EXPIRED", True)}


async def test_an_interrupt_ends_every_task():
    ingest = Ingest(final_after_s=None)
    async with serving(ingest) as (client, _):
        before = asyncio.all_tasks()
        sending = asyncio.ensure_future(send(client, items(50), wait=True))
        await until(lambda: len(ingest.contents) == 50)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.sleep(0)
        left = {t for t in asyncio.all_tasks() - before if "aquifer_cli" in repr(t.get_coro())}
    assert left == set()
