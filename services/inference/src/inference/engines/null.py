"""Hashes instead of vectors, to measure the platform without a model."""

import hashlib
from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from inference.domain import (
    NOBODY,
    Capability,
    EmbeddingProfile,
    InputType,
    Lane,
    ModelCard,
    ModelKind,
    Owner,
    Precision,
)
from inference.engines.extractive import Vocabulary
from inference.engines.sentences import words
from inference.ports import Embedder, Matrix

PROFILE_NAME = "null"
DIMENSIONS = 384


class NullEmbedder(Embedder, Vocabulary):
    """Returns the hash of a text as its vector: equal texts match, all others are unrelated."""

    @property
    @override
    def profile(self) -> EmbeddingProfile:
        return EmbeddingProfile(
            name=PROFILE_NAME,
            model="none",
            dimensions=DIMENSIONS,
            max_tokens=2**31 - 1,
            pooling="hash",
            normalised=True,
            precision=Precision.F32,
        )

    @property
    @override
    def card(self) -> ModelCard:
        return ModelCard(
            name=PROFILE_NAME,
            kind=ModelKind.EMBED,
            engine="null",
            generative=False,
            capabilities=frozenset({Capability.EMBED}),
            description="no model: vectors are hashes, for load measurements only",
            precision=Precision.F32,
            dimensions=DIMENSIONS,
        )

    @override
    async def embed(
        self,
        texts: Sequence[str],
        lane: Lane,
        owner: Owner = NOBODY,
        input_type: InputType = InputType.PASSAGE,
    ) -> Matrix:
        digests = b"".join(hashlib.shake_128(text.encode()).digest(DIMENSIONS) for text in texts)
        # Adds 0.5 so that no vector can be zero.
        vectors = np.frombuffer(digests, np.int8).astype(np.float32) + np.float32(0.5)
        vectors = vectors.reshape(len(texts), DIMENSIONS)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    @override
    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of words of every text, because there is no tokenizer."""
        return [len(words(text)) for text in texts]

    @override
    def rarity(self, word: str) -> float:
        """The same for every word."""
        return 0.5
