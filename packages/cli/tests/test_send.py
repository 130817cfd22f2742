"""Sending documents: what is sent again, what is refused, and what is shown."""

import asyncio

import pytest
from google.rpc.code_pb2 import Code

from aquifer.ingest.v1.ingest_service_pb2 import UploadHeader
from aquifer_cli import sending
from aquifer_cli import upload as uploading
from aquifer_cli.errors import EXIT_FAILED, CommandError
from aquifer_cli.screen import Screen
from aquifer_cli.sending import advise, count_same_content, exit_code
from aquifer_cli.sources import Item

from .loopback import Ingest, items, name, send, serving


def quick(monkeypatch, **seconds):
    for constant, value in {"RETRY_FIRST_S": 0.01, **seconds}.items():
        monkeypatch.setattr(uploading, constant, value)


async def test_content_arrives_whole_and_outcomes_in_order():
    ingest = Ingest()
    content = bytes(range(256)) * 4000
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(40, content), wait=False)
    assert [o.document for o in outcomes] == [name(n) for n in range(40)]
    assert {o.state for o in outcomes} == {"ACCEPTED"}
    assert set(ingest.contents.values()) == {content}
    assert ingest.told_bytes == {len(content)}
    assert ingest.open_most <= uploading.ALONE_SIDE_BY_SIDE
    assert ingest.calls == 0


async def test_small_documents_share_one_call():
    ingest = Ingest(answer_after_s=0)
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(300), wait=True)
    assert [o.document for o in outcomes] == [name(n) for n in range(300)]
    assert {o.state for o in outcomes} == {"INDEXED"}
    assert (ingest.calls, ingest.open_most) == (1, 0)


async def test_a_shared_call_that_is_cut_loses_nothing(monkeypatch):
    quick(monkeypatch)
    ingest = Ingest(answer_after_s=0, cut_calls=3)
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(50), wait=False)
    assert {o.state for o in outcomes} == {"ACCEPTED"}
    assert len(ingest.contents) == 50
    assert ingest.calls == 4


async def test_one_refused_document_of_a_shared_call_stops_no_other():
    ingest = Ingest(answer_after_s=0, refusals=[(Code.INVALID_ARGUMENT, "EMPTY_DOCUMENT")])
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(20), wait=False)
    assert sorted(o.state for o in outcomes) == ["ACCEPTED"] * 19 + ["REFUSED"]


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
            client, items(1), wait=False, on_done=lambda _: None, on_wait=waits.append
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


async def test_what_is_refused_for_too_long_was_not_sent(monkeypatch):
    quick(monkeypatch, PATIENCE_S=0.1)
    ingest = Ingest(refusals=[(Code.RESOURCE_EXHAUSTED, "BACKLOG_FULL")] * 1000)
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(40), wait=False)
    assert {(o.state, o.reason) for o in outcomes} == {("NOT_SENT", "BACKLOG_FULL")}
    assert exit_code(outcomes) == EXIT_FAILED


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("count", [4, uploading.FEW + 1])
async def test_documents_with_the_content_of_others_are_counted_and_named(count, wait):
    twins = {name(1): [name(8), name(9)], name(2): [name(7)]}
    ingest = Ingest(same_content=twins)
    async with serving(ingest) as (client, _):
        outcomes = await send(client, items(count), wait=wait)
        again = await send(client, items(count), wait=wait)
    named = {o.document: same for o in outcomes if (same := o.as_json()["same_content"])}
    assert (len(outcomes), named) == (count, twins)
    # Nothing was sent; the check tells the first one.
    assert {o.document: list(o.same_content) for o in again if o.same_content} == {
        name(1): [name(8)],
        name(2): [name(7)],
    }
    told = "2 documents have the content of others; --json names them"
    assert count_same_content(outcomes) == told
    assert count_same_content(outcomes[:2]).startswith("1 document has the content of others")
    assert count_same_content(outcomes[:1]) == ""


def test_what_comes_next_is_told_as_far_as_it_is_true():
    accepted = uploading.Outcome(path="a", document=name(1), state="ACCEPTED")
    unsent = uploading.Outcome(path="b", document=name(2), state="NOT_SENT")
    assert "continue" not in advise([unsent], unsent=True)
    assert "sends the rest" in advise([accepted, unsent], unsent=True)
    assert advise([accepted], unsent=False).startswith(
        "accepted documents continue by themselves while"
    )
    assert advise([], unsent=False) == ""


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


async def test_a_reader_that_goes_away_ends_it_as_what_it_is():
    def done(_):
        raise BrokenPipeError

    async with serving(Ingest()) as (client, _):
        with pytest.raises(BrokenPipeError):
            await uploading.send(client, items(20), wait=False, on_done=done)


async def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(sending, "REPEAT_S", 0.1)
    screen = Screen(machine=False)
    for unchanged_s, most in ((0.2, 3), (60.0, 1)):
        monkeypatch.setattr(sending, "REPEAT_UNCHANGED_S", unchanged_s)
        sent = [2]

        def describe() -> str:
            return f"{sent[-1]} of 3 documents"  # noqa: B023

        async with sending.repeat_progress(screen, describe):
            await asyncio.sleep(0.65)
            sent.append(3)
            await asyncio.sleep(0.3)
        said = capsys.readouterr().err.splitlines()
        assert min(2, most) <= said.count("2 of 3 documents") <= most
        assert "3 of 3 documents" in said
