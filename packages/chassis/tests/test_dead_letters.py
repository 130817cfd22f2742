"""Dead letters are found by id, in order and by document, whatever lies between them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from nats.js.errors import APIError

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from aquifer.ops.v1.dead_letter_service_pb2 import ReplayDeadLetterRequest
from chassis.base.errors import InvalidInputError, NotFoundError
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Batch
from chassis.events.envelope import encode_event
from chassis.events.topology import durable_of, streams
from chassis.identity.tokens import Caller, admit
from chassis.process.ops import DeadLetterRpc
from testkit.consuming import consume_events, prepare
from testkit.servers import TestBus

DOCUMENT = "collections/c/documents/d"
OTHER = "collections/c/documents/other"


@dataclass
class Grave:
    """The dead letters of query, and the hands to make some."""

    inference: Bus
    query: Bus

    def __post_init__(self) -> None:
        self.letters = DeadLetters(self.query, "query")

    async def dig(
        self, *documents: str, tenant: str = "acme", headers: Mapping[str, str] | None = None
    ) -> None:
        """One dead letter for each document, in this order."""
        durable = durable_of(ChunksEmbedded, "query")
        puller = await self.query.jetstream.pull_subscribe_bind(durable.name, durable.stream)
        for number, document in enumerate(documents):
            event = encode_event(
                ChunksEmbedded(tenant=tenant),
                event_id=f"{tenant}-{document}-{number}",
                document=document,
            )
            sent = {**event.headers, **(headers or {})}
            await self.inference.jetstream.publish(event.subject, event.payload, headers=sent)
            [message] = await puller.fetch(1, timeout=30)
            await self.letters.put("ChunksEmbedded", message, InvalidInputError("NO", "no"))
            await message.ack()
        await puller.unsubscribe()

    async def documents(self, after: int = 0, limit: int = 100) -> list[tuple[str, str]]:
        found = await self.letters.list(after, limit)
        return [(letter.tenant, letter.document) for letter in found]


@pytest.fixture
async def grave(bus: TestBus) -> AsyncIterator[Grave]:
    async with bus.connect("inference") as inference, bus.connect("query") as query:
        yield Grave(inference, query)


async def test_they_are_listed_oldest_first_and_page_by_page(grave: Grave):
    assert await grave.documents() == []
    await grave.dig(DOCUMENT, OTHER, DOCUMENT)
    first = await grave.letters.list(0, 2)
    assert [letter.document for letter in first] == [DOCUMENT, OTHER]
    rest = await grave.letters.list(first[-1].dead_letter_id, 2)
    assert [letter.document for letter in rest] == [DOCUMENT]
    assert (await grave.letters.get(rest[0].dead_letter_id)) == rest[0]
    assert len(await grave.documents(after=-7)) == 3
    assert await grave.documents(after=10**30) == []


async def test_a_discarded_one_is_unknown(grave: Grave):
    await grave.dig(DOCUMENT)
    [letter] = await grave.letters.list(0, 10)
    await grave.letters.discard(letter.dead_letter_id)
    for unknown in (letter.dead_letter_id, 0, -1, 1_000_000):
        with pytest.raises(NotFoundError) as read:
            await grave.letters.get(unknown)
        with pytest.raises(NotFoundError) as removed:
            await grave.letters.discard(unknown)
        assert {read.value.reason, removed.value.reason} == {"DEAD_LETTER_UNKNOWN"}


async def test_those_of_a_document_go_and_no_others(grave: Grave):
    await grave.dig(DOCUMENT, OTHER, DOCUMENT)
    await grave.dig(DOCUMENT, tenant="globex")
    assert await grave.letters.discard_document("acme", DOCUMENT) == 2
    assert await grave.documents() == [("acme", OTHER), ("globex", DOCUMENT)]
    assert await grave.letters.discard_document("acme", DOCUMENT) == 0


async def test_two_deletes_at_once_are_no_failure(grave: Grave):
    await grave.dig(*[DOCUMENT] * 6)
    removed = await asyncio.gather(
        *(grave.letters.discard_document("acme", DOCUMENT) for _ in range(3))
    )
    assert sum(removed) == 6
    assert await grave.documents() == []


async def test_what_other_tenants_have_costs_a_delete_nothing(grave: Grave):
    await grave.dig(*[OTHER] * 30, tenant="globex")
    await grave.dig(DOCUMENT)
    before = grave.query.client.stats["out_msgs"]
    assert await grave.letters.discard_document("acme", DOCUMENT) == 1
    assert grave.query.client.stats["out_msgs"] - before == 3


OPERATOR = Caller(
    tenant="acme",
    principal="user:ada",
    key_id="key1",
    scopes=frozenset({"operate"}),
    expires_at=float("inf"),
)
NO_CONTEXT: Any = None


async def test_a_replay_is_another_attempt_under_an_id_no_inbox_knows(grave: Grave):
    handled: list[tuple[str, int]] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        handled.extend((one.envelope.event_id, one.attempt) for one in batch)

    broker = prepare(grave.query, handler)
    await grave.dig(DOCUMENT)
    [letter] = await grave.letters.list(0, 2)
    admit(OPERATOR, "")
    rpc = DeadLetterRpc(grave.letters, broker.settlements)
    request = ReplayDeadLetterRequest(dead_letter_id=letter.dead_letter_id)
    answer = await rpc.ReplayDeadLetter(request, NO_CONTEXT)
    assert handled == [(answer.event_id, letter.attempts + 1)]
    assert answer.event_id != letter.event_id
    assert await grave.documents() == []


@pytest.mark.parametrize("traceparent", ["", "none", "-", "00-"])
async def test_a_trace_context_that_is_none_hides_no_dead_letter(
    grave: Grave, traceparent: str
) -> None:
    await grave.dig(DOCUMENT, headers={"traceparent": traceparent})
    [letter] = await grave.letters.list(0, 10)
    assert letter.trace_id == ""
    assert await grave.letters.discard_document("acme", DOCUMENT) == 1


async def test_what_a_producer_told_its_broker_is_not_told_again(grave: Grave) -> None:
    await grave.dig(DOCUMENT, headers={"Nats-Expected-Last-Sequence": "0"})
    await grave.dig(OTHER, headers={"Nats-Expected-Last-Sequence": "1"})
    [_, second] = await grave.letters.list(0, 10)
    assert second.document == OTHER
    assert "Nats-Expected-Last-Sequence" not in second.headers


async def test_full_dead_letters_hold_up_nobody_else(grave: Grave, bus: TestBus) -> None:
    """What finds no place waits on its own stream; the event behind it is handled."""
    async with bus.connect("provisioner") as admin:
        config = (await admin.jetstream.stream_info("DEAD_QUERY")).config
        config.max_msgs = 1
        await admin.jetstream.update_stream(config)
    handled: list[str] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        [one] = batch
        if one.event.prepared.document != OTHER:
            raise InvalidInputError("NO", "no")
        handled.append(one.event.prepared.document)

    events = [
        encode_event(
            ChunksEmbedded(tenant="acme", prepared=ChunksPrepared(document=document)),
            event_id=str(number),
        )
        for number, document in enumerate((DOCUMENT, DOCUMENT, OTHER))
    ]
    await grave.inference.publish_all(events)
    async with consume_events(grave.query, handler, groups=1) as settlement, asyncio.timeout(20):
        while not handled:
            await asyncio.sleep(0.02)
        assert settlement.pause_reason == ""
    assert len(await grave.letters.list(0, 10)) == 1


async def test_an_event_that_would_be_too_large_for_a_dead_letter_is_refused(grave: Grave) -> None:
    living = [stream for stream in streams() if not stream.name.startswith("DEAD_")]
    largest = max(stream.max_msg_bytes for stream in living)
    assert grave.inference.client.max_payload - largest >= 64 * 1024
    subject = f"{ChunksEmbedded.DESCRIPTOR.full_name}.acme"
    with pytest.raises(APIError) as refused:
        await grave.inference.jetstream.publish(subject, bytes(largest + 1))
    assert refused.value.err_code == 10054
