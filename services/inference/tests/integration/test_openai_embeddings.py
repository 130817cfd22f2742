"""An embedding model of a server: what it is sent, and what comes of a server that fails."""

import asyncio
import gzip
import json
from contextlib import asynccontextmanager

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from chassis.base.errors import (
    FailedPreconditionError,
    InvalidInputError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from inference import batching
from inference.domain import Capability, InputType, Lane, Owner
from inference.engine_settings import EmbeddingSettings
from inference.engines import spans as engine_spans
from inference.engines.embedders import open_embedding_engine
from inference.engines.openai import upstream
from services.inference.tests.openai_server import (
    DIMENSIONS,
    MODEL,
    running_openai_server,
    vector_of,
)

TEXTS = ["The well is deep.", "A pump.", "The harbour froze."]


@pytest.fixture
async def server():
    async with running_openai_server() as server:
        yield server


@asynccontextmanager
async def opened(server, **more):
    settings = EmbeddingSettings(engine="openai", url=server.url, model="tiny", **more)
    async with open_embedding_engine([settings]) as embedder:
        yield embedder


@pytest.fixture
async def embedder(server):
    async with opened(server) as embedder:
        server.asked.clear()
        yield embedder


async def failure(embedder, texts=TEXTS, lane=Lane.BULK) -> ServiceError:
    with pytest.raises(ServiceError) as failed:
        await embedder.embed(texts, lane)
    return failed.value


async def check_works(embedder) -> None:
    vectors = await embedder.embed(TEXTS, Lane.INTERACTIVE)
    wanted = np.stack([vector_of(text) for text in TEXTS])
    np.testing.assert_allclose(
        vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6
    )


async def test_the_server_is_asked_once_for_its_dimensions(server):
    async with opened(server) as embedder:
        assert (embedder.profile.name, embedder.profile.dimensions) == ("tiny", DIMENSIONS)
        assert embedder.profile.max_tokens == 1024
        assert embedder.card.capabilities == {Capability.EMBED}
        assert len(server.asked) == 1
        await check_works(embedder)


@pytest.mark.parametrize("takes_base64", [True, False, None])
async def test_vectors_come_in_base64_or_as_lists(server, takes_base64):
    server.base64 = takes_base64
    async with opened(server, api_key_variable="") as embedder:
        await check_works(embedder)
        wanted = "float" if takes_base64 is None else "base64"
        assert server.asked[-1]["encoding_format"] == wanted


async def test_a_request_has_its_prefixes_its_key_and_further_arguments(server, monkeypatch):
    monkeypatch.setenv("KEY_OF_THE_SERVER", "secret")
    more = {
        "name": "my-profile",
        "question_prefix": "query: ",
        "passage_prefix": "passage: ",
        "arguments": {"dimensions": 16},
        "api_key_variable": "KEY_OF_THE_SERVER",
    }
    async with opened(server, **more) as embedder:
        assert embedder.profile.name == embedder.card.name == "my-profile"
        server.asked.clear()
        await embedder.embed(["why"], Lane.INTERACTIVE, input_type=InputType.QUESTION)
        await embedder.embed(["It is."], Lane.INTERACTIVE)
    assert [body["input"] for body in server.asked] == [["query: why"], ["passage: It is."]]
    assert server.asked[0]["model"] == "tiny"
    assert server.asked[0]["dimensions"] == 16
    assert server.seen[-1]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "text",
    [
        "The lock keeper wrote down every barge. " * 60,
        "x" * 3_000,
        "\u6e05\u6c34" * 900,
        "\U0001f30a" * 700,
        "." * 1_500 + " end",
        "\n" * 1_200 + "a",
    ],
)
async def test_a_long_text_is_covered_whole_in_windows_that_no_server_cuts(server, text):
    async with opened(server, max_tokens=256, passage_prefix="passage: ") as embedder:
        server.asked.clear()
        [vector] = await embedder.embed([text], Lane.BULK)
    sent = [one for body in server.asked for one in body["input"]]
    assert all(len(one.encode()) <= 254 for one in sent)
    parts = sorted(one.removeprefix("passage: ") for one in sent)
    assert sum(map(len, parts)) == len(text)
    mean = sum(len(one) * vector_of(one) / np.linalg.norm(vector_of(one)) for one in sent)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-4)


async def test_what_a_server_refuses_as_too_long_is_halved(server):
    server.max_chars = 300
    more = {"max_tokens": 256, "refuses_long_texts": True, "question_prefix": "query: "}
    async with opened(server, **more) as embedder:
        server.asked.clear()
        texts = ["word " * 190, "short", "another " * 80]
        vectors = await embedder.embed(texts, Lane.BULK, input_type=InputType.QUESTION)
        [short] = await embedder.embed(["short"], Lane.BULK, input_type=InputType.QUESTION)
        assert vectors[1] @ short > 0.9999
    assert all(one.startswith("query: ") for body in server.asked for one in body["input"])
    assert max(len(one) for body in server.asked for one in body["input"]) > 900


async def test_a_window_without_end_is_refused(server, embedder):
    server.max_chars = 3
    assert (await failure(embedder)).reason == "ENGINE_FAILED"
    server.max_chars = None
    await check_works(embedder)


async def test_a_text_that_the_server_refuses_harms_no_other(server, embedder, caplog):
    server.poison = "a well of poison"
    bad, *good = await asyncio.gather(
        failure(embedder, [server.poison]),
        *(embedder.embed([text], Lane.BULK) for text in TEXTS),
    )
    assert (type(bad), bad.reason) == (InvalidInputError, "TEXT_BREAKS_ENGINE")
    assert [one.shape for one in good] == [(1, DIMENSIONS)] * 3
    assert "poison" not in caplog.text


@pytest.mark.parametrize(
    ("status", "said", "error", "reason"),
    [
        (401, "no", UnavailableError, "ENGINE_REFUSED"),
        (403, "no", UnavailableError, "ENGINE_REFUSED"),
        (404, "model not found", UnavailableError, "ENGINE_REFUSED"),
        (400, "no such argument", UnavailableError, "ENGINE_FAILED"),
        (500, "boom", UnavailableError, "ENGINE_FAILED"),
        (502, "<html>" * 100_000, UnavailableError, "ENGINE_OUTPUT"),
        (302, "", UnavailableError, "ENGINE_FAILED"),
    ],
)
async def test_what_the_server_refuses_has_a_reason(server, embedder, status, said, error, reason):
    server.status, server.said = status, said
    failed = await failure(embedder)
    assert (type(failed), failed.reason) == (error, reason)
    server.status = 200
    await check_works(embedder)


@pytest.mark.parametrize(
    ("status", "said"), [(429, "slow down"), (503, "Loading model"), (503, "The queue is full")]
)
async def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    server, embedder, monkeypatch, status, said
):
    monkeypatch.setattr(upstream, "RETRY_DEFAULT_S", 0.02)
    server.status, server.said, server.refused_times = status, said, 2
    await check_works(embedder)
    assert len(server.asked) == 3


async def test_a_server_that_stays_busy_is_given_up_with_its_time(server, embedder):
    server.status, server.headers = 429, {"Retry-After": "7"}
    refused = await failure(embedder)
    assert (type(refused), refused.reason) == (OverloadedError, "ENGINE_BUSY")
    assert refused.retry_after_s == 7
    assert len(server.asked) == 1
    server.status = 200
    await check_works(embedder)


async def test_a_server_that_stays_away_is_asked_no_more_than_so_often(
    server, embedder, monkeypatch
):
    monkeypatch.setattr(upstream, "RETRY_DEFAULT_S", 0.02)
    server.status = 503
    assert (await failure(embedder)).reason == "ENGINE_FAILED"
    assert len(server.asked) == upstream.ATTEMPTS
    server.status = 200
    await check_works(embedder)


def with_rows(change):
    def twist(answer):
        return answer | {"data": change(answer["data"])}

    return twist


def with_first(value):
    return with_rows(lambda rows: [rows[0] | {"embedding": value}, *rows[1:]])


@pytest.mark.parametrize(
    "twist",
    [
        with_rows(lambda rows: rows[:-1]),
        with_rows(lambda rows: [*rows, rows[0]]),
        with_rows(lambda rows: rows[::-1]),
        with_rows(lambda rows: [rows[0], rows[0], rows[2]]),
        with_rows(lambda rows: []),
        with_rows(lambda rows: None),
        with_rows(lambda rows: {"0": rows[0]}),
        with_rows(lambda rows: [3, "x", None]),
        with_rows(lambda rows: [{"index": at} for at in range(3)]),
        with_rows(
            lambda rows: [one | {"embedding": one["embedding"] + one["embedding"]} for one in rows]
        ),
        with_rows(lambda rows: [one | {"embedding": [1.0] * 8} for one in rows]),
        with_first([1.0] * (DIMENSIONS - 1)),
        with_first([float("nan")] * DIMENSIONS),
        with_first([float("inf")] * DIMENSIONS),
        with_first([1e300] * DIMENSIONS),
        with_first([10**400] * DIMENSIONS),
        with_first([0.0] * DIMENSIONS),
        with_first([None] * DIMENSIONS),
        with_first([[1.0] * DIMENSIONS]),
        with_first("no base64!"),
        with_first("AAAA"),
        with_first({"a": 1}),
        with_first(3),
        lambda answer: [answer],
        lambda answer: {"object": "list"},
        lambda answer: "vectors",
    ],
)
async def test_what_is_not_one_vector_for_each_text_is_none(server, embedder, twist):
    server.twist = twist
    failed = await failure(embedder)
    assert (type(failed), failed.reason) == (UnavailableError, "ENGINE_OUTPUT")
    server.twist = lambda answer: answer
    await check_works(embedder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ENGINE_OUTPUT"),
        (b"<html>", "ENGINE_OUTPUT"),
        (b"\xff\xfe\x00", "ENGINE_OUTPUT"),
        (b"[" * 100_000, "ENGINE_OUTPUT"),
        (b" " * (upstream.BODY_MAX_BYTES + 2), "ENGINE_OUTPUT"),
    ],
)
async def test_what_is_no_json_is_no_vector(server, embedder, content, reason):
    server.before = content
    assert (await failure(embedder)).reason == reason
    server.before = None
    await check_works(embedder)


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_none(server, embedder):
    server.before = gzip.compress(b" " * (4 * upstream.BODY_MAX_BYTES))
    server.headers = {"Content-Encoding": "gzip"}
    assert (await failure(embedder)).reason == "ENGINE_OUTPUT"
    server.before, server.headers = None, {}
    await check_works(embedder)


@pytest.mark.parametrize(
    "twist",
    [
        lambda answer: {"data": answer["data"]},
        lambda answer: answer | {"usage": None},
        lambda answer: answer | {"usage": {"prompt_tokens": "many"}},
        with_rows(lambda rows: [{"embedding": one["embedding"]} for one in rows]),
    ],
)
async def test_what_only_describes_an_answer_may_be_missing(server, embedder, twist):
    server.twist = twist
    await check_works(embedder)


@pytest.mark.parametrize("cut_at", [0, 100])
async def test_an_answer_that_is_cut_off_is_a_failure(server, embedder, cut_at):
    server.cut_at = cut_at
    assert (await failure(embedder)).reason == "ENGINE_FAILED"
    server.cut_at = None
    await check_works(embedder)


async def test_a_server_that_says_nothing_is_given_up(server, embedder, monkeypatch):
    monkeypatch.setattr(upstream, "BATCH_S", 0.2)
    server.pause_s = 30.0
    assert (await failure(embedder)).reason == "ENGINE_FAILED"
    server.pause_s = 0.0
    await check_works(embedder)


async def test_a_server_that_keeps_failing_is_left_alone_for_a_while(server, embedder, monkeypatch):
    monkeypatch.setattr(upstream, "PAUSE_S", 3.0)
    server.status, server.said = 500, "boom"
    for _ in range(upstream.FAILURES_MAX):
        assert (await failure(embedder)).reason == "ENGINE_FAILED"
    before = len(server.seen)
    assert (await failure(embedder)).reason == "ENGINE_UNREACHABLE"
    assert len(server.seen) == before
    server.status = 200
    await asyncio.sleep(1.2)
    # Soon enough to be waited for.
    await check_works(embedder)


async def test_bulk_work_leaves_a_call_to_those_who_wait(server, until):
    async with opened(server, concurrency=3, batch_texts=1) as embedder:
        server.pause_s = 0.4
        bulk = [asyncio.ensure_future(embedder.embed([text], Lane.BULK)) for text in TEXTS * 2]
        await until(lambda: server.running == 2)
        await asyncio.sleep(0.05)
        assert server.running == 2
        await embedder.embed(["why"], Lane.INTERACTIVE)
        assert sum(one.done() for one in bulk) <= 4
        await asyncio.gather(*bulk)


async def test_texts_of_several_callers_share_requests_and_no_request_has_more(server):
    async with opened(server, batch_texts=8) as embedder:
        server.asked.clear()
        calls = [
            embedder.embed([f"{at} {row}" for row in range(5)], Lane.BULK, Owner(f"tenant {at}"))
            for at in range(16)
        ]
        await asyncio.gather(*calls)
    sizes = [len(body["input"]) for body in server.asked]
    assert sum(sizes) == 80
    assert max(sizes) == 8


async def test_a_document_waits_for_no_import_of_another_tenant(server, until):
    async with opened(server, concurrency=2, batch_texts=4) as embedder:
        server.asked.clear()
        server.pause_s = 0.02
        many = [
            asyncio.ensure_future(
                embedder.embed(
                    [f"{at} {row}" for row in range(32)], Lane.BULK, Owner("acme", "big")
                )
            )
            for at in range(4)
        ]
        await until(lambda: len(server.asked) == 1)
        await embedder.embed(["note"], Lane.BULK, Owner("globex", "note"))
        assert len(server.asked) < 8
        await asyncio.gather(*many)


async def test_the_span_of_the_server_is_a_child_of_ours_which_is_one_of_the_batch(
    server, embedder, monkeypatch
):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(engine_spans, "tracer", provider.get_tracer("test"))
    monkeypatch.setattr(batching, "tracer", provider.get_tracer("test"))
    await embedder.embed(TEXTS, Lane.BULK)
    ours, batch = exporter.get_finished_spans()
    assert (ours.name, ours.kind, batch.name) == ("embeddings tiny", SpanKind.CLIENT, "embed batch")
    assert ours.parent.span_id == batch.context.span_id
    sent = server.seen[-1]["traceparent"].split("-")
    assert int(sent[1], 16) == batch.context.trace_id
    assert int(sent[2], 16) == ours.context.span_id
    assert ours.attributes["gen_ai.operation.name"] == "embeddings"
    assert ours.attributes["gen_ai.usage.input_tokens"] == sum(map(len, TEXTS))
    assert not any("well" in str(value) for value in ours.attributes.values())
    assert not trace.get_current_span().get_span_context().is_valid


async def test_leaving_the_service_ends_what_runs(server, monkeypatch, until):
    monkeypatch.setattr(batching, "CLOSE_S", 0.1)
    async with opened(server) as embedder:
        server.pause_s = 30.0
        waiting = asyncio.ensure_future(failure(embedder))
        await until(lambda: server.running == 1)
    assert (await waiting).reason == "SHUTTING_DOWN"
    await until(lambda: not server.running)


async def test_with_its_size_a_server_may_still_be_starting(monkeypatch):
    monkeypatch.setattr(upstream, "RETRY_DEFAULT_S", 0.02)
    settings = EmbeddingSettings(
        engine="openai", url="http://127.0.0.1:1/v1", model="later", dimensions=8, max_tokens=512
    )
    async with open_embedding_engine([settings]) as embedder:
        assert embedder.profile.dimensions == 8
        assert (await failure(embedder)).reason == "ENGINE_UNREACHABLE"


@pytest.mark.parametrize("more", [{}, {"dimensions": 8}, {"max_tokens": 512}])
async def test_without_its_size_a_server_has_to_run(monkeypatch, more):
    monkeypatch.setattr(upstream, "RETRY_DEFAULT_S", 0.02)
    settings = EmbeddingSettings(engine="openai", url="http://127.0.0.1:1/v1", model="a", **more)
    with pytest.raises(FailedPreconditionError) as refused:
        async with open_embedding_engine([settings]):
            pass
    assert refused.value.reason == "ENGINE_NOT_READY"


async def test_a_server_that_does_not_tell_its_window_wants_it_set(server):
    server.models = [{name: value for name, value in MODEL.items() if name != "max_model_len"}]
    with pytest.raises(FailedPreconditionError, match="set `max_tokens`"):
        async with opened(server):
            pass
    async with opened(server, max_tokens=64) as embedder:
        await check_works(embedder)


async def test_a_prefix_that_leaves_no_room_is_refused(server):
    with pytest.raises(FailedPreconditionError) as refused:
        async with opened(server, max_tokens=64, question_prefix="x" * 40):
            pass
    assert refused.value.reason == "ENGINE_ARGUMENTS"


async def test_nothing_of_a_text_is_in_an_error(server, embedder):
    server.status, server.said = 400, json.dumps({"error": {"message": "bad: The well is deep."}})
    failed = await failure(embedder)
    assert isinstance(failed, ServiceError)
    assert not isinstance(failed, InvalidInputError)
    assert "well" not in failed.detail
