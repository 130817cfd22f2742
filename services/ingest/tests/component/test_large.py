"""Versions of more pieces than one transaction takes: all of it or nothing, if interrupted."""

import asyncio
from collections.abc import Callable

import pytest

from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared, VersionAccepted
from chassis.base.errors import ConflictError, FailedPreconditionError
from chassis.events.failures import CrashLoopError
from ingest.collections import CollectionSettings
from ingest.usecases.documents.read_text import TextQuery
from ingest.usecases.versions.prepare_document import PIECES_AT_ONCE
from services.ingest.tests.conftest import NAME, TENANT, Rig, ids

TEXT = " ".join(f"Sentence number {n} says something of its own." for n in range(7_500))
PARTS = 4


def check_rows(rig: Rig) -> None:
    """The stored pieces make up the text, and there are so many that it took several parts."""
    found = rig.rows.execute("SELECT ordinal, gap, text FROM chunks ORDER BY ordinal").fetchall()
    assert [row["ordinal"] for row in found] == list(range(rig.version()["chunk_count"]))
    assert "".join(row["gap"] + row["text"] for row in found) == TEXT
    assert len(found) > (PARTS - 1) * PIECES_AT_ONCE


def check_events(rig: Rig) -> None:
    """Every batch was sent, each with one id."""
    sent = [event for event in rig.outbox() if isinstance(event, ChunksPrepared)]
    first = {event.batch: event for event in sent}
    assert sorted(first) == list(range(rig.version()["batch_count"]))
    assert all(event == first[event.batch] for event in sent)
    assert len(set(ids(rig.outgoing())) - {""}) == len(first) + 1  # and the order
    chunks = [chunk for batch in sorted(first) for chunk in first[batch].chunks]
    assert [chunk.ordinal for chunk in chunks] == list(range(rig.version()["chunk_count"]))
    assert all(chunk.text == TEXT[chunk.start : chunk.end] for chunk in chunks)


async def interrupt(rig: Rig, is_time: Callable[[], bool], event_id: str = "a1") -> None:
    """Prepares the version until a condition holds; what then runs is cancelled, as by a kill."""
    preparing = asyncio.create_task(rig.prepare(event_id=event_id))
    while not preparing.done() and not is_time():
        await asyncio.sleep(0)
    assert not preparing.done(), "it was too fast to be interrupted"
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing


async def test_it_is_stored_and_sent_whole(rig: Rig):
    await rig.upload(TEXT.encode())
    await rig.prepare(event_id="a1")
    assert rig.state() == "PREPARED"
    check_rows(rig)
    check_events(rig)
    assert await rig.prepare(event_id="a1") == [] or rig.state() == "PREPARED"
    check_events(rig)


@pytest.mark.parametrize("parts", [1, 3])
async def test_while_it_is_stored_nothing_of_it_is_there(rig: Rig, parts: int):
    await rig.upload(TEXT.encode())
    orders = len(rig.outgoing())
    await interrupt(rig, lambda: rig.count("chunks") >= parts * PIECES_AT_ONCE)
    assert rig.count("chunks") % PIECES_AT_ONCE == 0 < rig.count("chunks")
    assert (rig.state(), len(rig.outgoing())) == ("ACCEPTED", orders)
    with pytest.raises(FailedPreconditionError) as refused:
        await rig.wired.rpc.get_text.run(TENANT, NAME, TextQuery())
    assert refused.value.reason == "TEXT_PENDING"
    await rig.prepare(event_id="a1")
    check_rows(rig)
    check_events(rig)


async def test_while_it_is_sent_its_event_is_not_handled(rig: Rig):
    await rig.upload(TEXT.encode())
    orders = len(rig.outgoing())
    await interrupt(rig, lambda: len(rig.outgoing()) > orders)
    assert rig.state() == "PREPARED"
    check_rows(rig)
    assert len(rig.outgoing()) - orders < rig.version()["batch_count"]
    await rig.prepare(event_id="a1")
    check_events(rig)


async def test_two_processes_end_with_the_pieces_of_one(rig: Rig):
    await rig.upload(TEXT.encode())
    ended = await asyncio.gather(
        rig.prepare(event_id="a1"), rig.prepare(event_id="a2"), return_exceptions=True
    )
    assert all(isinstance(one, (list, ConflictError)) for one in ended)
    await rig.prepare(event_id="a3")
    check_rows(rig)
    check_events(rig)


async def test_a_version_that_fails_keeps_no_part(rig: Rig):
    await rig.upload(TEXT.encode())
    await interrupt(rig, lambda: rig.count("chunks") > 0)
    event = VersionAccepted(tenant=TENANT, document=NAME, version=1)
    await rig.give_up(event, CrashLoopError(20))
    assert (rig.state(), rig.count("chunks")) == ("FAILED", 0)
    assert await rig.prepare(event_id="a1") == []
    assert rig.count("chunks") == 0


async def test_a_deleted_version_keeps_no_part(rig: Rig):
    await rig.upload(TEXT.encode())
    await interrupt(rig, lambda: rig.count("chunks") > 0)
    await rig.delete()
    await rig.prepare(event_id="a1")
    await rig.report_purged()
    assert (rig.state(), rig.count("chunks")) == ("DELETED", 0)


async def test_a_superseded_version_that_is_kept_has_no_part_of_its_text(rig: Rig):
    await rig.wired.rpc.create_collection.run(
        TENANT, NAME.split("/")[1], CollectionSettings(version_retention=5)
    )
    await rig.upload(TEXT.encode())
    await interrupt(rig, lambda: rig.count("chunks") > 0)
    await rig.index_version(b"A newer version.")
    assert (rig.state(), rig.version()["kept"]) == ("SUPERSEDED", True)
    assert await rig.prepare(event_id="a1") == []
    with pytest.raises(FailedPreconditionError) as refused:
        await rig.wired.rpc.get_text.run(TENANT, NAME, TextQuery(version=1))
    assert refused.value.reason == "TEXT_MISSING"
    assert (await rig.wired.rpc.roll_back.run(TENANT, NAME, 1)).version.number == 3
