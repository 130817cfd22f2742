"""From accepted to searchable: every step once, whatever comes twice, late or never."""

import asyncio

import pytest

from aquifer.inference.v1.embedding_events_pb2 import EmbeddingRejected
from aquifer.ingest.v1.document_events_pb2 import (
    DocumentFailed,
    DocumentIndexed,
    VersionAccepted,
)
from aquifer.ingest.v1.document_pb2 import Description
from aquifer.query.v1.passage_events_pb2 import ChunksRejected
from chassis.base.errors import InvalidInputError
from ingest.collections import CollectionSettings
from ingest.domain import State, Verdict
from ingest.usecases.versions.finish_document import give_up
from services.ingest.tests.conftest import NAME, TENANT, TRACE, Rig, messages

LONG = " ".join(f"Sentence number {n} says something of its own." for n in range(400)).encode()


async def test_a_document_is_cut_into_batches_that_repeat_it_verbatim(rig: Rig):
    await rig.upload(LONG, file_name="long.txt", title="Given", metadata={"k": "v"})
    batches = messages(await rig.prepare())
    row = rig.version()
    assert (row["state"], row["media_type"], row["title"]) == ("PREPARED", "text/plain", "Given")
    assert [batch.batch for batch in batches] == list(range(row["batch_count"]))
    chunks = [chunk for batch in batches for chunk in batch.chunks]
    assert [chunk.ordinal for chunk in chunks] == list(range(row["chunk_count"]))
    assert len({chunk.chunk_id for chunk in chunks}) == len(chunks)
    assert max(len(batch.chunks) for batch in batches) == 32
    assert all(chunk.text == LONG.decode()[chunk.start : chunk.end] for chunk in chunks)
    assert {(b.trace_id, b.chunk_count) for b in batches} == {(TRACE, len(chunks))}
    description = Description(title="Given", metadata={"k": "v"}, create_time=row["accepted_at"])
    assert all(b.description == description for b in batches)
    assert rig.count("chunks") == len(chunks)


async def test_an_order_delivered_twice_is_carried_out_once(rig: Rig):
    await rig.upload()
    first = await rig.prepare(event_id="a1")
    assert len(first) == 1
    assert await rig.prepare(event_id="a1") == []
    assert rig.count("chunks") == 1


async def test_two_acceptances_side_by_side_prepare_once(rig: Rig):
    await rig.upload(LONG)
    before = rig.last_outgoing()
    await asyncio.gather(rig.prepare(event_id="a1"), rig.prepare(event_id="a2"))
    assert len(rig.outgoing(before)) == rig.version()["batch_count"]
    assert rig.count("chunks") == rig.version()["chunk_count"]


async def test_an_acceptance_of_a_version_that_moved_on_has_no_effect(rig: Rig):
    await rig.index_version()
    assert await rig.prepare() == []
    assert rig.state() == "INDEXED"


async def test_an_acceptance_of_nothing_we_know_has_no_effect(rig: Rig):
    event = VersionAccepted(tenant=TENANT, document=NAME, version=7)
    assert await rig.deliver(event) == []


async def test_a_refusal_by_the_parser_fails_the_version_and_tells_everyone_once(rig: Rig):
    content = b"\x89PNG\r\n\x1a\n not a text"
    await rig.event(content, event_id="e1")
    await rig.event(content, event_id="e2")
    published = messages(await rig.prepare(event_id="a1"))
    assert {event.upload_event_id for event in published} == {"e1", "e2"}
    assert {type(event) for event in published} == {DocumentFailed}
    assert {event.reason for event in published} == {"NEEDS_OCR"}
    assert rig.version()["reason"] == "NEEDS_OCR"
    assert await rig.prepare(event_id="a1") == []


async def test_a_grpc_upload_that_fails_is_told_under_an_empty_id(rig: Rig):
    await rig.upload(b"   \n ")
    [event] = messages(await rig.prepare())
    assert (event.reason, event.upload_event_id, event.version) == ("NO_TEXT", "", 1)


@pytest.mark.parametrize(("damage", "reason"), [(None, "OBJECT_MISSING"), (b"?", "OBJECT_CORRUPT")])
async def test_a_lost_or_damaged_object_fails_the_version(rig: Rig, damage, reason):
    await rig.upload(LONG * 5)
    path = rig.objects_dir / rig.version()["object_key"]
    path.unlink() if damage is None else path.write_bytes(damage)
    [event] = messages(await rig.prepare())
    assert event.reason == reason


async def test_a_searchable_version_is_live_and_told_once(rig: Rig):
    await rig.event(correlation_id="c")
    await rig.prepare()
    published = await rig.searchable(event_id="s1")
    [event] = messages(published)
    assert event == DocumentIndexed(
        tenant=TENANT,
        document=NAME,
        version=1,
        upload_event_id="e1",
        correlation_id="c",
        chunk_count=1,
    )
    assert await rig.searchable(event_id="s1") == []
    assert await rig.searchable(event_id="s2") == []
    view = await rig.get()
    assert (view.version.state, view.entry.live_version) == (State.INDEXED, 1)


async def test_a_newer_version_supersedes_the_live_one_and_its_data_goes(rig: Rig):
    await rig.index_version(LONG * 5)
    await rig.index_version(b"The second edition.")
    await rig.index_version(b"The third edition.")
    assert [rig.state(n) for n in (1, 2, 3)] == ["SUPERSEDED", "SUPERSEDED", "INDEXED"]
    for table in ("chunks", "contents"):
        assert [row["version"] for row in rig.rows.execute(f"SELECT version FROM {table}")] == [3]
    assert await rig.objects.list(TENANT) == []


async def test_the_old_version_stays_live_until_the_new_one_is_searchable(rig: Rig):
    await rig.index_version()
    await rig.upload(b"The second edition.")
    await rig.prepare(2)
    view = await rig.get()
    assert (view.version.number, view.version.state) == (2, State.PREPARED)
    assert view.entry.live_version == 1


async def test_a_version_overtaken_by_a_newer_one_gets_its_result(rig: Rig):
    await rig.event(event_id="e1")
    await rig.event(b"The second edition.", event_id="e2")
    await rig.prepare(1)
    await rig.prepare(2)
    published = {event.upload_event_id: event for event in messages(await rig.searchable(2))}
    assert isinstance(published["e2"], DocumentIndexed)
    assert isinstance(published["e1"], DocumentFailed)
    assert published["e1"].reason == "VERSION_SUPERSEDED"
    assert [rig.state(1), rig.state(2)] == ["SUPERSEDED", "INDEXED"]
    assert await rig.searchable(1) == []
    assert (await rig.get()).entry.live_version == 2
    assert [row["version"] for row in rig.rows.execute("SELECT version FROM chunks")] == [2]


async def test_a_failed_version_below_a_live_one_keeps_its_reason_and_loses_its_data(rig: Rig):
    await rig.upload()
    await rig.prepare()
    await rig.deliver(rejection("CHUNKS"))
    await rig.index_version(b"The second edition.")
    assert (rig.state(1), rig.version(1)["reason"]) == ("FAILED", "TOO_BAD")
    for table in ("chunks", "contents"):
        assert [row["version"] for row in rig.rows.execute(f"SELECT version FROM {table}")] == [2]


def rejection(by: str, reason: str = "TOO_BAD") -> EmbeddingRejected | ChunksRejected:
    kind = {"CHUNKS": ChunksRejected, "EMBEDDING": EmbeddingRejected}[by]
    return kind(tenant=TENANT, document=NAME, version=1, batch=3, reason=reason)


@pytest.mark.parametrize("by", ["CHUNKS", "EMBEDDING"])
async def test_a_rejected_batch_fails_the_version_once(rig: Rig, by: str):
    await rig.event()
    await rig.prepare()
    [event] = messages(await rig.deliver(rejection(by)))
    assert (event.reason, event.upload_event_id) == ("TOO_BAD", "e1")
    assert await rig.deliver(rejection(by)) == []
    assert rig.state() == "FAILED"


async def test_a_rejection_without_a_reason_is_still_explained(rig: Rig):
    await rig.upload()
    await rig.prepare()
    [event] = messages(await rig.deliver(rejection("CHUNKS", "")))
    assert event.reason == "BATCH_REJECTED"


async def test_a_rejection_of_a_live_version_has_no_effect(rig: Rig):
    await rig.index_version()
    assert await rig.deliver(rejection("CHUNKS")) == []
    assert rig.state() == "INDEXED"


async def test_what_query_shows_is_indexed_also_when_it_was_given_up_before(rig: Rig):
    """Chunks here equal passages there; the result that was published stands."""
    await rig.event()
    await rig.prepare()
    await rig.deliver(rejection("CHUNKS"))
    assert await rig.searchable() == []
    assert (rig.state(), rig.version()["reason"]) == ("INDEXED", "")
    assert ((await rig.get()).entry.live_version, rig.count("chunks")) == (1, 1)
    rig.clear_outbox()
    await rig.event()
    [event] = rig.outbox()
    assert isinstance(event, DocumentFailed)


async def test_an_event_given_up_fails_its_version(rig: Rig):
    await rig.event()
    event = VersionAccepted(tenant=TENANT, document=NAME, version=1)
    error = InvalidInputError("CRASH_LOOP", "20 deliveries without an end")
    [published] = messages(await rig.give_up(event, error, event_id="a1"))
    assert (published.reason, published.upload_event_id) == ("CRASH_LOOP", "e1")
    assert rig.state() == "FAILED"


async def test_an_upload_that_joins_while_the_version_finishes_is_told_too(rig: Rig):
    """Joining and finishing meet on the document's lock: whoever comes second sees the other."""
    for number in range(5):
        name = f"collections/reports/documents/{number}"
        await rig.event(event_id=f"first-{number}", name=name)
        await rig.prepare(1, name=name)
        await asyncio.gather(
            rig.searchable(1, name=name), rig.event(event_id=f"second-{number}", name=name)
        )
        published = {e.upload_event_id for e in rig.outbox() if isinstance(e, DocumentIndexed)}
        assert published >= {f"first-{number}", f"second-{number}"}


async def test_an_upload_that_joins_while_the_version_fails_is_told_too(rig: Rig):
    for number in range(1, 6):
        content = f"Text number {number}.".encode()
        await rig.event(content, event_id=f"first-{number}")
        await rig.prepare(number)
        event = ChunksRejected(tenant=TENANT, document=NAME, version=number, reason="TOO_BAD")
        await asyncio.gather(rig.deliver(event), rig.event(content, event_id=f"second-{number}"))
        waiting = rig.rows.execute(
            "SELECT request_id FROM uploads WHERE version = %s AND result = ''", [number]
        )
        assert waiting.fetchall() == []


async def test_a_version_retired_while_it_is_prepared_leaves_no_chunk(rig: Rig):
    await rig.upload()
    await rig.upload(b"The second edition.")
    await rig.prepare(2)
    version = await rig.known(1)
    prepared = await rig.wired.use_cases.prepare.parse(
        version, b"Water finds its way.", CollectionSettings()
    )
    async with rig.begin(TENANT) as work:
        assert await work.documents.prepare(version, prepared, 60)
        going_live = asyncio.ensure_future(rig.searchable(2))
        await asyncio.sleep(0.2)
        assert not going_live.done()
    await going_live
    assert [rig.state(1), rig.state(2)] == ["SUPERSEDED", "INDEXED"]
    assert [row["version"] for row in rig.rows.execute("SELECT version FROM chunks")] == [2]


async def test_giving_up_and_finishing_at_once_ends_one_way_with_one_result(rig: Rig):
    await rig.event()
    await rig.prepare()

    async def failing() -> None:
        async with rig.begin(TENANT) as work:
            await give_up(work, NAME, 1, Verdict(reason="STEP_DEADLINE", detail="late"))

    await asyncio.gather(rig.searchable(), failing())
    results = [e for e in rig.outbox() if isinstance(e, DocumentIndexed | DocumentFailed)]
    assert len(results) == 1
    assert rig.state() == "INDEXED"
