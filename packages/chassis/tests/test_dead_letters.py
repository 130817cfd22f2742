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
class DeadLetterBox:
    """The dead letters of query, and the connections that create some."""

    inference: Bus
    query: Bus

    def __post_init__(self) -> None:
        self.letters = DeadLetters(self.query, "query")

    async def add(
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
async def box(bus: TestBus) -> AsyncIterator[DeadLetterBox]:
    async with bus.connect("inference") as inference, bus.connect("query") as query:
        yield DeadLetterBox(inference, query)


async def test_they_are_listed_oldest_first_and_page_by_page(box: DeadLetterBox):
    assert await box.documents() == []
    await box.add(DOCUMENT, OTHER, DOCUMENT)
    first = await box.letters.list(0, 2)
    assert [letter.document for letter in first] == [DOCUMENT, OTHER]
    rest = await box.letters.list(first[-1].dead_letter_id, 2)
    assert [letter.document for letter in rest] == [DOCUMENT]
    assert (await box.letters.get(rest[0].dead_letter_id)) == rest[0]
    assert len(await box.documents(after=-7)) == 3
    assert await box.documents(after=10**30) == []


async def test_a_discarded_one_is_unknown(box: DeadLetterBox):
    await box.add(DOCUMENT)
    [letter] = await box.letters.list(0, 10)
    await box.letters.discard(letter.dead_letter_id)
    for unknown in (letter.dead_letter_id, 0, -1, 1_000_000):
        with pytest.raises(NotFoundError) as read:
            await box.letters.get(unknown)
        with pytest.raises(NotFoundError) as removed:
            await box.letters.discard(unknown)
        assert {read.value.reason, removed.value.reason} == {"DEAD_LETTER_UNKNOWN"}


async def test_those_of_a_document_go_and_no_others(box: DeadLetterBox):
    await box.add(DOCUMENT, OTHER, DOCUMENT)
    await box.add(DOCUMENT, tenant="globex")
    assert await box.letters.discard_document("acme", DOCUMENT) == 2
    assert await box.documents() == [("acme", OTHER), ("globex", DOCUMENT)]
    assert await box.letters.discard_document("acme", DOCUMENT) == 0


async def test_two_deletes_at_once_are_no_failure(box: DeadLetterBox):
    await box.add(*[DOCUMENT] * 6)
    removed = await asyncio.gather(
        *(box.letters.discard_document("acme", DOCUMENT) for _ in range(3))
    )
    assert sum(removed) == 6
    assert await box.documents() == []


async def test_what_other_tenants_have_costs_a_delete_nothing(box: DeadLetterBox):
    await box.add(*[OTHER] * 30, tenant="globex")
    await box.add(DOCUMENT)
    before = box.query.client.stats["out_msgs"]
    assert await box.letters.discard_document("acme", DOCUMENT) == 1
    assert box.query.client.stats["out_msgs"] - before == 3


OPERATOR = Caller(
    tenant="acme",
    principal="user:ada",
    key_id="key1",
    scopes=frozenset({"operate"}),
    expires_at=float("inf"),
)
NO_CONTEXT: Any = None


async def test_a_replay_is_another_attempt_under_an_id_no_inbox_knows(box: DeadLetterBox):
    handled: list[tuple[str, int]] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        handled.extend((one.envelope.event_id, one.attempt) for one in batch)

    broker = prepare(box.query, handler)
    await box.add(DOCUMENT)
    [letter] = await box.letters.list(0, 2)
    admit(OPERATOR, "")
    rpc = DeadLetterRpc(box.letters, broker.settlements)
    request = ReplayDeadLetterRequest(dead_letter_id=letter.dead_letter_id)
    answer = await rpc.ReplayDeadLetter(request, NO_CONTEXT)
    assert handled == [(answer.event_id, letter.attempts + 1)]
    assert answer.event_id != letter.event_id
    assert await box.documents() == []


@pytest.mark.parametrize("traceparent", ["", "none", "-", "00-"])
async def test_a_trace_context_that_is_none_hides_no_dead_letter(
    box: DeadLetterBox, traceparent: str
) -> None:
    await box.add(DOCUMENT, headers={"traceparent": traceparent})
    [letter] = await box.letters.list(0, 10)
    assert letter.trace_id == ""
    assert await box.letters.discard_document("acme", DOCUMENT) == 1


async def test_what_a_producer_told_its_broker_is_not_told_again(box: DeadLetterBox) -> None:
    await box.add(DOCUMENT, headers={"Nats-Expected-Last-Sequence": "0"})
    await box.add(OTHER, headers={"Nats-Expected-Last-Sequence": "1"})
    [_, second] = await box.letters.list(0, 10)
    assert second.document == OTHER
    assert "Nats-Expected-Last-Sequence" not in second.headers


async def test_full_dead_letters_hold_up_nobody_else(box: DeadLetterBox, bus: TestBus) -> None:
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
    await box.inference.publish_all(events)
    async with consume_events(box.query, handler, groups=1) as settlement, asyncio.timeout(20):
        while not handled:
            await asyncio.sleep(0.02)
        assert settlement.pause_reason == ""
    assert len(await box.letters.list(0, 10)) == 1


async def test_an_event_that_would_be_too_large_for_a_dead_letter_is_refused(
    box: DeadLetterBox,
) -> None:
    living = [stream for stream in streams() if not stream.name.startswith("DEAD_")]
    largest = max(stream.max_msg_bytes for stream in living)
    assert box.inference.client.max_payload - largest >= 64 * 1024
    subject = f"{ChunksEmbedded.DESCRIPTOR.full_name}.acme"
    with pytest.raises(APIError) as refused:
        await box.inference.jetstream.publish(subject, bytes(largest + 1))
    assert refused.value.err_code == 10054
