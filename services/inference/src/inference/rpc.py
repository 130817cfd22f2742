"""`InferenceService`, and the scope that its methods need."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.duration_pb2 import Duration
from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.inference.v1 import generation_pb2, lane_pb2
from aquifer.inference.v1 import inference_service_pb2 as pb
from aquifer.inference.v1.inference_service_pb2_grpc import InferenceServiceServicer
from chassis.identity.tokens import caller
from chassis.rpc.server import Access, any_of
from inference.coalesce import coalesce
from inference.domain import (
    CountRequest,
    EmbeddingRequest,
    InputType,
    Lane,
    Owner,
    RerankRequest,
)
from inference.generation_messages import to_generation, to_response
from inference.model_messages import to_model
from inference.usecases import CountTokens, EmbedTexts, GenerateAnswer, ListModels, RerankTexts

ACCESS: Access = {
    f"aquifer.inference.v1.InferenceService/{method}": any_of("models")
    for method in ("Embed", "Generate", "Rerank", "CountTokens", "ListModels", "GetModel")
}
LANES = {lane_pb2.LANE_BULK: Lane.BULK}
INPUT_TYPES = {pb.INPUT_TYPE_QUESTION: InputType.QUESTION}


@dataclass(frozen=True, kw_only=True)
class InferenceRpc(InferenceServiceServicer):
    """`InferenceService` on top of the use cases; converts messages and contains no rules."""

    embed: EmbedTexts
    generate: GenerateAnswer
    rerank: RerankTexts
    count: CountTokens
    models: ListModels
    default_profile: str

    @override
    async def Embed(
        self, request: pb.EmbedRequest, context: ServicerContext[Any, Any]
    ) -> pb.EmbedResponse:
        """Vectors of texts in the same order; interactive passages unless told otherwise."""
        done = await self.embed.run(
            EmbeddingRequest(
                profile=request.profile or self.default_profile,
                texts=list(request.texts),
                lane=LANES.get(request.lane, Lane.INTERACTIVE),
                # Separate from the tenant's documents: those can wait on the bus, a call has a
                # deadline.
                owner=Owner(f"{caller().tenant}/calls"),
                input_type=INPUT_TYPES.get(request.input_type, InputType.PASSAGE),
            )
        )
        return pb.EmbedResponse(
            profile=done.profile.name,
            dimensions=done.profile.dimensions,
            vectors=done.vectors.astype("<f4").tobytes(),
            unknown_script=done.unknown_script,
        )

    @override
    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        """Streams an answer; what is ready within 10 ms travels as one message."""
        started_s = time.monotonic()
        first_s = 0.0
        generation = replace(to_generation(request), tenant=caller().tenant)
        catalogue = self.generate.catalogue
        card = catalogue.card_of(catalogue.find_generator(generation))
        async with aclosing(coalesce(self.generate.run(generation))) as packs:
            async for pack in packs:
                first_s = first_s or time.monotonic() - started_s
                for step in pack:
                    response = to_response(step, card)
                    if response.HasField("finish"):
                        times = response.finish.times
                        times.first_step.CopyFrom(_duration(first_s))
                        times.total.CopyFrom(_duration(time.monotonic() - started_s))
                    yield response

    @override
    async def Rerank(
        self, request: pb.RerankRequest, context: ServicerContext[Any, Any]
    ) -> pb.RerankResponse:
        """Scores of texts in the same order."""
        model, scores = await self.rerank.run(
            RerankRequest(model=request.model, question=request.question, texts=list(request.texts))
        )
        return pb.RerankResponse(model=model, scores=scores)

    @override
    async def CountTokens(
        self, request: pb.CountTokensRequest, context: ServicerContext[Any, Any]
    ) -> pb.CountTokensResponse:
        """Numbers of tokens of texts in the same order."""
        model, counts = await self.count.run(
            CountRequest(model=request.model, texts=list(request.texts))
        )
        return pb.CountTokensResponse(model=model, counts=counts)

    @override
    async def ListModels(
        self, request: pb.ListModelsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """The models of this process and their engines."""
        return pb.ListModelsResponse(models=[to_model(one) for one in self.models.run()])

    @override
    async def GetModel(
        self, request: pb.GetModelRequest, context: ServicerContext[Any, Any]
    ) -> pb.Model:
        """One model."""
        return to_model(self.models.find(request.name))


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
