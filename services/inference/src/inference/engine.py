"""The interfaces of embedding engines, and what is done with them."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from chassis.base.errors import InvalidInputError, ServiceError
from inference.domain import EmbeddingProfile, InputType, Lane, ModelCard, ModelServer
from inference.ports import Matrix

Ids = npt.NDArray[np.int32]

# Lengths are rounded up to a multiple of this: an engine takes 6 ms to prepare each new shape,
# while multiples of 32 cost 4 % more in padding.
GRANULE_TOKENS = 16

PROBE = "The engine works."


class Engine(Protocol):
    """A blocking engine, called from threads; `slots` batches can run at once, one in each slot.

    The last slot is the express slot: it stays fast while all others are busy.
    """

    @property
    def profile(self) -> EmbeddingProfile: ...

    @property
    def card(self) -> ModelCard: ...

    @property
    def slots(self) -> int: ...

    def tokenize(self, texts: Sequence[str], input_type: InputType) -> Sequence[Sequence[Ids]]:
        """The token ids of every text, in one window, or in several if the text is too long."""

    def infer(self, slot: int, ids: Ids) -> Matrix:
        """Vectors [rows, dimensions] of windows [rows, length] padded with zeros on the right."""


class AsyncEngine(ABC):
    """An engine that works elsewhere: in threads, in another process, or on a server.

    `slots` batches can run at once; the last slot is the express slot, which bulk work never uses.
    """

    @property
    @abstractmethod
    def profile(self) -> EmbeddingProfile: ...

    @property
    @abstractmethod
    def card(self) -> ModelCard: ...

    @property
    @abstractmethod
    def slots(self) -> int: ...

    @abstractmethod
    async def tokenize(
        self, texts: Sequence[str], lane: Lane, input_type: InputType
    ) -> Sequence[Sequence[Ids]]:
        """The ids of every text, in one window, or in several if the text is too long."""

    @abstractmethod
    async def infer(self, slot: int, windows: Sequence[Ids]) -> Matrix:
        """Vectors of windows, f32 [windows, dimensions], of any length.

        Raises:
            OverloadedError, UnavailableError: the engine cannot work now, whatever the texts are.
            Exception: it fails on these windows.
        """

    @property
    def servers(self) -> Sequence[ModelServer]:
        """See `ports.Remote`."""
        return ()

    async def watch(self) -> None:
        """Runs until the engine is dead, and then raises: the process has to start again."""
        await asyncio.Event().wait()

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Gives up what it holds."""


class ThreadedEngine(AsyncEngine):
    """A blocking engine in threads, one for each slot."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inferring = ThreadPoolExecutor(engine.slots, "infer")
        # One thread per lane, so that a question does not wait until 256 long texts are tokenized.
        self._tokenizing = {lane: ThreadPoolExecutor(1, f"tokenize-{lane.value}") for lane in Lane}

    @property
    @override
    def profile(self) -> EmbeddingProfile:
        return self._engine.profile

    @property
    @override
    def card(self) -> ModelCard:
        return self._engine.card

    @property
    @override
    def slots(self) -> int:
        return self._engine.slots

    @override
    async def tokenize(
        self, texts: Sequence[str], lane: Lane, input_type: InputType
    ) -> Sequence[Sequence[Ids]]:
        return await asyncio.get_running_loop().run_in_executor(
            self._tokenizing[lane], self._engine.tokenize, texts, input_type
        )

    @override
    async def infer(self, slot: int, windows: Sequence[Ids]) -> Matrix:
        return await asyncio.get_running_loop().run_in_executor(
            self._inferring, self._engine.infer, slot, pad(windows)
        )

    @override
    def close(self) -> None:
        for threads in (self._inferring, *self._tokenizing.values()):
            threads.shutdown()


def padded_tokens(length: int) -> int:
    """The length of a window in a batch, with padding, in tokens."""
    return -(-length // GRANULE_TOKENS) * GRANULE_TOKENS


def pad(windows: Sequence[Ids]) -> Ids:
    """The windows as rows, padded with zeros on the right."""
    longest = max(len(ids) for ids in windows)
    padded = np.zeros((len(windows), padded_tokens(longest)), np.int32)
    for row, ids in zip(padded, windows, strict=True):
        row[: len(ids)] = ids
    return padded


async def infer(engine: AsyncEngine, slot: int, windows: Sequence[Ids]) -> Matrix:
    """Vectors of the windows, each as long as its window.

    Raises:
        FloatingPointError: the engine returned a vector without direction.
    """
    lengths = np.array([len(ids) for ids in windows], np.float32)
    vectors = await engine.infer(slot, windows)
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise FloatingPointError("a vector is zero or contains a value that is not a number")
    scaled: Matrix = vectors * (lengths / norms)[:, None]
    return scaled


async def infer_alone(engine: AsyncEngine, slot: int, windows: Sequence[Ids]) -> Matrix:
    """`infer` for windows of one caller that failed before, to find out whether they are the cause.

    Raises:
        InvalidInputError: TEXT_BREAKS_ENGINE, the engine works on a text known to be good.
        Exception: the engine also fails on that text.
    """
    try:
        return await infer(engine, slot, windows)
    except ServiceError:
        raise
    except Exception as error:
        [[ids]] = await engine.tokenize([PROBE], Lane.INTERACTIVE, InputType.PASSAGE)
        await infer(engine, slot, [ids])
        raise InvalidInputError(
            "TEXT_BREAKS_ENGINE",
            "a text of this request makes the embedding engine fail; change the text",
        ) from error
