"""What an engine is, and the work done with it in threads."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from chassis.base.errors import InvalidInputError, ServiceError
from inference.domain import EmbeddingProfile, ModelCard
from inference.usecases import Matrix

Ids = npt.NDArray[np.int32]

# Lengths are rounded up to this: an engine prepares anew for every new shape (6 ms), while
# multiples of 32 cost 4 % more in padding.
GRANULE_TOKENS = 16

PROBE = "The engine works."


class Engine(Protocol):
    """Blocking work, called from threads; `slots` batches may run at once, one in each slot.

    The last slot is the express slot: it stays quick while all the others are busy.
    """

    @property
    def profile(self) -> EmbeddingProfile: ...

    @property
    def card(self) -> ModelCard: ...

    @property
    def slots(self) -> int: ...

    def tokenize(self, texts: Sequence[str]) -> Sequence[Sequence[Ids]]:
        """Token ids of every text, in one window or, where it is too long for that, in several."""

    def infer(self, slot: int, ids: Ids) -> Matrix:
        """Vectors [rows, dimensions] of windows [rows, length] padded with zeros on the right."""


def padded_tokens(length: int) -> int:
    """Tokens that a window of this length takes in a batch."""
    return -(-length // GRANULE_TOKENS) * GRANULE_TOKENS


def infer(engine: Engine, slot: int, windows: Sequence[Ids]) -> Matrix:
    """Vectors of the windows, each multiplied by its window's length.

    Raises:
        FloatingPointError: the engine computed a vector without direction.
    """
    lengths = np.array([len(ids) for ids in windows])
    padded = np.zeros((len(windows), padded_tokens(int(lengths.max()))), np.int32)
    for row, ids in zip(padded, windows, strict=True):
        row[: len(ids)] = ids
    vectors = engine.infer(slot, padded)
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise FloatingPointError("a vector is zero or holds something that is no number")
    return vectors * lengths.astype(np.float32)[:, None]


def infer_alone(engine: Engine, slot: int, windows: Sequence[Ids]) -> Matrix:
    """`infer` for one caller's windows that failed before: is it them, or the engine?

    Raises:
        InvalidInputError: it is them, since the engine does its work on a text known to be good.
        Exception: whatever the engine raised on that text.
    """
    try:
        return infer(engine, slot, windows)
    except ServiceError:
        raise
    except Exception as error:
        [[ids]] = engine.tokenize([PROBE])
        infer(engine, slot, [ids])
        raise InvalidInputError(
            "TEXT_BREAKS_ENGINE", "a text of this request makes the embedding engine fail"
        ) from error
