"""What the service opens, by its settings."""

from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError

from aquifer.inference.v1 import generation_pb2
from aquifer.inference.v1 import inference_service_pb2 as pb
from inference.app import build
from inference.engines import embedders, minilm
from inference.settings import EMBEDDERS
from services.inference.tests.openai_server import DIMENSIONS, running_openai_server

from .conftest import failure, question, settings_for


async def test_without_a_model_none_is_loaded_and_everything_answers(bus, open_with, monkeypatch):
    monkeypatch.delattr(minilm, "load")
    service = await open_with(partial(build, settings=settings_for(bus, embedder="null")))
    listed = await service.stub.ListModels(pb.ListModelsRequest(), **service.caller())
    assert [model.name for model in listed.models] == ["null", "extractive"]
    vectors = await service.stub.Embed(pb.EmbedRequest(texts=["a", "b"]), **service.caller())
    assert (vectors.profile, len(vectors.vectors)) == ("null", 2 * 384 * 4)
    request = question("a well", ["A pump."])
    steps = [step async for step in service.stub.Generate(request, **service.caller())]
    assert steps[-1].WhichOneof("step") == "finish"


async def test_with_the_model_it_is_the_default_of_its_kind(bus, open_with):
    service = await open_with(partial(build, settings=settings_for(bus)))
    listed = await service.stub.ListModels(pb.ListModelsRequest(), **service.caller())
    assert [model.name for model in listed.models] == ["minilm-l6-v2", "extractive"]


async def test_further_embedders_answer_calls_that_name_their_profile(bus, open_with):
    settings = settings_for(bus, embedder="null", more_embedders="minilm,null")
    service = await open_with(partial(build, settings=settings))
    listed = await service.stub.ListModels(pb.ListModelsRequest(), **service.caller())
    assert [one.profile for one in listed.models if one.profile] == ["null", "minilm-l6-v2"]
    for profile, used in (("", "null"), ("minilm-l6-v2", "minilm-l6-v2")):
        request = pb.EmbedRequest(profile=profile, texts=["a well"])
        response = await service.stub.Embed(request, **service.caller())
        assert (response.profile, response.dimensions) == (used, 384)


async def test_the_multilingual_one_alone_answers_in_its_languages(bus, open_with):
    settings = settings_for(bus, embedder="multilingual")
    service = await open_with(partial(build, settings=settings))
    listed = await service.stub.ListModels(pb.ListModelsRequest(), **service.caller())
    assert [model.name for model in listed.models] == ["multilingual-e5-small-q4", "extractive"]
    assert (listed.models[0].licence, listed.models[0].context_tokens) == ("MIT", 512)
    passages = ["Der Brunnen ist 62 Meter tief.", "Das Dach wurde im Mai gedeckt."]

    async def ask(text: str) -> Any:
        call = service.stub.Generate(question(text, passages), **service.caller())
        return [step async for step in call]

    steps = await ask("Wie tief ist der Brunnen?")
    marks = [step.citation for step in steps if step.WhichOneof("step") == "citation"]
    assert [mark.passage for mark in marks] == [0]
    assert steps[-1].finish.reason == generation_pb2.FINISH_REASON_STOP
    [_, last] = await ask("Who painted the Sistine Chapel?")
    assert last.finish.reason == generation_pb2.FINISH_REASON_NO_ANSWER


def test_every_embedder_of_the_settings_can_be_opened():
    assert set(embedders.EMBEDDERS) == EMBEDDERS


def test_an_unknown_embedder_is_refused_at_start(bus):
    with pytest.raises(ValidationError, match="no embedder is called word2vec"):
        settings_for(bus, more_embedders="minilm,word2vec")


def test_a_server_needs_its_address(bus):
    with pytest.raises(ValidationError, match="needs an http\\(s\\) URL: AQUIFER_ENGINE_URL"):
        settings_for(bus, engine="openai", engine_url="localhost:8000")


async def test_a_model_of_a_server_is_the_default_and_the_quoting_one_stays(bus, open_with):
    async with running_openai_server() as server:
        settings = settings_for(bus, embedder="null", engine="openai", engine_url=server.url)
        service = await open_with(partial(build, settings=settings))
        listed = await service.stub.ListModels(pb.ListModelsRequest(), **service.caller())
        assert [model.name for model in listed.models] == ["null", "tiny", "extractive"]
        steps = [
            step
            async for step in service.stub.Generate(
                question("How deep is the well?", ["It is deep."]), **service.caller()
            )
        ]
        text = "".join(step.delta.text for step in steps)
        [mark] = [step.citation for step in steps if step.WhichOneof("step") == "citation"]
        assert text == "The well is deep [1]."
        assert (mark.passage, mark.marker, mark.HasField("quote")) == (0, "[1]", False)
        finish = steps[-1].finish
        assert (finish.model, finish.generative, finish.revision) == ("tiny", True, "r1")
        assert not finish.HasField("support")
        assert finish.usage.cached_input_tokens == 16
        times = finish.times
        assert 0 < times.first_step.ToMicroseconds() <= times.total.ToMicroseconds()
        request = question("deep well", ["The well is deep."], model="extractive")
        *_, last = [step async for step in service.stub.Generate(request, **service.caller())]
        assert last.finish.model == "extractive"


async def test_a_caller_who_leaves_stops_the_server(bus, open_with, until):
    async with running_openai_server(words=["more "] * 10_000, pause_s=0.01) as server:
        settings = settings_for(bus, embedder="null", engine="openai", engine_url=server.url)
        service = await open_with(partial(build, settings=settings))
        call = service.stub.Generate(question("why"), **service.caller())
        await call.read()
        assert server.running == 1
        call.cancel()
        await until(lambda: not server.running)


@pytest.mark.parametrize(
    ("engines", "why"),
    [
        ([{"engine": "openai"}], "needs an http"),
        ([{"engine": "vllm"}], "needs a model"),
        ([{"engine": "ollama", "url": "http://x/v1"}], "Input should be"),
        ([{"engine": "openai", "url": "http://x/v1", "wait": 1}], "Extra inputs"),
        ([{"engine": "openai", "url": "http://x/v1", "weight": -1}], "greater than or equal"),
        (
            [{"engine": "openai", "url": "http://x/v1", "api_key_variable": "NOT_SET_ANYWHERE"}],
            "NOT_SET_ANYWHERE",
        ),
    ],
)
def test_engines_that_cannot_be_are_refused_at_start(bus, engines, why):
    with pytest.raises(ValidationError, match=why):
        settings_for(bus, engines=engines)


def test_one_engine_and_a_list_of_them_exclude_each_other(bus):
    engine = {"engine": "openai", "url": "http://x/v1"}
    with pytest.raises(ValidationError, match="set one of them"):
        settings_for(bus, engines=[engine], engine="openai", engine_url="http://x/v1")


async def test_engines_are_listed_by_name_and_share_one(bus, open_with, monkeypatch):
    monkeypatch.setenv("KEY_OF_THE_SECOND", "secret")
    async with (
        running_openai_server(words=["first"]) as first,
        running_openai_server(words=["second"]) as second,
        running_openai_server(words=["other"]) as other,
    ):
        engines = [
            {"engine": "openai", "name": "chat", "url": first.url, "weight": 0},
            {
                "engine": "openai",
                "name": "chat",
                "url": second.url,
                "api_key_variable": "KEY_OF_THE_SECOND",
            },
            {"engine": "openai", "url": other.url},
        ]
        settings = settings_for(bus, embedder="null", engines=engines)
        assert "secret" not in repr(settings)
        service = await open_with(partial(build, settings=settings))
        listed = await service.stub.ListModels(pb.ListModelsRequest(), **service.caller())
        assert [model.name for model in listed.models] == ["null", "chat", "tiny", "extractive"]

        async def ask(**more: str) -> str:
            call = service.stub.Generate(question("why", **more), **service.caller())
            return "".join([step.delta.text async for step in call])

        assert await ask() == "second"
        assert second.seen[-1]["authorization"] == "Bearer secret"
        second.status = 500
        assert await ask() == "first"
        assert "authorization" not in first.seen[-1]
        assert await ask(model="tiny") == "other"


async def test_embedders_and_rerankers_of_servers_stand_beside_the_local_ones(
    bus, open_with, monkeypatch
):
    monkeypatch.setenv("KEY_OF_THE_EMBEDDER", "secret")
    async with running_openai_server() as server:
        engine = {"engine": "openai", "url": server.url, "model": "tiny"}
        embedding = {
            **engine,
            "name": "my-profile",
            "question_prefix": "query: ",
            "api_key_variable": "KEY_OF_THE_EMBEDDER",
        }
        settings = settings_for(
            bus,
            embedder="my-profile",
            more_embedders="null",
            embedding_engines=[embedding],
            rerankers=[{**engine, "name": "cross"}],
        )
        service = await open_with(partial(build, settings=settings))
        stub, caller = service.stub, service.caller()
        listed = await stub.ListModels(pb.ListModelsRequest(), **caller)
        assert [(one.name, one.profile) for one in listed.models] == [
            ("my-profile", "my-profile"),
            ("null", "null"),
            ("extractive", ""),
            ("cross", ""),
        ]
        assert listed.models[0].dimensions == DIMENSIONS
        assert listed.models[3].kind == pb.MODEL_KIND_RERANK
        assert list(listed.models[3].capabilities) == [pb.CAPABILITY_RERANK]
        request = pb.EmbedRequest(texts=["why"], input_type=pb.INPUT_TYPE_QUESTION)
        response = await stub.Embed(request, **caller)
        assert (response.profile, response.dimensions) == ("my-profile", DIMENSIONS)
        assert server.asked[-1]["input"] == ["query: why"]
        assert server.seen[-1]["authorization"] == "Bearer secret"
        texts = ["It froze.", "The well is deep."]
        for model, used in (("cross", "cross"), ("", "extractive")):
            rerank = pb.RerankRequest(model=model, question="How deep is the well?", texts=texts)
            ranked = await stub.Rerank(rerank, **caller)
            assert ranked.model == used
            assert ranked.scores[0] < ranked.scores[1]
        rerank = pb.RerankRequest(model="my-profile", question="why", texts=texts)
        assert await failure(stub.Rerank(rerank, **caller)) == (
            "INVALID_ARGUMENT",
            "CAPABILITY_MISSING",
        )
        for name in ("cross", "my-profile"):
            call = stub.Generate(question("why", model=name), **caller)
            assert await failure(call.read()) == ("NOT_FOUND", "MODEL_UNKNOWN")


async def test_a_server_that_is_away_stops_no_quote(bus, open_with):
    async with running_openai_server() as server:
        embedding = {"engine": "openai", "url": server.url, "model": "tiny"}
        settings = settings_for(bus, embedder="tiny", embedding_engines=[embedding])
        service = await open_with(partial(build, settings=settings))
        server.status = 500
        call = service.stub.Embed(pb.EmbedRequest(texts=["a"]), **service.caller())
        assert await failure(call) == ("UNAVAILABLE", "ENGINE_FAILED")
        request = question("How deep is the well?", ["The well is 62 metres deep."])
        steps = [step async for step in service.stub.Generate(request, **service.caller())]
        assert any(step.WhichOneof("step") == "citation" for step in steps)


SERVER = {"engine": "openai", "url": "http://x/v1"}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"embedding_engines": [SERVER]}, "needs a `model`, or a `name`"),
        ({"embedding_engines": [SERVER | {"model": "a:b"}]}, "set `name`, of letters"),
        (
            {
                "embedding_engines": [SERVER | {"model": "m"}],
                "rerankers": [SERVER | {"model": "x/m"}],
            },
            "two models are called m",
        ),
        ({"rerankers": [SERVER | {"name": "extractive"}]}, "two models are called extractive"),
        ({"embedder": "m"}, "no embedder is called m; there are minilm, multilingual, null"),
        ({"embedding_engines": [{"engine": "vllm"}]}, "needs a model"),
        ({"embedding_engines": [SERVER | {"model": "m", "concurrency": 1}]}, "greater than or"),
        ({"embedding_engines": [SERVER | {"model": "m", "max_tokens": 8}]}, "has to be 32 or more"),
        ({"rerankers": [SERVER | {"model": "m", "dimensions": 8}]}, "Extra inputs"),
    ],
)
def test_pooling_engines_that_cannot_be_are_refused_at_start(bus, more, why):
    with pytest.raises(ValidationError, match=why):
        settings_for(bus, **more)
