"""Inference as query meets it when it fails, over a real connection."""

import asyncio

import grpc
import numpy as np
import pytest
from typing_extensions import override

from aquifer.inference.v1 import inference_service_pb2 as pb
from aquifer.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)
from chassis.base.errors import UnavailableError
from chassis.identity.tokens import send_no_credentials
from chassis.rpc.channel import open_channel
from query.domain import Delta
from query.gateways import InferenceEmbedder, InferenceGenerator
from query.profile import Profile
from query.usecases.generator import Prompt

PROFILE = Profile(name="two-wide", dimensions=2)
PROMPT = Prompt(question="why", passages=[], model="", max_output_tokens=9)


class ScriptedInference(InferenceServiceServicer):
    """Says what a test wrote, and knows when a caller has left."""

    def __init__(self) -> None:
        self.profile = PROFILE.name
        self.steps: list[pb.GenerateResponse] = []
        self.endless = False
        self.reached = asyncio.Event()
        self.left = asyncio.Event()
        self.lists = 0

    @override
    async def Embed(self, request, context):
        rows = np.tile(np.array([1, 0], dtype="<f4"), (len(request.texts), 1))
        return pb.EmbedResponse(profile=self.profile, dimensions=2, vectors=rows.tobytes())

    @override
    async def Generate(self, request, context):
        self.reached.set()
        try:
            for step in self.steps:
                yield step
            while self.endless:
                yield pb.GenerateResponse(delta=pb.Delta(text="more "))
                await asyncio.sleep(0.01)
        finally:
            self.left.set()

    @override
    async def ListModels(self, request, context):
        self.lists += 1
        return pb.ListModelsResponse(models=[pb.Model(name="quoting", generative=False)])


@pytest.fixture
async def inference():
    servicer, server = ScriptedInference(), grpc.aio.server()
    add_InferenceServiceServicer_to_server(servicer, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer
    await server.stop(0)


@pytest.fixture
async def channel(inference):
    address = f"127.0.0.1:{inference.port}"
    async with open_channel(
        address, service="inference", credentials=send_no_credentials
    ) as channel:
        yield channel


def finish(model: str = "quoting") -> pb.GenerateResponse:
    reason = pb.FINISH_REASON_STOP
    return pb.GenerateResponse(finish=pb.Finish(reason=reason, model=model))


async def generate(channel) -> list:
    async with InferenceGenerator(channel).generate(PROMPT) as steps:
        return [step async for step in steps]


async def test_leaving_an_answer_stops_the_engine(inference, channel):
    inference.endless = True
    async with InferenceGenerator(channel).generate(PROMPT) as steps:
        assert await anext(steps) == Delta(text="more ")
        assert not inference.left.is_set()
    await asyncio.wait_for(inference.left.wait(), 20)


async def test_a_cancelled_call_stops_the_engine(inference, channel):
    inference.endless = True
    call = asyncio.create_task(generate(channel))
    await asyncio.wait_for(inference.reached.wait(), 20)
    call.cancel()
    await asyncio.wait_for(inference.left.wait(), 20)
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_an_answer_without_a_finish_is_no_answer(inference, channel):
    inference.steps = [pb.GenerateResponse(delta=pb.Delta(text="half"))]
    with pytest.raises(UnavailableError) as failed:
        await generate(channel)
    assert failed.value.reason == "INFERENCE_UNAVAILABLE"


async def test_whether_a_model_composes_is_asked_once(inference, channel):
    inference.steps = [finish()]
    generator = InferenceGenerator(channel)
    for _ in range(3):
        async with generator.generate(PROMPT) as steps:
            assert [step.generative async for step in steps] == [False]
    assert inference.lists == 1


async def test_a_model_nobody_lists_is_taken_to_compose(inference, channel):
    inference.steps = [finish("unlisted")]
    assert [step.generative for step in await generate(channel)] == [True]


async def test_vectors_of_another_profile_are_refused(inference, channel):
    inference.profile = "another"
    with pytest.raises(UnavailableError) as failed:
        await InferenceEmbedder(channel, PROFILE).embed_question("why")
    assert failed.value.reason == "PROFILE_MISMATCH"


async def test_inference_that_is_away_is_unavailable():
    async with open_channel(
        "127.0.0.1:1", service="inference", credentials=send_no_credentials
    ) as channel:
        for call in (
            InferenceEmbedder(channel, PROFILE).embed_question("why"),
            InferenceEmbedder(channel, PROFILE).embed_passages("acme", ["why"]),
            generate(channel),
        ):
            with pytest.raises(UnavailableError) as failed:
                await call
            assert failed.value.reason == "INFERENCE_UNAVAILABLE"
