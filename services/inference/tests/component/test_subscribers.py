"""Batches of chunks come in over a real broker; what comes of them goes out over it."""

import asyncio

import numpy as np
import pytest

from aquifer.auth.v1.auth_events_pb2 import TenantDeletionRequested
from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded, EmbeddingRejected
from aquifer.inference.v1.inference_service_pb2 import EmbedRequest
from aquifer.inference.v1.lane_pb2 import LANE_BULK as CALLS_BULK
from aquifer.ingest.v1.document_events_pb2 import (
    Chunk,
    ChunksPrepared,
    DocumentDeletionRequested,
)
from aquifer.ingest.v1.document_pb2 import LANE_BULK, LANE_INTERACTIVE
from chassis.events import settlement
from chassis.events.dead_letters import DeadLetters
from chassis.events.envelope import encode_event
from chassis.events.pack import unpack
from chassis.events.provision import provision
from chassis.events.topology import stream_name
from inference.domain import Lane, Source
from inference.vector_cache import StoredVectors

TENANT = "acme"
DOCUMENT = "collections/manuals/documents/pump"


def prepared(*texts, batch=0, tenant=TENANT, document=DOCUMENT):
    chunks = [Chunk(chunk_id=str(at), ordinal=at, text=text) for at, text in enumerate(texts)]
    return ChunksPrepared(
        tenant=tenant, document=document, version=3, batch=batch, batch_count=9, chunks=chunks
    )


async def publish_as(bus, service, event):
    async with bus.connect(service) as own:
        await own.publish_all([encode_event(event, event_id="order", document="")])


async def publish(bus, *events):
    async with bus.connect("ingest") as own:
        await own.publish_all(
            [
                encode_event(event, event_id=f"batch-{event.batch}", document=event.document)
                for event in events
            ]
        )


async def read_published(bus, event):
    """Every event of one kind that the service sent."""
    stream, name = stream_name(event), event.DESCRIPTOR.full_name
    async with bus.connect("provisioner") as admin:
        state = (await admin.jetstream.stream_info(stream)).state
        found = [
            one
            for seq in range(max(1, state.first_seq), state.last_seq + 1)
            for one in unpack(await admin.jetstream.get_msg(stream, seq))
        ]
    return [event.FromString(one.payload) for one in found if one.kind == name]


async def test_a_batch_goes_on_with_its_vectors(bus, service):
    batch = prepared("the impeller wears out", "grease the bearing")
    await publish(bus, batch)
    await service.settled()
    [sent] = await read_published(bus, ChunksEmbedded)
    assert sent.prepared == batch
    assert (sent.tenant, sent.profile, sent.dimensions) == (TENANT, "minilm-l6-v2", 384)
    vectors = np.frombuffer(sent.vectors, "<f4").reshape(2, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert float(vectors[0] @ vectors[1]) < 0.9


async def test_many_batches_go_on_each_with_its_own_vectors(bus, ticking_service, ticking):
    await publish(bus, *(prepared(f"text {n}", f"more {n}", batch=n) for n in range(9)))
    await ticking_service.settled()
    sent = await read_published(bus, ChunksEmbedded)
    assert sorted(one.prepared.batch for one in sent) == list(range(9))
    for one in sent:
        vectors = np.frombuffer(one.vectors, "<f4").reshape(2, 8)
        for chunk, vector in zip(one.prepared.chunks, vectors, strict=True):
            wanted = ticking.vector(ticking.tokenize([chunk.text])[0][0])
            np.testing.assert_allclose(vector, wanted, atol=1e-6)


@pytest.mark.parametrize("tenant", [TENANT, "globex"])
async def test_a_note_does_not_wait_for_the_long_document_before_it(
    bus, ticking_service, ticking_batcher, ticking, until, tenant
):
    long = [prepared(*[f"{n} {at}".ljust(60, ".") for at in range(32)], batch=n) for n in range(94)]
    note = prepared("one line", batch=94, tenant=tenant, document="collections/c/documents/note")
    ticking.gate.clear()
    await publish(bus, *long, note)
    await until(lambda: ticking.tokenized == 94 * 32 + 1)
    await asyncio.sleep(0.2)
    ticking.gate.set()
    await ticking_service.settled()
    sent = await read_published(bus, ChunksEmbedded)
    assert len(sent) == 95
    assert note in [one.prepared for one in sent[:8]]


async def test_an_interactive_document_waits_for_no_import_of_its_tenant(
    bus, ticking_service, ticking_batcher, ticking, until
):
    lines = ["." * 60] * 32
    documents = [
        prepared(*lines, batch=n, document=f"collections/c/documents/{n}") for n in range(94)
    ]
    for document in documents:
        document.lane = LANE_BULK
    single = prepared("one line", batch=94, document="collections/c/documents/single")
    single.lane = LANE_INTERACTIVE
    ticking.gate.clear()
    await publish(bus, *documents, single)
    await until(lambda: ticking.tokenized == 94 * 32 + 1)
    await asyncio.sleep(0.2)
    ticking.gate.set()
    await ticking_service.settled()
    batches = [ticking.texts(ids) for _, ids in ticking.batches]
    assert len(batches) > 180
    assert next(at for at, texts in enumerate(batches) if "one line" in texts) < 8


async def test_a_call_does_not_wait_for_all_documents_of_its_own_tenant(
    bus, ticking_service, ticking_batcher, ticking, until
):
    lines = ["." * 60] * 32
    documents = [
        prepared(*lines, batch=n, document=f"collections/c/documents/{n}") for n in range(100)
    ]
    ticking.gate.clear()
    await publish(bus, *documents)
    await until(lambda: ticking_batcher.waiting_texts(Lane.BULK) == 3200)
    request = EmbedRequest(texts=["rebuilt".ljust(60)] * 32, lane=CALLS_BULK)
    call = asyncio.ensure_future(ticking_service.stub.Embed(request, **ticking_service.caller()))
    await until(lambda: ticking.tokenized == 3232)
    await asyncio.sleep(0.2)
    ticking.gate.set()
    await asyncio.gather(call, ticking_service.settled())
    batches = [ticking.texts(ids) for _, ids in ticking.batches]
    assert len(batches) > 190
    assert all(text[0] == "." for texts in batches[16:] for text in texts)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ((), "TEXT_COUNT"),
        (("good", ""), "TEXT_LENGTH"),
        (("good", "bad"), "TEXT_BREAKS_ENGINE"),
    ],
)
async def test_a_batch_no_retry_would_repair_is_kept_and_reported(
    bus, ticking_service, ticking, texts, reason
):
    ticking.poison = "bad"
    await publish(bus, prepared(*texts, batch=4), prepared("good", batch=5))
    await ticking_service.settled()
    [rejected] = await read_published(bus, EmbeddingRejected)
    assert rejected == EmbeddingRejected(
        tenant=TENANT, document=DOCUMENT, version=3, batch=4, reason=reason
    )
    assert [one.prepared.batch for one in await read_published(bus, ChunksEmbedded)] == [5]
    [letter] = await DeadLetters(ticking_service.process.bus, "inference").list(0, 10)
    assert (letter.reason, letter.event_id) == (reason, "batch-4")


@pytest.mark.parametrize("whole_tenant", [False, True])
async def test_what_is_deleted_leaves_no_dead_letters(bus, ticking_service, ticking, whole_tenant):
    ticking.poison = "bad"
    others = [
        prepared("bad", batch=2, document=f"{DOCUMENT}-2"),
        prepared("bad", batch=3, tenant="b"),
    ]
    await publish(bus, prepared("bad", batch=1), *others)
    await ticking_service.settled()
    letters = DeadLetters(ticking_service.process.bus, "inference")
    assert len(await letters.list(0, 10)) == 3
    if whole_tenant:
        await publish_as(bus, "auth", TenantDeletionRequested(tenant=TENANT, attempt=1))
    else:
        order = DocumentDeletionRequested(tenant=TENANT, document=DOCUMENT, version=3)
        await publish_as(bus, "ingest", order)
    await ticking_service.settled()
    kept = sorted(letter.event_id for letter in await letters.list(0, 10))
    assert kept == (["batch-3"] if whole_tenant else ["batch-2", "batch-3"])


async def test_a_batch_waits_for_an_engine_that_fails_on_everything(
    bus, ticking_service, ticking, monkeypatch
):
    monkeypatch.setattr(settlement, "PAUSE_FIRST_S", 0.05)
    infer = ticking.infer

    def fail(slot, ids):
        raise ticking.error

    ticking.infer = fail
    await publish(bus, prepared("good"))
    async with asyncio.timeout(30):
        while ticking_service.settlement.pause_reason != "ENGINE_FAILED":
            await asyncio.sleep(0.01)
    ticking.infer = infer
    await ticking_service.settled()
    assert len(await read_published(bus, ChunksEmbedded)) == 1
    assert await read_published(bus, EmbeddingRejected) == []


async def test_the_same_batch_delivered_again_is_the_same_event(bus, ticking_service, ticking):
    event = encode_event(prepared("good"), event_id="batch-0", document=DOCUMENT)
    async with bus.connect("ingest") as ingest:
        for copy in range(3):
            # Another broker id each time, so that the broker itself drops none of them.
            headers = {**event.headers, "Nats-Msg-Id": f"copy-{copy}"}
            await ingest.jetstream.publish(event.subject, event.payload, headers=headers)
    await ticking_service.settled()
    assert ticking.seen().count("good") == 3
    assert len(await read_published(bus, ChunksEmbedded)) == 1


async def test_a_new_version_embeds_only_its_new_chunks(bus, ticking_service, ticking):
    await publish(bus, prepared("first", "second", "third"))
    await ticking_service.settled()
    ticking.batches.clear()
    newer = prepared("second", "fourth", "first", batch=1)
    newer.version = 4
    await publish(bus, newer)
    await ticking_service.settled()
    assert ticking.seen() == ["fourth"]
    sent = {one.prepared.version: one for one in await read_published(bus, ChunksEmbedded)}
    vectors = np.frombuffer(sent[4].vectors, "<f4").reshape(3, 8)
    for chunk, vector in zip(newer.chunks, vectors, strict=True):
        wanted = ticking.vector(ticking.tokenize([chunk.text])[0][0])
        np.testing.assert_allclose(vector, wanted, atol=1e-6)


async def test_vectors_of_another_document_or_tenant_are_not_used(bus, ticking_service, ticking):
    other = "collections/manuals/documents/other"
    await publish(bus, prepared("same"))
    await ticking_service.settled()
    await publish(
        bus, prepared("same", batch=1, document=other), prepared("same", batch=2, tenant="globex")
    )
    await ticking_service.settled()
    assert ticking.seen() == ["same"] * 3


@pytest.mark.parametrize("is_tenant", [False, True])
async def test_a_deletion_removes_cached_vectors(bus, ticking_service, is_tenant):
    await publish(bus, prepared("the salaries"))
    await ticking_service.settled()
    assert await count_cached(bus) == 1
    if is_tenant:
        await publish_as(bus, "auth", TenantDeletionRequested(tenant=TENANT))
    else:
        deleted = DocumentDeletionRequested(tenant=TENANT, document=DOCUMENT, version=3)
        await publish_as(bus, "ingest", deleted)
    await ticking_service.settled()
    assert await count_cached(bus) == 0


async def test_a_batch_that_comes_after_the_deletion_leaves_no_vectors(bus, ticking_service):
    deleted = DocumentDeletionRequested(tenant=TENANT, document=DOCUMENT, version=3)
    await publish_as(bus, "ingest", deleted)
    await ticking_service.settled()
    await publish(bus, prepared("the salaries"))
    await ticking_service.settled()
    assert await count_cached(bus) == 0
    newer = prepared("the salaries", batch=1)
    newer.version = 4
    await publish(bus, newer)
    await ticking_service.settled()
    assert await count_cached(bus) == 1


async def test_the_repeat_after_a_kill_removes_what_was_stored_after_the_deletion(
    bus, ticking_service, ticking
):
    deleted = DocumentDeletionRequested(tenant=TENANT, document=DOCUMENT, version=3)
    await publish_as(bus, "ingest", deleted)
    await ticking_service.settled()
    async with bus.connect("inference") as own:
        # As a process that was killed before it looked for the deletion.
        await StoredVectors(own)._store(
            Source(TENANT, DOCUMENT, 3), ticking.profile, {"the salaries": np.ones(8, np.float32)}
        )
    assert await count_cached(bus) == 1
    await publish(bus, prepared("the salaries"))
    await ticking_service.settled()
    assert await count_cached(bus) == 0


async def test_chunks_are_embedded_while_the_cache_is_away(bus, ticking_service, ticking):
    async with bus.connect("provisioner") as admin:
        await admin.jetstream.delete_stream("CACHE_INFERENCE")
        try:
            await publish(bus, prepared("first", "second"))
            await ticking_service.settled()
        finally:
            await provision(admin.jetstream, replicas=1, apply=True)
    [sent] = await read_published(bus, ChunksEmbedded)
    assert len(sent.vectors) == 2 * 8 * 4
    assert sorted(ticking.seen()) == ["first", "second"]


async def count_cached(bus):
    """Vectors in the cache; deletions are not counted."""
    async with bus.connect("provisioner") as admin:
        info = await admin.jetstream.stream_info(
            "CACHE_INFERENCE", subjects_filter="aquifer.cache.inference.*.documents.>"
        )
    return sum((info.state.subjects or {}).values())
