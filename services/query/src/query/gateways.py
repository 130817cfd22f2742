"""Calls inference as this service, for the tenant of the text."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import grpc
import numpy as np
from typing_extensions import override

from aquifer.inference.v1 import inference_service_pb2 as pb
from aquifer.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from chassis.base.errors import NotFoundError, UnavailableError
from chassis.identity.tokens import act_for
from chassis.rpc.channel import use_stream
from query.domain import Delta, Finish, FinishReason, Generated, Matrix, Quote, Vector
from query.profile import Profile
from query.usecases.generator import Generator, Prompt
from query.usecases.ports import Catalogue, Embedder

# Embed is idempotent and short, so it is retried while inference restarts.
RETRIED: Final = ("aquifer.inference.v1.InferenceService/Embed",)
# Together with the upsert of the points, shorter than the minute after which the right to rebuild
# is lost.
BULK_TIMEOUT_S: Final = 25.0
FINISH_REASONS: Final = {
    pb.FINISH_REASON_STOP: FinishReason.STOP,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    pb.FINISH_REASON_NO_ANSWER: FinishReason.NO_ANSWER,
}


class InferenceEmbedder(Embedder):
    """See `Embedder`; the caller closes the channel."""

    def __init__(self, channel: grpc.aio.Channel, profile: Profile) -> None:
        self._stub = InferenceServiceStub(channel)
        self._profile = profile

    @override
    async def embed_question(self, text: str) -> Vector:
        request = pb.EmbedRequest(
            profile=self._profile.name, texts=[text], lane=pb.LANE_INTERACTIVE
        )
        with _translate_unknown(self._profile):
            response = await self._stub.Embed(request)
        row: Vector = self._read(response, rows=1)[0]
        return row

    @override
    async def embed_passages(self, tenant: str, texts: Sequence[str]) -> Matrix:
        request = pb.EmbedRequest(profile=self._profile.name, texts=texts, lane=pb.LANE_BULK)
        with act_for(tenant), _translate_unknown(self._profile):
            response = await self._stub.Embed(request, timeout=BULK_TIMEOUT_S)
        return self._read(response, rows=len(texts))

    def _read(self, response: pb.EmbedResponse, *, rows: int) -> Matrix:
        profile = self._profile
        if (response.profile, response.dimensions) != (profile.name, profile.dimensions):
            raise UnavailableError(
                "PROFILE_MISMATCH",
                f"inference embeds as {response.profile} of {response.dimensions} dimensions",
                profile=response.profile,
                dimensions=response.dimensions,
            )
        return np.frombuffer(response.vectors, dtype="<f4").reshape(rows, profile.dimensions)


@contextmanager
def _translate_unknown(profile: Profile) -> Iterator[None]:
    """A profile in use that inference lacks is a fault of its settings, and not of the call."""
    try:
        yield
    except NotFoundError as error:
        raise UnavailableError(
            "PROFILE_MISMATCH",
            f"inference does not embed under {profile.name}, which is in use",
            profile=profile.name,
        ) from error


class InferenceCatalogue(Catalogue):
    """See `Catalogue`; the caller closes the channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = InferenceServiceStub(channel)

    @override
    async def list_profiles(self) -> Sequence[Profile]:
        listed = await self._stub.ListModels(pb.ListModelsRequest())
        return [
            Profile(name=one.profile, dimensions=one.dimensions)
            for one in listed.models
            if one.kind == pb.MODEL_KIND_EMBED
        ]


class InferenceGenerator(Generator):
    """See `Generator`; the caller closes the channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = InferenceServiceStub(channel)
        self._generative: dict[str, bool] = {}

    @override
    @asynccontextmanager
    async def generate(self, prompt: Prompt) -> AsyncIterator[AsyncIterator[Generated]]:
        request = pb.GenerateRequest(
            model=prompt.model,
            question=prompt.question,
            passages=[
                pb.GenerationPassage(text=passage.text, title=passage.title)
                for passage in prompt.passages
            ],
            max_output_tokens=prompt.max_output_tokens,
        )
        async with use_stream(self._stub.Generate(request)) as responses:
            yield self._read_steps(responses)

    async def _read_steps(
        self, responses: AsyncIterator[pb.GenerateResponse]
    ) -> AsyncIterator[Generated]:
        finish: pb.Finish | None = None
        # Read to the end of the stream: otherwise a successful call would count as cancelled.
        async for response in responses:
            match response.WhichOneof("step"):
                case "delta":
                    yield Delta(text=response.delta.text)
                case "quote":
                    yield _quote(response.quote)
                case "finish":
                    finish = response.finish
        if finish is None:
            raise UnavailableError(
                "INFERENCE_UNAVAILABLE", "inference ended the answer without a finish; ask again"
            )
        yield await self._to_finish(finish)

    async def _to_finish(self, finish: pb.Finish) -> Finish:
        return Finish(
            reason=FINISH_REASONS[finish.reason],
            input_tokens=finish.input_tokens,
            output_tokens=finish.output_tokens,
            model=finish.model,
            generative=await self._is_generative(finish.model),
            confidence=finish.confidence,
        )

    async def _is_generative(self, model: str) -> bool:
        """Whether a model writes text; assumed for a model that inference does not list."""
        if model not in self._generative:
            listed = await self._stub.ListModels(pb.ListModelsRequest())
            self._generative = {one.name: one.generative for one in listed.models}
        return self._generative.get(model, True)


def _quote(quote: pb.Quote) -> Quote:
    return Quote(passage=quote.passage, start=quote.start, end=quote.end, marker=quote.marker)
