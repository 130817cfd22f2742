"""What the service opens, by its settings."""

from functools import partial

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
