"""Engines for the tests: the real one, loaded once, and one that does what a test asks for."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from inference.domain import EmbeddingProfile, InputType, ModelCard, ModelKind, Precision
from inference.engines import minilm, multilingual
from inference.engines.bert import BertEncoder

DIMENSIONS = 8
WAIT_S = 30.0


class TickingEngine:
    """An `Engine` whose tokens are characters; it records batches, waits and fails as asked.

    A window's vector is a hash of its ids, so a mixed-up row shows. Texts are cut every 64 tokens.
    """

    slots = 3

    def __init__(self) -> None:
        self.batches: list[tuple[int, np.ndarray]] = []
        self.tokenized = 0
        self.input_types: set[InputType] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.poison: str | None = None
        self.error: Exception = RuntimeError("the engine is broken")
        self.profile = EmbeddingProfile(
            name="ticking",
            model="none",
            dimensions=DIMENSIONS,
            max_tokens=64,
            pooling="hash",
            normalised=True,
            precision=Precision.F32,
        )
        self.card = ModelCard(
            name="ticking", kind=ModelKind.EMBED, engine="test", generative=False, description=""
        )

    def tokenize(
        self, texts: Sequence[str], input_type: InputType = InputType.PASSAGE
    ) -> list[list[np.ndarray]]:
        self.tokenized += len(texts)
        self.input_types.add(input_type)
        return [
            [
                np.array([ord(letter) for letter in text[start : start + 64]], np.int32)
                for start in range(0, max(1, len(text)), 64)
            ]
            if text
            else [np.array([1], np.int32)]
            for text in texts
        ]

    def infer(self, slot: int, ids: np.ndarray) -> np.ndarray:
        self.batches.append((slot, ids.copy()))
        if not self.gate.wait(WAIT_S):
            raise TimeoutError("the test never opened the gate")
        if self.poison is not None and self.poison in self.texts(ids):
            raise self.error
        return np.stack([self.vector(row[row > 0]) for row in ids])

    @staticmethod
    def texts(ids: np.ndarray) -> list[str]:
        return ["".join(map(chr, row[row > 0])) for row in ids]

    @staticmethod
    def vector(ids: np.ndarray) -> np.ndarray:
        digest = hashlib.shake_128(ids.astype(np.int32).tobytes()).digest(DIMENSIONS)
        vector = np.frombuffer(digest, np.int8).astype(np.float32) + np.float32(0.5)
        return vector / np.linalg.norm(vector)

    def seen(self) -> list[str]:
        """Every window that reached the engine, batch by batch."""
        return [text for _, ids in self.batches for text in self.texts(ids)]


@pytest.fixture
def ticking() -> TickingEngine:
    return TickingEngine()


@pytest.fixture(scope="session")
def engine() -> BertEncoder:
    """MiniLM in the best precision of this CPU."""
    return minilm.load()


@pytest.fixture(scope="session")
def exact_engine() -> BertEncoder:
    """MiniLM in f32."""
    return minilm.load(streams=1, precision=Precision.F32)


@pytest.fixture(scope="session")
def multilingual_engine() -> BertEncoder:
    """multilingual-e5-small in the best precision of this CPU."""
    return multilingual.load()


@pytest.fixture(scope="session")
def exact_multilingual_engine() -> BertEncoder:
    """multilingual-e5-small in f32."""
    return multilingual.load(streams=1, precision=Precision.F32)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], object]:
    """Waits, at most `WAIT_S`, for something another thread or task brings about."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.001)

    return wait
