"""What the service opens, by its settings."""

from functools import partial

import pytest
from pydantic import ValidationError

from aquifer.inference.v1 import inference_service_pb2 as pb
from inference.app import build
from inference.engines import minilm

from .conftest import settings_for


async def test_without_a_model_none_is_loaded_and_everything_answers(bus, open_with, monkeypatch):
    monkeypatch.delattr(minilm, "load")
    service = await open_with(partial(build, settings=settings_for(bus, embedder="null")))
    listed = await service.stub.ListModels(pb.ListModelsRequest(), **service.caller())
    assert [model.name for model in listed.models] == ["null", "extractive"]
    vectors = await service.stub.Embed(pb.EmbedRequest(texts=["a", "b"]), **service.caller())
    assert (vectors.profile, len(vectors.vectors)) == ("null", 2 * 384 * 4)
    request = pb.GenerateRequest(question="a well", passages=[pb.GenerationPassage(text="A pump.")])
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


def test_an_unknown_embedder_is_refused_at_start(bus):
    with pytest.raises(ValidationError, match="no embedder is called word2vec"):
        settings_for(bus, more_embedders="minilm,word2vec")
