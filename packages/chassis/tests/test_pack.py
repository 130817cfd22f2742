"""Events that share a message: handled like single ones, and judged alone when one fails."""

import asyncio

import pytest

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared, DocumentIndexed
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from chassis.base.errors import ConflictError, InvalidInputError, UnavailableError
from chassis.events import settlement as settling
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Batch
from chassis.events.envelope import Outgoing, encode_event
from chassis.events.pack import CONTENT_TYPE, PACK_MAX_BYTES, PACK_MAX_EVENTS, group, pack
from chassis.events.topology import durable_of
from chassis.events.work import Publications
from testkit.consuming import consume_events, wait_until_settled
from testkit.servers import TestBus

TENANT = "acme"


def embedded(number: int, tenant: str = TENANT, size: int = 0) -> Outgoing:
    prepared = ChunksPrepared(tenant=tenant, document=f"d{number}", version=1)
    event = ChunksEmbedded(tenant=tenant, prepared=prepared, vectors=bytes(size))
    return encode_event(event, event_id=f"e{number}", document=f"d{number}")


def names(events: list[Outgoing]) -> list[str]:
    return [event.headers["ce-id"] for event in events]


async def messages(bus: TestBus, stream: str = "WORK_INFERENCE") -> int:
    """Messages that were ever stored in a stream since it was emptied."""
    async with bus.connect("provisioner") as admin:
        state = (await admin.jetstream.stream_info(stream)).state
    return int(state.messages)


def test_work_of_one_kind_and_tenant_shares_messages_in_order():
    mine = [embedded(n) for n in range(PACK_MAX_EVENTS + 3)]
    other = embedded(99, "globex")
    few, full, rest = group([*mine[:5], other, *mine[5:]])
    assert list(few) == [other]
    assert [*full, *rest] == mine
    assert len(full) == PACK_MAX_EVENTS


def test_large_events_and_facts_travel_alone():
    large = [embedded(n, size=PACK_MAX_BYTES) for n in range(3)]
    assert list(map(len, group(large))) == [1, 1, 1]
    small = [embedded(n, size=PACK_MAX_BYTES // 3) for n in range(4)]
    assert list(map(len, group(small))) == [2, 2]
    fact = DocumentIndexed(tenant=TENANT, document="d")
    facts = [encode_event(fact, event_id=f"e{n}") for n in range(3)]
    assert list(map(len, group(facts))) == [1, 1, 1]


def test_a_pack_has_the_id_of_its_events():
    events = [embedded(n) for n in range(3)]
    assert pack(events).headers["Nats-Msg-Id"] == pack(events).headers["Nats-Msg-Id"]
    assert pack(events).headers["Nats-Msg-Id"] != pack(events[:2]).headers["Nats-Msg-Id"]
    assert pack([events[0], events[0]]) == events[0], "a repeat is no second event"


@pytest.mark.parametrize("batch", [1, 8, 64])
async def test_a_pack_is_one_message_and_each_of_its_events_is_handled(bus, batch):
    sizes: list[int] = []
    handled: list[str] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        sizes.append(len(batch))
        handled.extend(one.envelope.event_id for one in batch)
        assert {one.attempt for one in batch} == {1}

    async with bus.connect("inference") as own:
        await own.publish_all([embedded(n) for n in range(12)])
        assert await own.count_unfinished(ChunksEmbedded.DESCRIPTOR.full_name) == 12
    assert await messages(bus) == 1
    async with bus.connect("query") as own, consume_events(own, handler, batch=batch) as settlement:
        await wait_until_settled(bus, settlement)
    assert sorted(handled) == sorted(f"e{n}" for n in range(12))
    assert max(sizes) == min(batch, 12)


async def test_no_more_groups_run_than_there_are_slots(bus):
    running, most = 0, 0

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    async with bus.connect("inference") as own:
        await own.publish_all([embedded(n) for n in range(32)])
    async with bus.connect("query") as own, consume_events(own, handler, groups=3) as settlement:
        await wait_until_settled(bus, settlement)
    assert most == 3


@pytest.mark.parametrize("error", [ConflictError("BUSY", "busy"), RuntimeError("a bug")])
async def test_an_event_that_fails_is_tried_again_alone(bus, error, monkeypatch):
    monkeypatch.setattr(settling, "BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(settling, "CONFLICT_S", 0.05)
    handled: list[str] = []
    failed = 0

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        nonlocal failed
        if any(one.envelope.event_id == "e3" for one in batch) and failed < 4:
            failed += 1
            raise error
        handled.extend(one.envelope.event_id for one in batch)

    async with bus.connect("inference") as own:
        await own.publish_all([embedded(n) for n in range(8)])
    async with bus.connect("query") as own:
        async with consume_events(own, handler, batch=32) as settlement:
            await wait_until_settled(bus, settlement)
        assert not await DeadLetters(own, "query").list(0, 10)
    assert sorted(handled) == [f"e{n}" for n in range(8)]
    assert failed == 4


async def test_a_bad_event_becomes_a_dead_letter_as_it_was_published(bus):
    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        if any(one.envelope.event_id == "e3" for one in batch):
            raise InvalidInputError("VECTORS_SIZE", "no")

    events = [embedded(n) for n in range(8)]
    async with bus.connect("inference") as own:
        await own.publish_all(events)
    async with bus.connect("query") as own:
        async with consume_events(own, handler, batch=32) as settlement:
            await wait_until_settled(bus, settlement)
        letters = DeadLetters(own, "query")
        [listed] = await letters.list(0, 10)
        letter = await letters.get(listed.dead_letter_id)
    assert (letter.reason, letter.event_id, letter.payload) == (
        "VECTORS_SIZE",
        "e3",
        events[3].payload,
    )
    own_headers = {k: v for k, v in events[3].headers.items() if not k.startswith("Nats-")}
    assert own_headers.items() <= letter.headers.items()


async def test_a_pack_that_comes_again_is_parted(bus):
    sizes: list[int] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        sizes.append(len(batch))

    async with bus.connect("inference") as own:
        await own.publish_all([embedded(n) for n in range(8)])
    durable = durable_of(ChunksEmbedded, "query")
    async with bus.connect("query") as own:
        puller = await own.jetstream.pull_subscribe_bind(durable.name, durable.stream)
        [message] = await puller.fetch(1, timeout=5)
        await message.nak()
        await own.client.flush()
        async with consume_events(own, handler, batch=1, groups=8) as settlement:
            await wait_until_settled(bus, settlement)
    assert sizes == [1] * 8


async def test_what_stop_hands_back_comes_again(bus):
    handled: list[str] = []
    started = asyncio.Event()

    async def hang(batch: Batch[ChunksEmbedded]) -> None:
        started.set()
        await asyncio.sleep(60)

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        handled.extend(one.envelope.event_id for one in batch)

    async with bus.connect("inference") as own:
        await own.publish_all([embedded(n) for n in range(8)])
    async with bus.connect("query") as own:
        async with consume_events(own, hang, batch=1, groups=2):
            await asyncio.wait_for(started.wait(), 10)
        async with consume_events(own, handler, batch=8) as settlement:
            await wait_until_settled(bus, settlement)
    assert sorted(handled) == [f"e{n}" for n in range(8)]


async def test_a_pack_waits_for_a_dependency_as_a_whole(bus, monkeypatch):
    monkeypatch.setattr(settling, "PAUSE_FIRST_S", 0.05)
    tries: list[int] = []

    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        tries.append(len(batch))
        if len(tries) < 3:
            raise UnavailableError("VECTORS_UNAVAILABLE", "away", retry_after_s=0)

    async with bus.connect("inference") as own:
        await own.publish_all([embedded(n) for n in range(8)])
    async with bus.connect("query") as own, consume_events(own, handler, batch=8) as settlement:
        await wait_until_settled(bus, settlement)
    assert tries == [8, 8, 8]


@pytest.mark.parametrize("payload", [b"\xff\xff", b""])
async def test_a_pack_that_cannot_be_read_is_a_dead_letter(bus, payload):
    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        raise AssertionError("must not be called")

    async with bus.connect("inference") as own:
        subject = embedded(1).subject
        headers = {"Content-Type": CONTENT_TYPE}
        await own.jetstream.publish(subject, payload, headers=headers)
    async with bus.connect("query") as own:
        async with consume_events(own, handler) as settlement:
            await wait_until_settled(bus, settlement)
        [letter] = await DeadLetters(own, "query").list(0, 10)
    assert letter.reason == "EVENT_CONTENT_TYPE"


async def test_upload_events_never_travel_in_packs(bus):
    """An upstream system must not give many uploads one place in the order."""

    async def handler(batch: Batch[DocumentUploaded]) -> None:
        raise AssertionError("must not be called")

    upload = DocumentUploaded(tenant="default", document="collections/c/documents/d")
    events = [encode_event(upload, event_id=f"e{n}") for n in range(2)]
    assert list(map(len, group(events))) == [1, 1]
    async with bus.connect("upstream") as own:
        forged = pack(events)
        await own.client.publish(forged.subject, forged.payload, headers=dict(forged.headers))
        await own.client.flush()
    async with asyncio.timeout(10):
        while not await messages(bus, "UPLOADS"):
            await asyncio.sleep(0.02)
    async with bus.connect("ingest") as own:
        async with consume_events(
            own, handler, event=DocumentUploaded, service="ingest"
        ) as settlement:
            await wait_until_settled(bus, settlement)
        [letter] = await DeadLetters(own, "ingest").list(0, 10)
    assert letter.reason == "EVENT_CONTENT_TYPE"


async def test_units_that_end_together_share_a_message(bus):
    async with bus.connect("inference") as own:
        work = Publications(own)

        async def embed(number: int) -> None:
            async with work.begin(TENANT) as unit:
                prepared = ChunksPrepared(tenant=TENANT, document=f"d{number}")
                unit.emit(ChunksEmbedded(tenant=TENANT, prepared=prepared), key=("k", number))

        await asyncio.gather(*(embed(number) for number in range(12)))
        assert await messages(bus) == 1
        assert await own.count_unfinished(ChunksEmbedded.DESCRIPTOR.full_name) == 12


async def test_a_publication_that_fails_fails_every_unit_in_it(bus, monkeypatch):
    async with bus.connect("inference") as own:
        work = Publications(own)

        async def fail(events):
            raise UnavailableError("BUS_UNAVAILABLE", "away")

        monkeypatch.setattr(own, "publish_all", fail)

        async def embed(number: int) -> None:
            async with work.begin(TENANT) as unit:
                unit.emit(ChunksEmbedded(tenant=TENANT), key=("k", number))

        results = await asyncio.gather(*map(embed, range(3)), return_exceptions=True)
        assert [getattr(one, "reason", None) for one in results] == ["BUS_UNAVAILABLE"] * 3
