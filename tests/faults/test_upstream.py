"""The upstream system's record of its publications agrees with what the broker stored."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentAccepted, DocumentFailed, DocumentIndexed
from aquifer_cli.endpoints import Endpoints
from chassis.events import topology
from stack.guardian import Guardian
from testkit.servers import TestBus, password_of, start_bus
from tests.faults.journal import Journal
from tests.faults.upstream import open_upstream

DOCUMENT = "collections/faults/documents/upstream"


@pytest.fixture
def broker(guardian: Guardian) -> Iterator[TestBus]:
    """A broker of its own, for it is killed."""
    with tempfile.TemporaryDirectory(prefix="aquifer-upstream-") as folder:
        with start_bus(Path(folder), guardian) as bus:
            asyncio.run(bus.provision())
            yield bus


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def endpoints(broker: TestBus) -> Endpoints:
    known = {"url": broker.url, "user": "upstream", "password": password_of("upstream")}
    return Endpoints(services={}, traces="", tenant="default", api_key="", nats=known)


async def kept(broker: TestBus) -> dict[int, str]:
    """Ids of the events in the stream by their sequence."""
    found = {}
    async with broker.connect("provisioner") as bus:
        state = (await bus.jetstream.stream_info("UPLOADS")).state
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await bus.jetstream.get_msg("UPLOADS", seq=sequence)
            found[sequence] = (message.headers or {})["ce-id"]
    return found


async def acknowledged(journal: Journal, count: int) -> None:
    async with asyncio.timeout(10):
        while (
            sum(c.acked is not None for copies in journal.copies.values() for c in copies) < count
        ):
            await asyncio.sleep(0.01)


async def answer(
    broker: TestBus, event: DocumentAccepted | DocumentIndexed | DocumentFailed
) -> None:
    async with broker.connect("ingest") as bus:
        subject = topology.subject(type(event), "default")
        await bus.jetstream.publish(subject, event.SerializeToString())


@pytest.mark.parametrize("count", [1, 2, 20])
async def test_events_in_a_row_have_rising_sequences(broker, journal, count):
    async with open_upstream(endpoints(broker), journal) as upstream:
        uploads = [upstream.prepare(DOCUMENT, bytes([number])) for number in range(1, count + 1)]
        await upstream.publish(*uploads)
        await acknowledged(journal, count)
    places = [journal.copies[upload.event_id][0].place for upload in uploads]
    assert places == [(0, sequence) for sequence in range(1, count + 1)]
    assert list((await kept(broker)).values()) == [upload.event_id for upload in uploads]


async def test_two_writers_on_one_connection_keep_their_orders(broker, journal):
    async with open_upstream(endpoints(broker), journal) as upstream:
        rows = [[upstream.prepare(DOCUMENT, b"%d" % n) for n in range(10)] for _ in range(2)]
        await asyncio.gather(*(upstream.publish(*row, gap_s=0.001) for row in rows))
        await acknowledged(journal, 20)
    by_sequence = await kept(broker)
    for row in rows:
        sequences = [journal.copies[upload.event_id][0].sequence for upload in row]
        assert sequences == sorted(sequences)
        assert [by_sequence[sequence] for sequence in sequences] == [u.event_id for u in row]


async def test_an_event_that_was_not_kept_is_published_again(broker, journal):
    """The journal has each copy; only the one that the broker kept has a place."""
    async with open_upstream(endpoints(broker), journal) as upstream:
        broker.server.freeze()
        upload = upstream.prepare(DOCUMENT, b"content")
        await upstream.publish(upload)
        broker.server.kill()
        settling = asyncio.ensure_future(upstream.settle(upload))
        await asyncio.to_thread(broker.server.start)
        await acknowledged(journal, 1)
        await answer(broker, DocumentAccepted(upload_event_id=upload.event_id, version=3))
        await settling
    copies = journal.copies[upload.event_id]
    assert len(copies) > 1
    assert {copy.place for copy in copies if copy.place} == {
        (0, sequence) for sequence in await kept(broker)
    }
    assert journal.accepted()[upload.event_id]["version"] == 3


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (DocumentAccepted(version=2), {"accepted": True, "version": 2}),
        (DocumentIndexed(version=2), {"accepted": True, "version": 2, "result": "INDEXED"}),
        (
            DocumentFailed(version=2, reason="VERSION_SUPERSEDED"),
            {"accepted": True, "version": 2, "result": "VERSION_SUPERSEDED"},
        ),
        (
            DocumentFailed(reason="BACKLOG_FULL"),
            {"accepted": False, "version": 0, "result": "BACKLOG_FULL"},
        ),
    ],
)
async def test_the_first_answer_is_noted(broker, journal, event, expected):
    async with open_upstream(endpoints(broker), journal) as upstream:
        upload = upstream.prepare(DOCUMENT, b"content")
        await upstream.publish(upload)
        await acknowledged(journal, 1)
        event.upload_event_id = upload.event_id
        await answer(broker, event)
        await upstream.settle(upload)
    assert journal.ended[upload.event_id] == expected
    assert journal.open_operations == {}
