"""The interface of embedding engines, and the work that threads do with them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from chassis.base.errors import InvalidInputError, ServiceError
from inference.domain import EmbeddingProfile, InputType, ModelCard
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


def padded_tokens(length: int) -> int:
    """The length of a window in a batch, with padding, in tokens."""
    return -(-length // GRANULE_TOKENS) * GRANULE_TOKENS


def infer(engine: Engine, slot: int, windows: Sequence[Ids]) -> Matrix:
    """Vectors of the windows, each multiplied by the length of its window.

    Raises:
        FloatingPointError: the engine returned a vector without direction.
    """
    lengths = np.array([len(ids) for ids in windows])
    padded = np.zeros((len(windows), padded_tokens(int(lengths.max()))), np.int32)
    for row, ids in zip(padded, windows, strict=True):
        row[: len(ids)] = ids
    vectors = engine.infer(slot, padded)
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise FloatingPointError("a vector is zero or contains a value that is not a number")
    return vectors * lengths.astype(np.float32)[:, None]


def infer_alone(engine: Engine, slot: int, windows: Sequence[Ids]) -> Matrix:
    """`infer` for windows of one caller that failed before, to find out whether they are the cause.

    Raises:
        InvalidInputError: TEXT_BREAKS_ENGINE, the engine works on a text known to be good.
        Exception: the engine also fails on that text.
    """
    try:
        return infer(engine, slot, windows)
    except ServiceError:
        raise
    except Exception as error:
        [[ids]] = engine.tokenize([PROBE], InputType.PASSAGE)
        infer(engine, slot, [ids])
        raise InvalidInputError(
            "TEXT_BREAKS_ENGINE",
            "a text of this request makes the embedding engine fail; change the text",
        ) from error
