"""What the use cases need done by others."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from chassis.events.delivery import Delivery
from inference.domain import (
    NOBODY,
    EmbeddingProfile,
    InputType,
    Lane,
    ModelCard,
    ModelServer,
    Owner,
    Source,
)
from inference.generation import Generation, Step
from inference.model_definition import Definitions, ModelDefinition

# f32 [texts, dimensions] and f32 [dimensions].
Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float32]


class Model(Protocol):
    """Something that requests name; what it can do are the ports below that it implements."""

    @property
    def card(self) -> ModelCard: ...


@runtime_checkable
class Embedder(Model, Protocol):
    """Turns texts into vectors; every one passes `test_embedder_conformance.py`."""

    @property
    def profile(self) -> EmbeddingProfile: ...

    async def embed(
        self,
        texts: Sequence[str],
        lane: Lane,
        owner: Owner = NOBODY,
        input_type: InputType = InputType.PASSAGE,
    ) -> Matrix:
        """Unit-length vectors, one row per text, in the order given: f32 [texts, dimensions].

        The matrix is the caller's own. A text longer than the model's window is covered whole.
        In bulk, no owner waits for all that another has brought.

        Raises:
            InvalidInputError: the engine fails on one of these texts and works otherwise.
            OverloadedError: the lane's queue is full; retryable.
            UnavailableError: the engine failed or is shutting down; retryable.
        """


@runtime_checkable
class Generator(Model, Protocol):
    """Continues conversations; every one passes `test_generator_conformance.py`."""

    def generate(self, request: Generation) -> AsyncGenerator[Step, None]:
        """The steps of the answer in order, then exactly one `Finish`.

        Closing the generator stops the work of the engine.

        Raises:
            InvalidInputError: CAPABILITY_MISSING, PROMPT_TOO_LONG, REQUEST_REFUSED; as `Embedder`.
            OverloadedError: the engine sheds load; retryable.
            UnavailableError: the engine failed, cannot be reached or is shutting down; retryable.
        """


@runtime_checkable
class Reranker(Model, Protocol):
    """Scores texts."""

    async def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        """How well each text answers the question, in the same order; higher is better.

        Raises:
            InvalidInputError, OverloadedError, UnavailableError: as `Generator`.
        """


@runtime_checkable
class TokenCounter(Model, Protocol):
    """Counts tokens by a model's own tokenizer."""

    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        """The number of tokens of every text, without those that a conversation adds.

        Raises:
            InvalidInputError, OverloadedError, UnavailableError: as `Generator`.
        """


@runtime_checkable
class Remote(Protocol):
    """A model that runs on servers."""

    @property
    def servers(self) -> Sequence[ModelServer]:
        """They, as their latest calls found them; none if it runs in this process."""


@runtime_checkable
class Watched(Protocol):
    """An engine that can die."""

    async def watch(self) -> None:
        """Runs until the engine is dead, and then raises: the process has to start again."""


class DefinitionStore(Protocol):
    """The definitions of loaded models and the aliases, which all replicas share.

    Keys of servers are encrypted in it.

    Raises:
        UnavailableError: BUS_UNAVAILABLE.
        OverloadedError: STREAM_FULL.
    """

    async def read(self) -> Definitions:
        """All of them."""

    async def write(self, definition: ModelDefinition) -> None:
        """Store a definition in place of the one of the same name.

        Raises:
            FailedPreconditionError: CREDENTIALS_OFF, it has a key and there is nothing to encrypt
                it with.
        """

    async def remove(self, name: str) -> None:
        """Remove a definition."""

    async def write_alias(self, alias: str, model: str) -> None:
        """Store an alias in place of the one of the same name."""

    async def remove_alias(self, alias: str) -> None:
        """Remove an alias."""

    def watch(self) -> AsyncIterator[None]:
        """Yields once at the start, and then whenever something may have changed.

        Again a moment after a change: what is read at once may be from before it.
        """


class VectorCache(Protocol):
    """Vectors of chunks that were embedded before; it may lose any at any time.

    It is bounded, and shared by all processes of the service. Vectors belong to a document, and are
    deleted with it.
    """

    async def read(
        self, source: Source, profile: EmbeddingProfile, texts: Sequence[str]
    ) -> Mapping[str, Vector]:
        """The known vectors by text; fewer, or none, while the cache cannot be read."""

    async def write(
        self, source: Source, profile: EmbeddingProfile, vectors: Mapping[str, Vector]
    ) -> None:
        """Keep vectors by text, unless the version was deleted meanwhile; failures are logged."""

    async def forget(self, source: Source) -> None:
        """Delete the vectors of a document, and refuse later ones up to this version.

        Raises:
            UnavailableError: BUS_UNAVAILABLE.
        """

    async def forget_tenant(self, tenant: str) -> None:
        """Delete the vectors of a tenant, and refuse later ones.

        Raises:
            UnavailableError: BUS_UNAVAILABLE.
        """


class DeadLetters(Protocol):
    """Events that this service could not handle; they have text of documents."""

    async def discard_document(self, tenant: str, document: str) -> int:
        """Remove those of a document; returns their number."""

    async def discard_tenant(self, tenant: str) -> int:
        """Remove those of a tenant; returns their number."""


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
