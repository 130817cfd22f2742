"""A reranker of a server: what it is sent, and what comes of a server that fails."""

from contextlib import asynccontextmanager

import pytest

from chassis.base.errors import (
    FailedPreconditionError,
    InvalidInputError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from inference.domain import Capability, ModelKind
from inference.engine_settings import RerankerSettings
from inference.engines.openai import upstream
from inference.engines.registry import open_reranker
from inference.ports import Reranker
from services.inference.tests.openai_server import MODEL, running_openai_server

QUESTION = "How deep is the well?"
TEXTS = ["The harbour froze.", "The well is deep.", "A well."]


@pytest.fixture
async def server():
    async with running_openai_server() as server:
        yield server


@asynccontextmanager
async def opened(server, **more):
    settings = RerankerSettings(engine="openai", url=server.url, model="tiny", **more)
    async with open_reranker([settings]) as reranker:
        yield reranker


@pytest.fixture
async def reranker(server):
    async with opened(server) as reranker:
        yield reranker


async def failure(reranker) -> ServiceError:
    with pytest.raises(ServiceError) as failed:
        await reranker.rerank(QUESTION, TEXTS)
    return failed.value


async def check_works(reranker) -> None:
    assert await reranker.rerank(QUESTION, TEXTS) == [0.2, 0.8, 0.2]


async def test_each_text_has_its_score_in_the_order_of_the_texts(server, reranker):
    await check_works(reranker)
    assert server.asked[-1] == {
        "model": "tiny",
        "query": QUESTION,
        "documents": TEXTS,
        "top_n": 3,
    }
    assert isinstance(reranker, Reranker)
    assert reranker.card.kind is ModelKind.RERANK
    assert reranker.card.capabilities == {Capability.RERANK}


async def test_a_long_text_is_scored_by_its_best_part(server):
    async with opened(server, max_tokens=128, batch_texts=4) as reranker:
        text = "Nothing here. " * 40 + "The well is deep. " + "Nor here. " * 40
        scores = await reranker.rerank(QUESTION, [TEXTS[0], text])
    assert scores[1] > 0.5 > scores[0]
    assert {len(body["documents"]) for body in server.asked} <= {1, 2, 3, 4}
    sent = [text for body in server.asked for text in body["documents"]]
    assert max(len((QUESTION + text).encode()) for text in sent) <= 128


async def test_a_question_that_leaves_no_room_is_refused(server):
    async with opened(server, max_tokens=64) as reranker:
        with pytest.raises(InvalidInputError) as refused:
            await reranker.rerank("why " * 20, TEXTS)
        assert refused.value.reason == "PROMPT_TOO_LONG"


@pytest.mark.parametrize(
    ("status", "said", "error", "reason"),
    [
        (400, "bad", InvalidInputError, "REQUEST_REFUSED"),
        (400, "maximum context length", InvalidInputError, "PROMPT_TOO_LONG"),
        (401, "no", UnavailableError, "ENGINE_REFUSED"),
        (404, "no", UnavailableError, "ENGINE_REFUSED"),
        (500, "boom", UnavailableError, "ENGINE_FAILED"),
        (502, "<html>" * 100_000, UnavailableError, "ENGINE_OUTPUT"),
    ],
)
async def test_what_the_server_refuses_has_a_reason(server, reranker, status, said, error, reason):
    server.status, server.said = status, said
    failed = await failure(reranker)
    assert (type(failed), failed.reason) == (error, reason)
    server.status = 200
    await check_works(reranker)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    server, reranker, monkeypatch, status
):
    monkeypatch.setattr(upstream, "RETRY_DEFAULT_S", 0.02)
    server.status, server.refused_times = status, 2
    await check_works(reranker)


async def test_a_server_that_stays_busy_is_given_up_with_its_time(server, reranker):
    server.status, server.headers = 429, {"Retry-After": "7"}
    refused = await failure(reranker)
    assert (type(refused), refused.retry_after_s) == (OverloadedError, 7)
    server.status = 200
    await check_works(reranker)


def with_results(change):
    return lambda answer: {"results": change(answer["results"])}


@pytest.mark.parametrize(
    "twist",
    [
        with_results(lambda rows: rows[:-1]),
        with_results(lambda rows: [*rows, rows[0]]),
        with_results(lambda rows: [rows[0], rows[0], rows[1]]),
        with_results(lambda rows: [rows[0], rows[1], rows[2] | {"index": 7}]),
        with_results(lambda rows: [rows[0], rows[1], rows[2] | {"index": []}]),
        with_results(lambda rows: [rows[0], rows[1], rows[2] | {"relevance_score": None}]),
        with_results(lambda rows: [one | {"relevance_score": float("nan")} for one in rows]),
        with_results(lambda rows: [one | {"relevance_score": 10**400} for one in rows]),
        with_results(lambda rows: [one | {"relevance_score": "high"} for one in rows]),
        with_results(lambda rows: [1, 2, 3]),
        with_results(lambda rows: None),
        lambda answer: {},
        lambda answer: [answer],
    ],
)
async def test_what_is_not_one_score_for_each_text_is_none(server, reranker, twist):
    server.twist = twist
    failed = await failure(reranker)
    assert (type(failed), failed.reason) == (UnavailableError, "ENGINE_OUTPUT")
    server.twist = lambda answer: answer
    await check_works(reranker)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"<html>", "ENGINE_OUTPUT"), (b" " * (upstream.BODY_MAX_BYTES + 2), "ENGINE_OUTPUT")],
)
async def test_what_is_no_json_is_no_score(server, reranker, content, reason):
    server.before = content
    assert (await failure(reranker)).reason == reason
    server.before = None
    await check_works(reranker)


async def test_an_answer_that_is_cut_off_or_never_comes_is_a_failure(server, reranker, monkeypatch):
    server.cut_at = 20
    assert (await failure(reranker)).reason == "ENGINE_FAILED"
    server.cut_at = None
    monkeypatch.setattr(upstream, "BATCH_S", 0.2)
    server.pause_s = 30.0
    assert (await failure(reranker)).reason == "ENGINE_FAILED"
    server.pause_s = 0.0
    await check_works(reranker)


async def test_a_server_that_does_not_tell_its_window_wants_it_set(server):
    server.models = [{name: value for name, value in MODEL.items() if name != "max_model_len"}]
    with pytest.raises(FailedPreconditionError, match="set `max_tokens`"):
        async with opened(server):
            pass
