"""What the service does."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import Chunk, ChunksPrepared
from aquifer.ingest.v1.document_pb2 import LANE_INTERACTIVE
from chassis.events.delivery import Delivery
from inference.catalogue import Catalogue
from inference.citation_marks import mark_citations
from inference.domain import (
    CountRequest,
    EmbeddingProfile,
    EmbeddingRequest,
    Lane,
    ModelCard,
    Owner,
    RerankRequest,
)
from inference.generation import Generation, Step
from inference.generation_metrics import measure
from inference.ports import Begin, Matrix


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors and the profile they were computed under."""

    profile: EmbeddingProfile
    vectors: Matrix


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    """Embeds under the profile asked for."""

    catalogue: Catalogue

    async def run(self, request: EmbeddingRequest) -> Embedded:
        """The vectors of the texts.

        Raises:
            NotFoundError: PROFILE_UNKNOWN.
            ServiceError: as `Embedder`.
        """
        embedder = self.catalogue.find_embedder(request.profile)
        vectors = await embedder.embed(
            request.texts, request.lane, request.owner, request.input_type
        )
        return Embedded(embedder.profile, vectors)


@dataclass(frozen=True, slots=True)
class GenerateAnswer:
    """Streams an answer by the model asked for."""

    catalogue: Catalogue

    async def run(self, request: Generation) -> AsyncGenerator[Step, None]:
        """The steps of the answer; closing the generator stops the engine.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING; otherwise as `Generator`.
        """
        generator = self.catalogue.find_generator(request)
        steps = generator.generate(request)
        if generator.card.generative and request.passages:
            steps = mark_citations(steps, len(request.passages))
        async with aclosing(measure(steps, generator.card.name)) as measured:
            async for step in measured:
                yield step


@dataclass(frozen=True, slots=True)
class RerankTexts:
    """Scores texts by the model asked for."""

    catalogue: Catalogue

    async def run(self, request: RerankRequest) -> tuple[str, Sequence[float]]:
        """The model's name, and a score for each text.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING; otherwise as `Reranker`.
        """
        reranker = self.catalogue.find_reranker(request.model)
        return reranker.card.name, await reranker.rerank(request.question, request.texts)


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Counts tokens by the model asked for."""

    catalogue: Catalogue

    async def run(self, request: CountRequest) -> tuple[str, Sequence[int]]:
        """The model's name, and the number of tokens of each text.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
            InvalidInputError: CAPABILITY_MISSING; otherwise as `TokenCounter`.
        """
        counter = self.catalogue.find_counter(request.model)
        return counter.card.name, await counter.count(request.texts)


@dataclass(frozen=True, slots=True)
class ListModels:
    """Every model this process serves, embedding ones first, the default of each kind first."""

    catalogue: Catalogue

    def run(self) -> Sequence[ModelCard]:
        """Their cards."""
        return self.catalogue.cards

    def find(self, name: str) -> ModelCard:
        """The card of one.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
        """
        return self.catalogue.find(name).card


@dataclass(frozen=True, slots=True)
class EmbedChunks:
    """Embeds a batch of chunks and sends it on with its vectors, its text echoed.

    Nothing is stored here: a redelivery sends the same event again.
    """

    begin: Begin
    embed: EmbedTexts
    profile: str

    async def run(self, delivery: Delivery[ChunksPrepared]) -> None:
        """One batch.

        Raises:
            InvalidInputError: no chunk, one of impossible length, or one the engine always fails
                on; a dead letter.
            OverloadedError, UnavailableError: the engine is full or away; the batch waits.
        """
        event = delivery.event
        texts = [_join_context(chunk) for chunk in event.chunks]
        owner = Owner(_share_of(event), event.document)
        request = EmbeddingRequest(profile=self.profile, texts=texts, lane=Lane.BULK, owner=owner)
        done = await self.embed.run(request)
        embedded = ChunksEmbedded(
            tenant=event.tenant,
            prepared=event,
            profile=done.profile.name,
            dimensions=done.profile.dimensions,
            vectors=done.vectors.astype("<f4").tobytes(),
        )
        async with self.begin(event.tenant, [delivery]) as work:
            work.emit(embedded, about=event.document, cause=delivery)


def _share_of(event: ChunksPrepared) -> str:
    """Whom the batch is counted for.

    Interactive documents have their own share: they wait for no import, not even of their tenant,
    and stop none.
    """
    return f"{event.tenant}/interactive" if event.lane == LANE_INTERACTIVE else event.tenant


def _join_context(chunk: Chunk) -> str:
    """The text to embed; query joins it in the same way when it embeds a passage again."""
    context = (" > ".join(chunk.headings), chunk.table_header)
    return "\n".join((*filter(None, context), chunk.text))
