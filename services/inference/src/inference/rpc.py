"""`InferenceService`, and the scope that its methods need."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.inference.v1 import inference_service_pb2 as pb
from aquifer.inference.v1.inference_service_pb2_grpc import InferenceServiceServicer
from chassis.identity.tokens import caller
from chassis.rpc.server import Access, any_of
from inference.domain import (
    EmbeddingRequest,
    Finish,
    FinishReason,
    GenerationDelta,
    Lane,
    ModelCard,
    ModelKind,
    Owner,
    Passage,
    Question,
    Quote,
)
from inference.usecases import EmbedTexts, GenerateAnswer, ListModels

ACCESS: Access = {
    f"aquifer.inference.v1.InferenceService/{method}": any_of("models")
    for method in ("Embed", "Generate", "ListModels")
}
MAX_OUTPUT_TOKENS_DEFAULT = 512
LANES = {pb.LANE_BULK: Lane.BULK}
FINISH_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.NO_ANSWER: pb.FINISH_REASON_NO_ANSWER,
}
KINDS = {ModelKind.EMBED: pb.MODEL_KIND_EMBED, ModelKind.GENERATE: pb.MODEL_KIND_GENERATE}


@dataclass(frozen=True, kw_only=True)
class InferenceRpc(InferenceServiceServicer):
    """`InferenceService` on top of the use cases; converts messages and contains no rules."""

    embed: EmbedTexts
    generate: GenerateAnswer
    models: ListModels
    default_profile: str
    default_model: str

    @override
    async def Embed(
        self, request: pb.EmbedRequest, context: ServicerContext[Any, Any]
    ) -> pb.EmbedResponse:
        """Vectors of texts in the same order; interactive unless the lane is bulk."""
        done = await self.embed.run(
            EmbeddingRequest(
                profile=request.profile or self.default_profile,
                texts=list(request.texts),
                lane=LANES.get(request.lane, Lane.INTERACTIVE),
                # Separate from the tenant's documents: those can wait on the bus, a call has a
                # deadline.
                owner=Owner(f"{caller().tenant}/calls"),
            )
        )
        return pb.EmbedResponse(
            profile=done.profile.name,
            dimensions=done.profile.dimensions,
            vectors=done.vectors.astype("<f4").tobytes(),
        )

    @override
    async def Generate(
        self, request: pb.GenerateRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Streams an answer; the text of a quote is followed by its marker."""
        question = Question(
            model=request.model or self.default_model,
            text=request.question,
            passages=[
                Passage(index=index, text=passage.text)
                for index, passage in enumerate(request.passages)
            ],
            max_output_tokens=request.max_output_tokens or MAX_OUTPUT_TOKENS_DEFAULT,
        )
        quotes = 0
        async with aclosing(self.generate.run(question)) as steps:
            async for step in steps:
                match step:
                    case GenerationDelta():
                        yield pb.GenerateResponse(delta=pb.Delta(text=step.text))
                    case Quote():
                        quotes += 1
                        marker = f"[{quotes}]"
                        yield pb.GenerateResponse(delta=pb.Delta(text=f" {marker}"))
                        yield pb.GenerateResponse(quote=_quote(step, marker))
                    case Finish():
                        yield pb.GenerateResponse(finish=_finish(step, question.model))

    @override
    async def ListModels(
        self, request: pb.ListModelsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """The models of this process and their engines."""
        return pb.ListModelsResponse(models=[_model(card) for card in self.models.run()])


def _quote(quote: Quote, marker: str) -> pb.Quote:
    return pb.Quote(passage=quote.passage, start=quote.start, end=quote.end, marker=marker)


def _finish(finish: Finish, model: str) -> pb.Finish:
    return pb.Finish(
        reason=FINISH_REASONS[finish.reason],
        input_tokens=finish.usage.input_tokens,
        output_tokens=finish.usage.output_tokens,
        model=model,
        confidence=finish.confidence or 0.0,
    )


def _model(card: ModelCard) -> pb.Model:
    return pb.Model(
        name=card.name,
        kind=KINDS[card.kind],
        generative=card.generative,
        engine=card.engine,
        precision=card.precision.value if card.precision else "",
        dimensions=card.dimensions or 0,
        profile=card.name if card.kind is ModelKind.EMBED else "",
    )
