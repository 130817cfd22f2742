"""What every `Embedder` promises; each implementation runs the same suite."""

import asyncio

import numpy as np
import pytest

from inference.batching import Batcher
from inference.domain import InputType, Lane, ModelKind, Owner
from inference.engine_settings import EmbeddingSettings
from inference.engines.embedders import open_embedding_engine
from inference.engines.null import NullEmbedder
from services.inference.tests.openai_server import running_openai_server

TEXTS = [
    "The harbour froze twice that winter.",
    "Frost closed the port two times in the cold season.",
    "Compilers translate programs into machine code.",
    "a",
    "\u6e05\u6c34\u6d41\u308c \U0001f30a caf\u00e9 \u0639",
    "[PAD] [CLS] \x00 \t",
]
LONG = "The lock keeper wrote down every barge that passed. " * 157


ENGINES = {"minilm": "engine", "multilingual": "multilingual_engine", "ticking": "ticking"}


@pytest.fixture(params=[*ENGINES, "null", "openai"])
async def embedder(request):
    if request.param == "null":
        yield NullEmbedder()
        return
    if request.param == "openai":
        async with running_openai_server() as server:
            settings = EmbeddingSettings(engine="openai", url=server.url, model="tiny")
            async with open_embedding_engine([settings]) as embedder:
                yield embedder
        return
    engine = request.getfixturevalue(ENGINES[request.param])
    async with Batcher(engine) as batcher:
        yield batcher


async def test_one_unit_vector_a_text(embedder):
    vectors = await embedder.embed(TEXTS, Lane.INTERACTIVE)
    assert vectors.shape == (len(TEXTS), embedder.profile.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_order_is_kept_and_neighbours_do_not_matter(embedder):
    alone = [await embedder.embed([text], Lane.INTERACTIVE) for text in TEXTS]
    backwards = await embedder.embed([*reversed(TEXTS), LONG], Lane.BULK)
    for single, row in zip(alone, backwards[-2::-1], strict=True):
        assert single[0] @ row > 0.9999


async def test_different_texts_differ(embedder):
    vectors = await embedder.embed([*TEXTS[:4], LONG], Lane.BULK)
    likeness = vectors @ vectors.T - np.eye(5)
    assert likeness.max() < 0.99


@pytest.mark.parametrize("input_type", list(InputType))
async def test_what_a_text_is_may_be_told(embedder, input_type):
    vectors = await embedder.embed(TEXTS, Lane.INTERACTIVE, input_type=input_type)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_the_same_text_always_gives_the_same_vector(embedder):
    first, second = await asyncio.gather(*(embedder.embed(TEXTS, Lane.BULK) for _ in range(2)))
    assert ((first * second).sum(axis=1) > 0.99999).all()


async def test_the_matrix_belongs_to_the_caller(embedder):
    first = await embedder.embed(TEXTS[:2], Lane.INTERACTIVE)
    kept = first.copy()
    second = await embedder.embed(TEXTS[2:4], Lane.INTERACTIVE)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    assert np.linalg.norm(second) > 1


async def test_no_text_gives_no_vector(embedder):
    vectors = await embedder.embed([], Lane.BULK)
    assert vectors.shape == (0, embedder.profile.dimensions)


async def test_many_callers_at_once_each_get_their_own(embedder):
    texts = [f"ship number {n} carries {n * 7 % 13} tons of grain" for n in range(40)]
    parts = await asyncio.gather(
        *(
            embedder.embed(texts[at::8], list(Lane)[at % 2], Owner(f"tenant {at % 3}", f"{at}"))
            for at in range(8)
        )
    )
    together = await embedder.embed(texts, Lane.BULK)
    for at, part in enumerate(parts):
        assert ((part * together[at::8]).sum(axis=1) > 0.9999).all()


async def test_the_card_tells_what_the_profile_is(embedder):
    assert embedder.card.kind is ModelKind.EMBED
    assert not embedder.card.generative
    assert embedder.card.name == embedder.profile.name
    assert embedder.profile.normalised
