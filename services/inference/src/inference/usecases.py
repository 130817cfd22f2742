"""What the service does, and what it needs done by others."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import Chunk, ChunksPrepared
from aquifer.ingest.v1.document_pb2 import LANE_INTERACTIVE
from chassis.base.errors import NotFoundError
from chassis.events.delivery import Delivery
from inference.domain import (
    NOBODY,
    EmbeddingProfile,
    EmbeddingRequest,
    Generated,
    Lane,
    ModelCard,
    Owner,
    Question,
)

Matrix = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors; every one passes `test_embedder_conformance.py`."""

    @property
    def profile(self) -> EmbeddingProfile: ...

    @property
    def card(self) -> ModelCard: ...

    async def embed(self, texts: Sequence[str], lane: Lane, owner: Owner = NOBODY) -> Matrix:
        """Unit-length vectors, one row per text, in the order given: f32 [texts, dimensions].

        The matrix is the caller's own. A text longer than the model's window is covered whole.
        In bulk, no owner waits for all that another has brought.

        Raises:
            InvalidInputError: the engine fails on one of these texts and works otherwise.
            OverloadedError: the lane's queue is full; retryable.
            UnavailableError: the engine failed or is shutting down; retryable.
        """


class Generator(Protocol):
    """Answers a question from its passages."""

    @property
    def card(self) -> ModelCard: ...

    def generate(self, question: Question) -> AsyncGenerator[Generated, None]:
        """Deltas and quotes as they are to be read, then exactly one `Finish`.

        A quote follows the delta that holds its text. Closing the generator stops the work.

        Raises:
            OverloadedError: the engine sheds load; retryable.
            UnavailableError: the engine failed or is shutting down; retryable.
        """


class DeadLetters(Protocol):
    """Events that this service could not handle; they have text of documents."""

    async def discard_document(self, tenant: str, document: str) -> int:
        """Remove those of a document; returns their number."""

    async def discard_tenant(self, tenant: str) -> int:
        """Remove those of a tenant; returns their number."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors and the profile they were computed under."""

    profile: EmbeddingProfile
    vectors: Matrix


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    """Embeds under the profile asked for; `embedders` is keyed by profile name."""

    embedders: Mapping[str, Embedder]

    async def run(self, request: EmbeddingRequest) -> Embedded:
        embedder = self.embedders.get(request.profile)
        if embedder is None:
            raise NotFoundError(
                "PROFILE_UNKNOWN",
                f"no embedding profile {request.profile!r} is served here",
                profile=request.profile,
            )
        vectors = await embedder.embed(request.texts, request.lane, request.owner)
        return Embedded(embedder.profile, vectors)


@dataclass(frozen=True, slots=True)
class GenerateAnswer:
    """Streams an answer by the model asked for; `generators` is keyed by model name."""

    generators: Mapping[str, Generator]

    def run(self, question: Question) -> AsyncGenerator[Generated, None]:
        generator = self.generators.get(question.model)
        if generator is None:
            raise NotFoundError(
                "MODEL_UNKNOWN",
                f"no generating model {question.model!r} is served here",
                model=question.model,
            )
        return generator.generate(question)


@dataclass(frozen=True, slots=True)
class ListModels:
    """Every model this process serves, embedding ones first."""

    embedders: Mapping[str, Embedder]
    generators: Mapping[str, Generator]

    def run(self) -> Sequence[ModelCard]:
        served: list[Embedder | Generator] = [*self.embedders.values(), *self.generators.values()]
        return [model.card for model in served]


class Work(Protocol):
    """A unit of work: its events are published when it ends."""

    @property
    def fresh(self) -> Sequence[Delivery[Any]]: ...

    def emit(
        self,
        event: Message,
        *,
        about: str = "",
        key: Sequence[object] = (),
        cause: Delivery[Any] | None = None,
    ) -> None:
        """Publish an event at the end of the work."""


class Begin(Protocol):
    """Begins a unit of work."""

    def __call__(
        self, tenant: str, deliveries: Sequence[Delivery[Any]] = (), /
    ) -> AbstractAsyncContextManager[Work]:
        """Raises, at the end.

        UnavailableError: BUS_UNAVAILABLE.
        OverloadedError: STREAM_FULL.
        """


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
