"""What the service does."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import Chunk, ChunksPrepared
from aquifer.ingest.v1.document_pb2 import LANE_INTERACTIVE
from chassis.events.delivery import Delivery
from inference.catalogue import Catalogue, ListedModel
from inference.citation_marks import mark_citations
from inference.domain import (
    CountRequest,
    EmbeddingProfile,
    EmbeddingRequest,
    InputType,
    Lane,
    Owner,
    RerankRequest,
    Source,
)
from inference.generation import Generation, Step
from inference.generation_metrics import measure
from inference.ports import Begin, Matrix, Vector, VectorCache
from inference.scripts import is_known


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors and the profile they were computed under.

    `unknown_script` are the positions of questions in a script that the model does not know.
    """

    profile: EmbeddingProfile
    vectors: Matrix
    unknown_script: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    """Embeds under the profile asked for."""

    catalogue: Catalogue

    async def run(self, request: EmbeddingRequest) -> Embedded:
        """The vectors of the texts.

        Raises:
            NotFoundError: PROFILE_UNKNOWN.
            UnavailableError: MODEL_NOT_READY, MODEL_UNLOADED.
            ServiceError: as `Embedder`.
        """
        embedder = self.catalogue.find_embedder(request.profile)
        with self.catalogue.calls.of(embedder):
            vectors = await embedder.embed(
                request.texts, request.lane, request.owner, request.input_type
            )
        unknown: list[int] = []
        if request.input_type is InputType.QUESTION:
            known = [is_known(text, embedder.profile.scripts) for text in request.texts]
            unknown = [position for position, one in enumerate(known) if not one]
        return Embedded(embedder.profile, vectors, unknown)


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
        with self.catalogue.calls.of(generator):
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
        with self.catalogue.calls.of(reranker):
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
        with self.catalogue.calls.of(counter):
            return counter.card.name, await counter.count(request.texts)


@dataclass(frozen=True, slots=True)
class ListModels:
    """Every model of this process, embedding ones first, the default of each kind first."""

    catalogue: Catalogue

    def run(self) -> Sequence[ListedModel]:
        """All of them."""
        return self.catalogue.list()

    def find(self, name: str) -> ListedModel:
        """One of them.

        Raises:
            NotFoundError: MODEL_UNKNOWN.
        """
        return self.catalogue.get(name)


@dataclass(frozen=True, slots=True)
class EmbedChunks:
    """Embeds a batch of chunks and sends it on with its vectors, its text echoed.

    A redelivery sends the same event again. Chunks that an earlier version of the document had, or
    that were embedded before for another reason, are not embedded again while `cache` knows them.
    """

    begin: Begin
    embed: EmbedTexts
    profile: str
    cache: VectorCache | None = None

    async def run(self, delivery: Delivery[ChunksPrepared]) -> None:
        """One batch.

        Raises:
            InvalidInputError: no chunk, one of impossible length, or one the engine always fails
                on; a dead letter.
            OverloadedError, UnavailableError: the engine is full or away; the batch waits.
        """
        event = delivery.event
        request = EmbeddingRequest(
            profile=self.profile,
            texts=[_join_context(chunk) for chunk in event.chunks],
            lane=Lane.BULK,
            owner=Owner(_share_of(event), event.document),
        )
        profile = self.embed.catalogue.find_embedder(self.profile).profile
        source = Source(event.tenant, event.document, event.version)
        known = await self.cache.read(source, profile, request.texts) if self.cache else {}
        new = await self._embed(request, known)
        vectors = {**known, **new}
        embedded = ChunksEmbedded(
            tenant=event.tenant,
            prepared=event,
            profile=profile.name,
            dimensions=profile.dimensions,
            vectors=b"".join(vectors[text].astype("<f4").tobytes() for text in request.texts),
        )
        async with self.begin(event.tenant, [delivery]) as work:
            work.emit(embedded, about=event.document, cause=delivery)
        if self.cache:
            await self.cache.write(source, profile, new)

    async def _embed(
        self, request: EmbeddingRequest, known: Mapping[str, Vector]
    ) -> Mapping[str, Vector]:
        """The vectors that are not known, by text."""
        texts = [text for text in request.texts if text not in known]
        if not texts:
            return {}
        done = await self.embed.run(replace(request, texts=texts))
        return dict(zip(texts, done.vectors, strict=True))


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
