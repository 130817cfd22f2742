"""The batcher over an engine that waits and fails on command."""

import asyncio
import itertools
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.base.errors import InvalidInputError, OverloadedError, UnavailableError
from inference import batching
from inference.batching import LIMITS, LINKS_MAX, Batcher
from inference.domain import Lane, Owner
from inference.engine import GRANULE_TOKENS, PROBE
from inference.fair_queue import LaneLimits
from services.inference.tests.deadlines import deadline

SMALL = {
    Lane.INTERACTIVE: LaneLimits(batch_tokens=64, gather_s=0.0, waiting_texts=8),
    Lane.BULK: LaneLimits(batch_tokens=256, gather_s=0.005, waiting_texts=16),
}
PATIENT = {
    Lane.INTERACTIVE: SMALL[Lane.INTERACTIVE],
    Lane.BULK: LaneLimits(batch_tokens=1024, gather_s=1.0, waiting_texts=64),
}


async def test_every_caller_gets_its_own_rows_in_order(ticking):
    texts = ["a" * n + chr(200 + n) for n in range(1, 60)]
    async with Batcher(ticking) as batcher:
        answers = await asyncio.gather(
            *(batcher.embed(texts[at::7], Lane.BULK) for at in range(7)),
            *(batcher.embed(texts[at::5], Lane.INTERACTIVE) for at in range(5)),
        )
    expected = [texts[at::7] for at in range(7)] + [texts[at::5] for at in range(5)]
    for vectors, asked in zip(answers, expected, strict=True):
        wanted = np.stack([ticking.vector(ticking.tokenize([text])[0][0]) for text in asked])
        np.testing.assert_allclose(vectors, wanted, atol=1e-6)


async def test_batches_keep_to_the_budget_and_pad_little(ticking):
    async with Batcher(ticking, SMALL) as batcher:
        await batcher.embed(["x" * (1 + 7 * n % 63) for n in range(16)], Lane.BULK)
        await batcher.embed(["x" * 63, *["y" * 5] * 15], Lane.BULK)
    assert sum(len(ids) for _, ids in ticking.batches) == 32
    for _, ids in ticking.batches:
        rows, width = ids.shape
        assert width % GRANULE_TOKENS == 0
        assert rows == 1 or rows * width <= SMALL[Lane.BULK].batch_tokens
        lengths = (ids > 0).sum(axis=1)
        assert width < lengths.max() + GRANULE_TOKENS
        rounded = -(-lengths // GRANULE_TOKENS) * GRANULE_TOKENS
        assert (rounded * 2 >= width).all()


async def test_bulk_texts_of_many_callers_share_batches(ticking):
    async with Batcher(ticking, PATIENT) as batcher:
        await asyncio.gather(*(batcher.embed([f"text {n}"], Lane.BULK) for n in range(64)))
    assert sum(len(ids) for _, ids in ticking.batches) == 64
    assert len(ticking.batches) <= 2


@pytest.mark.parametrize("step_s", [0.001, 0.0015, 0.002, 0.0024, 0.003, 0.006])
async def test_a_lone_bulk_text_leaves_whenever_its_time_comes(ticking, monkeypatch, step_s):
    """Also between two looks at the clock: then nothing else would wake the batcher again."""
    clock = itertools.count(0.0, step_s)
    monkeypatch.setattr(batching, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    async with asyncio.timeout(5), Batcher(ticking) as batcher:
        await batcher.embed(["alone"], Lane.BULK)


async def test_a_lone_bulk_text_leaves_when_the_gathering_time_is_over(ticking):
    async with asyncio.timeout(20), Batcher(ticking) as batcher:
        vectors = await batcher.embed(["alone"], Lane.BULK)
    assert vectors.shape == (1, 8)


async def test_interactive_texts_overtake_bulk_ones(ticking, until):
    ticking.gate.clear()
    async with Batcher(ticking, SMALL) as batcher, asyncio.TaskGroup() as callers:
        callers.create_task(batcher.embed(["b" * 60] * 16, Lane.BULK))
        await until(lambda: len(ticking.batches) == 2)
        callers.create_task(batcher.embed(["q" * 60] * 4, Lane.INTERACTIVE))
        await until(lambda: len(ticking.batches) == 3)
        ticking.gate.set()
    letters = [ticking.texts(ids)[0][0] for _, ids in ticking.batches]
    assert letters == ["b", "b", "q", "q", "q", "q", "b", "b"]


async def test_a_newcomer_is_served_with_the_next_batches(ticking, until):
    ticking.gate.clear()
    async with Batcher(ticking) as batcher, asyncio.TaskGroup() as callers:
        for at in range(94):
            texts = [f"{at} {row} ".ljust(60, "b") for row in range(32)]
            callers.create_task(batcher.embed(texts, Lane.BULK, Owner("acme", "encyclopedia")))
        callers.create_task(batcher.embed(["note"], Lane.BULK, Owner("globex", "note")))
        await until(lambda: ticking.tokenized == 94 * 32 + 1)
        await asyncio.sleep(0.2)
        ticking.gate.set()
    batches = [ticking.texts(ids) for _, ids in ticking.batches]
    assert len(batches) > 180
    assert next(at for at, texts in enumerate(batches) if "note" in texts) < 8


async def test_bulk_never_takes_the_express_slot(ticking):
    async with Batcher(ticking, SMALL) as batcher:
        for _ in range(4):
            await batcher.embed(["b" * 60] * 16, Lane.BULK)
    assert {slot for slot, _ in ticking.batches} == {0, 1}


async def test_a_question_is_answered_while_bulk_holds_every_other_slot(ticking, until):
    """The gate holds all batches, so the engine lets only the express slot through."""
    held = ticking.infer
    released = threading.Event()

    def infer(slot, ids):
        if slot < ticking.slots - 1:
            assert released.wait(60)
        return held(slot, ids)

    ticking.infer = infer
    async with Batcher(ticking, SMALL) as batcher:
        bulk = asyncio.ensure_future(batcher.embed(["b" * 60] * 16, Lane.BULK))
        async with asyncio.timeout(20):
            await batcher.embed(["question"], Lane.INTERACTIVE)
        assert not bulk.done()
        released.set()
        assert len(await bulk) == 16


async def test_a_full_lane_refuses_and_says_when_to_return(ticking, until):
    ticking.gate.clear()
    async with Batcher(ticking, SMALL) as batcher:
        first = asyncio.ensure_future(batcher.embed(["x"] * 10, Lane.BULK))
        await until(lambda: ticking.batches)
        with pytest.raises(OverloadedError) as refused:
            await batcher.embed(["y"] * 7, Lane.BULK)
        assert refused.value.reason == "EMBEDDING_QUEUE_FULL"
        assert 0.1 <= refused.value.retry_after_s <= 30
        assert refused.value.facts["waiting_texts"] == "10"
        other_lane = asyncio.ensure_future(batcher.embed(["z"] * 8, Lane.INTERACTIVE))
        ticking.gate.set()
        await asyncio.gather(first, other_lane)
        assert len(await batcher.embed(["y"] * 7, Lane.BULK)) == 7
    assert "y" in ticking.seen()


async def test_a_caller_who_leaves_takes_its_texts_along(ticking, until):
    ticking.gate.clear()
    async with Batcher(ticking, SMALL) as batcher:
        stays = asyncio.ensure_future(batcher.embed(["s" * 60] * 8, Lane.BULK))
        await until(lambda: len(ticking.batches) == 2)
        leaves = asyncio.ensure_future(batcher.embed(["l" * 60] * 8, Lane.BULK))
        await until(lambda: batcher.waiting_texts(Lane.BULK) == 16)
        await asyncio.sleep(0.05)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        assert batcher.waiting_texts(Lane.BULK) == 8
        ticking.gate.set()
        assert len(await stays) == 8
    assert {text[0] for text in ticking.seen()} == {"s"}


async def test_a_caller_who_leaves_mid_batch_costs_its_neighbour_nothing(ticking, until):
    ticking.gate.clear()
    async with Batcher(ticking, PATIENT) as batcher:
        leaves = asyncio.ensure_future(batcher.embed(["leaves"], Lane.BULK))
        stays = asyncio.ensure_future(batcher.embed(["stays"], Lane.BULK))
        await until(lambda: ticking.batches)
        assert sorted(ticking.seen()) == ["leaves", "stays"]
        leaves.cancel()
        ticking.gate.set()
        vectors = await stays
    wanted = ticking.vector(ticking.tokenize(["stays"])[0][0])
    np.testing.assert_allclose(vectors[0], wanted, atol=1e-6)


async def test_an_engine_failure_reaches_only_the_caller_concerned(ticking):
    ticking.poison = "bad"
    async with Batcher(ticking, PATIENT) as batcher:
        results = await asyncio.gather(
            batcher.embed(["good", "fine"], Lane.BULK),
            batcher.embed(["bad", "innocent"], Lane.BULK),
            batcher.embed(["well"], Lane.BULK),
            return_exceptions=True,
        )
        assert ticking.seen().count("bad") == 2
        assert len(await batcher.embed(["again"], Lane.BULK)) == 1
        assert batcher.waiting_texts(Lane.BULK) == 0
    good, bad, well = results
    assert good.shape == (2, 8)
    assert well.shape == (1, 8)
    assert isinstance(bad, InvalidInputError)
    assert bad.reason == "TEXT_BREAKS_ENGINE"
    assert bad.__cause__ is ticking.error
    assert ticking.seen().count(PROBE) == 1


async def test_a_text_that_fails_once_is_tried_again_and_done(ticking):
    infer, failures = ticking.infer, [RuntimeError("once")]

    def stumble(slot, ids):
        if failures:
            raise failures.pop()
        return infer(slot, ids)

    ticking.infer = stumble
    async with Batcher(ticking) as batcher:
        assert len(await batcher.embed(["text"], Lane.BULK)) == 1
    assert ticking.seen() == ["text"]


async def test_a_broken_engine_is_not_blamed_on_the_text(ticking):
    def fail(slot, ids):
        raise ticking.error

    ticking.infer = fail
    async with Batcher(ticking) as batcher:
        with pytest.raises(UnavailableError) as refused:
            await batcher.embed(["text"], Lane.BULK)
    assert refused.value.reason == "ENGINE_FAILED"
    assert refused.value.__cause__ is ticking.error


@pytest.mark.parametrize("nonsense", [np.nan, np.inf, 0.0])
async def test_a_vector_of_nonsense_is_blamed_like_any_failure(ticking, nonsense):
    vector = ticking.vector
    ticking.vector = lambda ids: (
        np.full(8, nonsense, np.float32) if chr(ids[0]) == "b" else vector(ids)
    )
    async with Batcher(ticking, PATIENT) as batcher:
        good, bad = await asyncio.gather(
            batcher.embed(["good"], Lane.BULK),
            batcher.embed(["bad"], Lane.BULK),
            return_exceptions=True,
        )
    assert good.shape == (1, 8)
    assert bad.reason == "TEXT_BREAKS_ENGINE"


async def test_a_typed_engine_failure_is_passed_on_as_it_is(ticking):
    ticking.poison, ticking.error = "bad", InvalidInputError("TEXT_ODD", "cannot be embedded")
    async with Batcher(ticking) as batcher:
        with pytest.raises(InvalidInputError) as refused:
            await batcher.embed(["bad"], Lane.INTERACTIVE)
    assert refused.value.reason == "TEXT_ODD"


@pytest.mark.parametrize(
    "error",
    [UnavailableError("ENGINE_UNREACHABLE", "away"), OverloadedError("ENGINE_BUSY", "busy")],
)
async def test_an_engine_that_is_away_is_asked_once_for_all(ticking, error):
    ticking.poison, ticking.error = "bad", error
    async with Batcher(ticking, PATIENT) as batcher:
        failed = await asyncio.gather(
            *(batcher.embed([text], Lane.BULK) for text in ("bad", "well", "good")),
            return_exceptions=True,
        )
        assert failed == [error] * 3
        assert len(ticking.batches) == 1
        assert len(await batcher.embed(["good"], Lane.BULK)) == 1


async def test_a_tokenizer_failure_reaches_its_caller_and_frees_its_place(ticking):
    async with Batcher(ticking) as batcher:
        with pytest.raises(TypeError):
            await batcher.embed([7], Lane.BULK)
        assert batcher.waiting_texts(Lane.BULK) == 0
        assert len(await batcher.embed(["next"], Lane.BULK)) == 1


async def test_a_vector_without_direction_is_an_engine_failure(ticking):
    ticking.vector = lambda ids: np.full(8, 1 if chr(ids[0]) == "x" else -1, np.float32)
    async with Batcher(ticking) as batcher:
        with pytest.raises(UnavailableError) as refused:
            await batcher.embed(["x" * 64 + "y" * 64], Lane.INTERACTIVE)
    assert refused.value.reason == "ENGINE_OUTPUT"


async def test_a_long_text_is_the_length_weighted_mean_of_its_windows(ticking):
    text = "a" * 64 + "b" * 64 + "c" * 16
    async with Batcher(ticking) as batcher:
        [vector] = await batcher.embed([text], Lane.BULK)
    windows = ticking.tokenize([text])[0]
    assert [len(ids) for ids in windows] == [64, 64, 16]
    mean = sum(len(ids) * ticking.vector(ids) for ids in windows)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def once_closed(batcher: Batcher, gate: threading.Event) -> None:
    """Opens a gate as soon as a batcher takes nothing more."""
    while not batcher._closed:
        time.sleep(0.01)
    gate.set()


async def test_closing_tells_waiting_callers_and_stops_the_threads(ticking, until):
    ticking.gate.clear()
    batcher = Batcher(ticking, SMALL)
    async with batcher:
        waiting = asyncio.ensure_future(batcher.embed(["w" * 60] * 16, Lane.BULK))
        await until(lambda: len(ticking.batches) == 2)
        threading.Thread(target=once_closed, args=(batcher, ticking.gate)).start()
    with pytest.raises(UnavailableError) as refused:
        await waiting
    assert refused.value.reason == "SHUTTING_DOWN"
    assert len(ticking.batches) == 2
    with pytest.raises(UnavailableError):
        await batcher.embed(["late"], Lane.INTERACTIVE)
    names = {thread.name.rsplit("_")[0] for thread in threading.enumerate()}
    assert not names & {"infer", "tokenize-bulk", "tokenize-interactive"}


async def test_nothing_is_tried_again_after_closing(ticking, until):
    infer, released, started = ticking.infer, threading.Event(), []

    def fail_then_hold(slot, ids):
        started.extend(text for text in ticking.texts(ids) if text != PROBE)
        if len(started) > 3:
            assert released.wait(60)
        return infer(slot, ids)

    ticking.poison, ticking.infer = "bad", fail_then_hold
    async with Batcher(ticking, PATIENT) as batcher:
        waiting = [
            asyncio.ensure_future(batcher.embed([text], Lane.BULK)) for text in ("bad", "b", "c")
        ]
        await until(lambda: len(started) == 5)
        threading.Thread(target=once_closed, args=(batcher, released)).start()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [error.reason for error in errors] == ["SHUTTING_DOWN"] * 3
    assert sorted(started) == ["b", "b", "bad", "bad", "c"]


@pytest.fixture
def spans(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr(batching, "tracer", tracer)
    return tracer, exporter


async def embed_under(tracer, batcher, name):
    with tracer.start_as_current_span(name) as span:
        await batcher.embed([name, f"{name} again"], Lane.BULK)
    return span.get_span_context()


def batch_spans(exporter):
    return [span for span in exporter.get_finished_spans() if span.name == "embed batch"]


async def test_a_batch_is_a_span_of_its_own_that_links_to_every_caller(ticking, spans):
    tracer, exporter = spans
    async with Batcher(ticking, PATIENT) as batcher:
        callers = await asyncio.gather(
            *(embed_under(tracer, batcher, name) for name in ("one", "two", "three")),
        )
    [span] = batch_spans(exporter)
    assert span.parent is None
    assert {link.context.span_id for link in span.links} == {one.span_id for one in callers}
    assert dict(span.attributes) == {
        "aquifer.lane": "bulk",
        "aquifer.texts": 6,
        "aquifer.callers": 3,
        "aquifer.tokens_padded": 6 * GRANULE_TOKENS,
    }


async def test_links_of_a_batch_are_bounded(ticking, spans):
    tracer, exporter = spans
    limits = PATIENT | {Lane.BULK: LaneLimits(batch_tokens=4096, gather_s=2.0, waiting_texts=256)}
    async with Batcher(ticking, limits) as batcher:
        await asyncio.gather(*(embed_under(tracer, batcher, f"t{n}") for n in range(LINKS_MAX + 9)))
    assert max(len(span.links) for span in batch_spans(exporter)) == LINKS_MAX


async def test_a_failed_batch_says_so_in_its_span(ticking, spans):
    tracer, exporter = spans
    ticking.poison = "bad"
    async with Batcher(ticking) as batcher:
        with pytest.raises(InvalidInputError):
            await embed_under(tracer, batcher, "bad")
    first, alone = batch_spans(exporter)
    assert not first.status.is_ok
    assert first.events[0].name == "exception"
    assert alone.status.description == "InvalidInputError"


async def test_the_loop_stays_free_while_the_engine_works(ticking):
    ticking.gate.clear()
    async with Batcher(ticking, LIMITS) as batcher:
        asked = asyncio.ensure_future(batcher.embed(["x"], Lane.INTERACTIVE))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not asked.done()
        ticking.gate.set()
        await asked


async def test_more_tokens_than_fit_are_refused(ticking, until):
    limits = {lane: replace(one, waiting_tokens=128) for lane, one in SMALL.items()}
    async with Batcher(ticking, limits) as batcher:
        ticking.gate.clear()
        running = []
        # The bulk lane has all slots but one; two more calls wait.
        for number in range(1, ticking.slots + 2):
            running.append(asyncio.ensure_future(batcher.embed(["x" * 64], Lane.BULK)))
            begun = min(number, ticking.slots - 1)
            await until(
                lambda n=number, m=begun: (ticking.tokenized, len(ticking.batches)) == (n, m)
            )
        await until(lambda: batcher.waiting_texts(Lane.BULK) == ticking.slots + 1)
        await asyncio.sleep(0.05)
        with pytest.raises(OverloadedError, match="tokens are waiting in the bulk lane") as full:
            await batcher.embed(["x" * 64], Lane.BULK)
        assert full.value.reason == "EMBEDDING_QUEUE_FULL"
        ticking.gate.set()
        await asyncio.gather(*running)
        # Also what is larger than the limit goes into an empty queue.
        vectors = await batcher.embed(["x" * 64] * 8, Lane.BULK)
        assert len(vectors) == 8


async def test_what_would_end_after_its_call_is_refused_at_once(ticking):
    async with Batcher(ticking, SMALL) as batcher:
        async with deadline(0.05):
            # Nothing is known of the engine's speed yet.
            await batcher.embed(["x" * 16], Lane.INTERACTIVE)
        batcher._seconds_per_token = 0.01
        for lane in Lane:
            async with deadline(1.0):
                with pytest.raises(OverloadedError, match="need about 1") as late:
                    await batcher.embed(["x" * 64] * 2, lane)
            assert late.value.reason == "EMBEDDING_QUEUE_FULL"
            batcher._seconds_per_token = 0.01
            async with deadline(2.0):
                await batcher.embed(["x" * 64], lane)
            batcher._seconds_per_token = 0.01
        await batcher.embed(["x" * 64] * 4, Lane.BULK)
        assert 0 < batcher._seconds_per_token < 0.01
