"""Dead letters are found by id, in order and by document, whatever lies between them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from nats.js.errors import APIError

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from aquifer.ops.v1.dead_letter_service_pb2 import (
    ListDeadLettersRequest,
    ReplayDeadLetterRequest,
)
from chassis.base.errors import InvalidInputError, NotFoundError
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Batch
from chassis.events.envelope import encode_event
from chassis.events.settlement import Settlement
from chassis.events.topology import ACK_WAIT_S, MAX_ACK_PENDING, durable_of, streams
from chassis.identity.tokens import Caller, admit
from chassis.process.ops import DeadLetterRpc
from testkit.consuming import consume_events, is_settled, prepare
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
        self,
        *documents: str,
        tenant: str = "acme",
        reason: str = "NO",
        headers: Mapping[str, str] | None = None,
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
            await self.letters.put("ChunksEmbedded", message, InvalidInputError(reason, "no"))
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
    read = await box.letters.get(rest[0].dead_letter_id)
    assert read.payload
    assert replace(read, payload=b"", headers={}) == rest[0]
    assert not [name for name in read.headers if name.lower().startswith(("nats-", "aquifer-"))]
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


async def test_those_of_a_tenant_go_and_no_others(box: DeadLetterBox):
    await box.add(DOCUMENT, OTHER, DOCUMENT)
    await box.add(DOCUMENT, tenant="globex")
    assert await box.letters.discard_tenant("acme") == 3
    assert await box.documents() == [("globex", DOCUMENT)]
    assert await box.letters.discard_tenant("acme") == 0


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
    [_, listed] = await box.letters.list(0, 10)
    second = await box.letters.get(listed.dead_letter_id)
    assert second.document == OTHER
    assert "Nats-Expected-Last-Sequence" not in second.headers


async def limit_dead_letters(bus: TestBus, **limits: int) -> None:
    """Sets how many dead letters query may have."""
    async with bus.connect("provisioner") as admin:
        config = (await admin.jetstream.stream_info("DEAD_QUERY")).config
        for name, value in limits.items():
            setattr(config, name, value)
        await admin.jetstream.update_stream(config)


async def publish_chunks(box: DeadLetterBox, *documents: str) -> None:
    events = [
        encode_event(
            ChunksEmbedded(tenant="acme", prepared=ChunksPrepared(document=document)),
            event_id=str(number),
        )
        for number, document in enumerate(documents)
    ]
    for start in range(0, len(events), 100):
        await box.inference.publish_all(events[start : start + 100], packed=False)


@dataclass
class Picky:
    """A handler that can handle only one document."""

    handled: int = 0

    async def __call__(self, batch: Batch[ChunksEmbedded]) -> None:
        [one] = batch
        if one.event.prepared.document != OTHER:
            raise InvalidInputError("NO", "no")
        self.handled += 1


async def wait_until(condition: Callable[[], object], limit_s: float = 30) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.02)


async def discard_until_settled(
    box: DeadLetterBox, bus: TestBus, settlement: Settlement[Any]
) -> list[int]:
    """Discards dead letters as an operator does, until no event is left; returns the attempts."""
    attempts: list[int] = []
    async with asyncio.timeout(60), bus.connect("provisioner") as admin:
        while True:
            letters = await box.letters.list(0, 1_000)
            for letter in letters:
                await box.letters.discard(letter.dead_letter_id)
                attempts.append(letter.attempts)
            if not letters and await is_settled(admin, settlement.bound):
                return attempts
            await asyncio.sleep(0.1)


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for room more often than every 3 s."""
    monkeypatch.setattr("chassis.events.settlement.KEEP_ALIVE_S", 0.2)


@pytest.mark.parametrize("limits", [{"max_msgs": 1}, {"max_bytes": 8_000}])
@pytest.mark.usefixtures("_often")
async def test_full_dead_letters_hold_up_nobody_and_lose_nothing(
    box: DeadLetterBox, bus: TestBus, limits: dict[str, int]
) -> None:
    """What finds no place waits in its stream; the event behind it is handled."""
    await limit_dead_letters(bus, **limits)
    picky = Picky()
    await publish_chunks(box, *[DOCUMENT] * 20, OTHER)
    async with consume_events(box.query, picky.__call__, groups=1) as settlement:
        await wait_until(lambda: picky.handled)
        assert settlement.pause_reason == ""
        assert len(await box.letters.list(0, 100)) < 20
        # Longer than the deadline of an acknowledgement: it is extended.
        await asyncio.sleep(ACK_WAIT_S + 1)
        attempts = await discard_until_settled(box, bus, settlement)
    assert len(attempts) == 20
    # Waiting cost no delivery: an event that is delivered too often is lost.
    assert max(attempts) <= 6
    assert picky.handled == 1


@pytest.mark.usefixtures("_often")
async def test_a_consumer_that_full_dead_letters_stopped_goes_on_when_there_is_room(
    box: DeadLetterBox, bus: TestBus
) -> None:
    """So many wait that the broker delivers no others; the status says why."""
    await limit_dead_letters(bus, max_msgs=1)
    picky = Picky()
    await publish_chunks(box, *[DOCUMENT] * (MAX_ACK_PENDING + 1), OTHER)
    async with consume_events(box.query, picky.__call__, groups=8) as settlement:
        await wait_until(lambda: settlement.pause_reason == "DEAD_LETTERS_FULL", 60)
        assert not picky.handled
        await limit_dead_letters(bus, max_msgs=-1)
        await wait_until(lambda: picky.handled)
        attempts = await discard_until_settled(box, bus, settlement)
    assert settlement.pause_reason == ""
    assert len(attempts) == MAX_ACK_PENDING + 1


@pytest.mark.usefixtures("_often")
async def test_an_event_that_waited_for_room_goes_on_in_the_next_process(
    box: DeadLetterBox, bus: TestBus
) -> None:
    await limit_dead_letters(bus, max_msgs=1)
    await publish_chunks(box, DOCUMENT, DOCUMENT, OTHER)
    picky = Picky()
    async with consume_events(box.query, picky.__call__, groups=1):
        await wait_until(lambda: picky.handled)
    async with consume_events(box.query, picky.__call__, groups=1) as settlement:
        assert len(await discard_until_settled(box, bus, settlement)) == 2


async def test_a_list_can_be_limited_to_a_tenant_and_a_reason(box: DeadLetterBox) -> None:
    await box.add(DOCUMENT, OTHER)
    await box.add(DOCUMENT, tenant="globex", reason="OTHER_REASON")

    async def count(**which: str) -> int:
        return len(await box.letters.list(0, 10, **which))

    assert await count(tenant="acme") == 2
    assert await count(tenant="globex", reason="OTHER_REASON") == 1
    assert await count(tenant="globex", reason="NO") == 0
    assert await count(reason="NO") == 2
    assert await count(tenant="nobody") == 0


async def test_a_filter_that_matches_few_ends_a_page_early(
    box: DeadLetterBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.events.dead_letters.SCAN_MAX", 2)
    await box.add(DOCUMENT, DOCUMENT, DOCUMENT)
    await box.add(DOCUMENT, tenant="globex", reason="RARE")
    rpc = DeadLetterRpc(box.letters, [])
    sizes, token = [], ""
    while token or not sizes:
        request = ListDeadLettersRequest(reason="RARE", page_token=token)
        page = await rpc.ListDeadLetters(request, NO_CONTEXT)
        sizes.append(len(page.dead_letters))
        token = page.next_page_token
    assert sizes == [0, 1]


@pytest.mark.parametrize("tenant", ["*", ">", "acme.x", "a b"])
async def test_a_tenant_that_is_a_pattern_matches_nothing(box: DeadLetterBox, tenant: str) -> None:
    await box.add(DOCUMENT)
    rpc = DeadLetterRpc(box.letters, [])
    page = await rpc.ListDeadLetters(ListDeadLettersRequest(tenant=tenant), NO_CONTEXT)
    assert not page.dead_letters


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
