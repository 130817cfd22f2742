"""Dead letters as operators list them, from the real broker."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ops.v1.dead_letter_service_pb2 import ListDeadLettersRequest
from aquifer.ops.v1.status_service_pb2 import GetStatusRequest
from chassis.base.errors import InvalidInputError, UnavailableError
from chassis.base.paging import Page
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Batch
from chassis.events.topology import dead_stream, dead_subject
from chassis.process.ops import DeadLetterRpc, Stage, StatusRpc
from testkit.consuming import consume_events, wait_until_settled
from testkit.servers import TestBus

CONTEXT = cast(Any, None)


@pytest.fixture
async def query(bus: TestBus) -> AsyncIterator[Bus]:
    async with bus.connect("query") as own:
        for number in range(5):
            await own.jetstream.publish(
                dead_subject("query", "ChunksEmbedded", "acme"),
                b"x",
                stream=dead_stream("query"),
                headers={
                    "ce-id": f"e{number}",
                    "Aquifer-Dead-First-Time": "2026-11-20T12:00:00+00:00",
                },
            )
        yield own


async def test_dead_letters_are_listed_page_by_page(query: Bus) -> None:
    letters = DeadLetters(query, "query")
    rpc = DeadLetterRpc(letters, [])
    await letters.discard(2)
    found: list[int] = []
    token, pages = "", 0
    while token or not pages:
        request = ListDeadLettersRequest(page_size=2, page_token=token)
        page = await rpc.ListDeadLetters(request, CONTEXT)
        found += [letter.dead_letter_id for letter in page.dead_letters]
        token, pages = page.next_page_token, pages + 1
    assert (found, pages) == ([1, 3, 4, 5], 2)


@pytest.mark.parametrize("position", ["-1", "1.5", "one", "\u0663", " 1"])
async def test_a_token_that_names_no_dead_letter_is_refused(query: Bus, position: str) -> None:
    rpc = DeadLetterRpc(DeadLetters(query, "query"), [])
    _, token = Page(size=1, after=(), bound=("", "")).cut(["", ""], lambda _: (position,))
    with pytest.raises(InvalidInputError) as refused:
        await rpc.ListDeadLetters(ListDeadLettersRequest(page_token=token), CONTEXT)
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_a_token_beyond_the_last_dead_letter_ends_the_list(query: Bus) -> None:
    rpc = DeadLetterRpc(DeadLetters(query, "query"), [])
    _, token = Page(size=1, after=(), bound=("", "")).cut(["", ""], lambda _: ("9" * 100,))
    page = await rpc.ListDeadLetters(ListDeadLettersRequest(page_token=token), CONTEXT)
    assert (list(page.dead_letters), page.next_page_token) == ([], "")


async def test_a_status_without_broker_and_database_says_what_is_wrong(bus: TestBus) -> None:
    async def no_stages() -> list[Stage]:
        raise UnavailableError("DATABASE_UNAVAILABLE", "away")

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        raise AssertionError

    async with bus.connect("query") as own, consume_events(own, handler) as settlement:
        await wait_until_settled(bus, settlement)
        wrong = ("bus does not answer", "database does not answer")
        letters = DeadLetters(own, "query")
        rpc = StatusRpc("query", "1", [settlement], letters, lambda: wrong, no_stages)
        there = await rpc.GetStatus(GetStatusRequest(), CONTEXT)
        assert there.consumers[0].HasField("pending")
        assert there.HasField("dead_letters")
    away = await rpc.GetStatus(GetStatusRequest(), CONTEXT)
    assert list(away.not_ready) == list(wrong)
    assert not away.ready
    assert not away.HasField("unfinished")
    [backlog] = away.consumers
    assert backlog.durable == "query-ChunksEmbedded"
    assert not backlog.HasField("pending")
    assert not away.HasField("dead_letters")


async def test_dead_letters_are_counted(query: Bus) -> None:
    letters = DeadLetters(query, "query")
    assert await letters.count() == 5
    await letters.discard(1)
    assert await letters.count() == 4
