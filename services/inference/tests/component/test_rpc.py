"""What the methods say over the wire, by the real model where it matters."""

import asyncio

import grpc
import numpy as np
import pytest

from aquifer.inference.v1 import generation_pb2, lane_pb2
from aquifer.inference.v1 import inference_service_pb2 as pb
from inference.domain import InputType, Lane

from .conftest import failure, question

PASSAGES = [
    "The harbour froze. Nobody had seen the like before.",
    "Caf\u00e9 \U0001f9a2. The well was drilled to a depth of 62 metres.",
]
QUESTION = "How deep is the well?"


def vectors(response):
    rows = np.frombuffer(response.vectors, "<f4")
    return rows.reshape(-1, response.dimensions)


async def steps(service, text, passages=PASSAGES, **more):
    call = service.stub.Generate(question(text, passages, **more), **service.caller())
    return [step async for step in call]


async def test_vectors_come_back_in_order_as_the_engine_made_them(service, batcher):
    texts = ["a well", "a much longer text about pumps and their bearings", "a well"]
    answer = await service.stub.Embed(pb.EmbedRequest(texts=texts), **service.caller())
    assert (answer.profile, answer.dimensions) == ("minilm-l6-v2", 384)
    got = vectors(answer)
    wanted = await batcher.embed(texts, Lane.BULK)
    np.testing.assert_allclose(got, wanted, atol=0.02)
    np.testing.assert_allclose(got[0], got[2], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


async def test_the_engine_is_told_what_the_texts_are(ticking_service, ticking):
    for told, wanted in (
        (pb.INPUT_TYPE_UNSPECIFIED, InputType.PASSAGE),
        (pb.INPUT_TYPE_PASSAGE, InputType.PASSAGE),
        (pb.INPUT_TYPE_QUESTION, InputType.QUESTION),
    ):
        request = pb.EmbedRequest(texts=["a well"], input_type=told)
        await ticking_service.stub.Embed(request, **ticking_service.caller())
        assert ticking.input_types == {wanted}
        ticking.input_types.clear()


async def test_a_tenant_does_not_wait_for_all_that_another_sent(
    ticking_service, ticking_batcher, ticking, until
):
    def embed(tenant, texts):
        request = pb.EmbedRequest(texts=texts, lane=lane_pb2.LANE_BULK)
        call = ticking_service.stub.Embed(request, **ticking_service.caller(tenant=tenant))
        return asyncio.ensure_future(call)

    ticking.gate.clear()
    many = [embed("globex", ["x" * 60] * 256) for _ in range(10)]
    await until(lambda: ticking_batcher.waiting_texts(Lane.BULK) == 2560)
    one = embed("acme", ["one line"])
    await until(lambda: ticking.tokenized == 2561)
    await asyncio.sleep(0.2)
    ticking.gate.set()
    await asyncio.gather(one, *many)
    batches = [ticking.texts(ids) for _, ids in ticking.batches]
    assert next(at for at, texts in enumerate(batches) if "one line" in texts) < 8


async def test_an_answer_is_streamed_with_its_quotes_and_one_finish(service):
    got = await steps(service, QUESTION)
    mark = next(step.citation for step in got if step.WhichOneof("step") == "citation")
    assert mark.passage == 1
    text = PASSAGES[1][mark.quote.start : mark.quote.end]
    assert text.endswith("The well was drilled to a depth of 62 metres.")
    said = "".join(step.delta.text for step in got)
    assert f"{text} {mark.marker}" in said
    assert [step.WhichOneof("step") for step in got].count("finish") == 1
    finish = got[-1].finish
    assert (finish.reason, finish.model) == (generation_pb2.FINISH_REASON_STOP, "extractive")
    assert 0.35 <= finish.support <= 1
    assert finish.usage.input_tokens > finish.usage.output_tokens > 0


async def test_what_the_passages_do_not_say_is_not_answered(service):
    got = await steps(service, "Who painted the Sistine Chapel?")
    assert [step.WhichOneof("step") for step in got] == ["delta", "finish"]
    assert got[-1].finish.reason == generation_pb2.FINISH_REASON_NO_ANSWER


async def test_the_bound_on_an_answer_is_kept(service):
    [*_, last] = await steps(service, QUESTION, max_output_tokens=6)
    assert last.finish.reason == generation_pb2.FINISH_REASON_LENGTH
    assert last.finish.usage.output_tokens <= 6


async def test_texts_are_scored_and_counted(service):
    request = pb.RerankRequest(question=QUESTION, texts=PASSAGES)
    ranked = await service.stub.Rerank(request, **service.caller())
    assert ranked.model == "extractive"
    assert ranked.scores[0] < ranked.scores[1]
    counted = await service.stub.CountTokens(
        pb.CountTokensRequest(texts=["a well", "a well is deep"]), **service.caller()
    )
    assert (counted.model, list(counted.counts)) == ("extractive", [2, 4])


async def test_models_say_what_they_are(service):
    listed = await service.stub.ListModels(pb.ListModelsRequest(), **service.caller())
    embedding, generating = listed.models
    assert (embedding.profile, embedding.dimensions) == ("minilm-l6-v2", 384)
    assert embedding.precision in {"bf16", "f32"}
    assert (embedding.licence, embedding.context_tokens) == ("Apache-2.0", 512)
    assert list(embedding.capabilities) == [pb.CAPABILITY_EMBED]
    assert embedding.device
    assert (generating.name, generating.generative, generating.profile) == ("extractive", False, "")
    assert pb.CAPABILITY_QUOTES in generating.capabilities
    for model in listed.models:
        request = pb.GetModelRequest(name=model.name)
        assert await service.stub.GetModel(request, **service.caller()) == model


@pytest.mark.parametrize(
    ("method", "request_", "expected"),
    [
        ("Embed", pb.EmbedRequest(), ("INVALID_ARGUMENT", "TEXT_COUNT")),
        ("Embed", pb.EmbedRequest(texts=[""]), ("INVALID_ARGUMENT", "TEXT_LENGTH")),
        ("Embed", pb.EmbedRequest(texts=["a"], profile="x"), ("NOT_FOUND", "PROFILE_UNKNOWN")),
        ("Rerank", pb.RerankRequest(texts=["a"]), ("INVALID_ARGUMENT", "QUESTION_LENGTH")),
        ("Rerank", pb.RerankRequest(question="a"), ("INVALID_ARGUMENT", "TEXT_COUNT")),
        (
            "Rerank",
            pb.RerankRequest(question="a", texts=["a"], model="x"),
            ("NOT_FOUND", "MODEL_UNKNOWN"),
        ),
        ("CountTokens", pb.CountTokensRequest(texts=[""]), ("INVALID_ARGUMENT", "TEXT_LENGTH")),
        ("GetModel", pb.GetModelRequest(name="x"), ("NOT_FOUND", "MODEL_UNKNOWN")),
    ],
)
async def test_what_can_not_be_done_is_refused_with_a_reason(
    ticking_service, method, request_, expected
):
    call = getattr(ticking_service.stub, method)(request_, **ticking_service.caller())
    assert await failure(call) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (generation_pb2.GenerateRequest(), ("INVALID_ARGUMENT", "MESSAGES_INVALID")),
        (
            generation_pb2.GenerateRequest(messages=[generation_pb2.Message()]),
            ("INVALID_ARGUMENT", "MESSAGES_INVALID"),
        ),
        (question(" "), ("INVALID_ARGUMENT", "MESSAGES_INVALID")),
        (question("a", PASSAGES * 33), ("INVALID_ARGUMENT", "PASSAGE_COUNT")),
        (question("a", [""]), ("INVALID_ARGUMENT", "TEXT_LENGTH")),
        (
            question("a", sampling=generation_pb2.Sampling(temperature=-1)),
            ("INVALID_ARGUMENT", "SAMPLING_RANGE"),
        ),
        (
            question("a", output=generation_pb2.OutputFormat(regex="(")),
            ("INVALID_ARGUMENT", "OUTPUT_FORMAT_INVALID"),
        ),
        (
            question("a", output=generation_pb2.OutputFormat(json_schema="{}")),
            ("INVALID_ARGUMENT", "CAPABILITY_MISSING"),
        ),
        (
            question("a", tools=[generation_pb2.Tool(name="a")]),
            ("INVALID_ARGUMENT", "CAPABILITY_MISSING"),
        ),
        (question("a", stop=[""]), ("INVALID_ARGUMENT", "STOP_INVALID")),
        (question("a", model="x"), ("NOT_FOUND", "MODEL_UNKNOWN")),
        (question("a", model="minilm-l6-v2"), ("NOT_FOUND", "MODEL_UNKNOWN")),
        (question("x" * 4_001), ("INVALID_ARGUMENT", "PROMPT_TOO_LONG")),
    ],
)
async def test_what_can_not_be_answered_is_refused_with_a_reason(
    ticking_service, request_, expected
):
    call = ticking_service.stub.Generate(request_, **ticking_service.caller())
    assert await failure(call.read()) == expected


async def test_every_method_wants_its_scope(ticking_service):
    stub, caller = ticking_service.stub, ticking_service.caller("search")
    calls = (
        stub.Embed(pb.EmbedRequest(texts=["a"]), **caller),
        stub.Generate(question("a"), **caller).read(),
        stub.Rerank(pb.RerankRequest(question="a", texts=["a"]), **caller),
        stub.CountTokens(pb.CountTokensRequest(texts=["a"]), **caller),
        stub.ListModels(pb.ListModelsRequest(), **caller),
        stub.GetModel(pb.GetModelRequest(name="a"), **caller),
    )
    assert [(await failure(call))[0] for call in calls] == ["PERMISSION_DENIED"] * 6


async def test_a_text_that_breaks_the_engine_is_the_callers_to_change(ticking_service, ticking):
    ticking.poison = "bad"
    call = ticking_service.stub.Embed(pb.EmbedRequest(texts=["bad"]), **ticking_service.caller())
    assert await failure(call) == ("INVALID_ARGUMENT", "TEXT_BREAKS_ENGINE")
    call = ticking_service.stub.Embed(pb.EmbedRequest(texts=["good"]), **ticking_service.caller())
    assert vectors(await call).shape == (1, 8)


async def test_a_caller_who_hangs_up_stops_the_work(
    ticking_service, ticking_batcher, ticking, until
):
    ticking.gate.clear()
    request = question(QUESTION, [f"The well number {n} is deep. " for n in range(9)])
    call = ticking_service.stub.Generate(request, **ticking_service.caller())
    await until(lambda: ticking.batches)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    await until(lambda: ticking_batcher.waiting_texts(Lane.INTERACTIVE) == 0)
    assert call.cancelled()
    assert await call.code() is grpc.StatusCode.CANCELLED
    ticking.gate.set()
