"""The suite of all embedders, for vLLM in this process and for its server; and what only it shows.

The generator of the other tests runs beside the one in this process.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from chassis.base.errors import FailedPreconditionError
from inference.domain import Capability, InputType, Lane
from inference.engine_settings import EmbeddingSettings
from inference.engines.embedders import open_embedding_engine
from inference.generation import Finish
from inference.ports import Embedder
from services.inference.tests.generations import ask
from services.inference.tests.integration.test_embedder_conformance import *  # noqa: F403
from services.inference.tests.integration.test_embedder_conformance import LONG, TEXTS
from tests.vllm.conftest import serving, until
from tests.vllm.tiny_encoder import DIMENSIONS, WINDOW_TOKENS, make_embedder

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

ARGUMENTS = {"enforce_eager": True, "max_num_seqs": 64, "dtype": "float32"}
PREFIXES = {"question_prefix": "query: ", "passage_prefix": "passage: "}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("models") / "tiny-embedder")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def in_process(folder: Path, spans: object) -> AsyncIterator[Embedder]:
    settings = EmbeddingSettings(
        engine="vllm", name="tiny", model=str(folder), arguments=ARGUMENTS, **PREFIXES
    )
    async with open_embedding_engine([settings], otlp_endpoint="grpc://127.0.0.1:1") as embedder:
        yield embedder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder, ["--runner", "pooling", "--enforce-eager", "--dtype", "float32"]) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def of_server(url: str) -> AsyncIterator[Embedder]:
    settings = EmbeddingSettings(engine="openai", url=url, model="tiny", **PREFIXES)
    async with open_embedding_engine([settings]) as embedder:
        yield embedder


@pytest.fixture(params=["process", "server"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return request.getfixturevalue("in_process" if request.param == "process" else "of_server")


async def test_the_size_is_that_of_the_model(embedder):
    profile = embedder.profile
    assert (profile.name, profile.dimensions, profile.max_tokens) == (
        "tiny",
        DIMENSIONS,
        WINDOW_TOKENS,
    )
    assert embedder.card.capabilities == {Capability.EMBED}


async def test_a_question_and_a_passage_have_their_prefixes(embedder):
    passage, question = [
        await embedder.embed(TEXTS[:1], Lane.INTERACTIVE, input_type=one)
        for one in (InputType.PASSAGE, InputType.QUESTION)
    ]
    # A model with random weights: other words at the front change little.
    assert not np.allclose(passage, question, atol=1e-3)
    assert float(passage[0] @ question[0]) > 0.2


async def test_both_ways_give_the_same_vectors(in_process, of_server):
    texts = TEXTS[:3]
    ours, theirs = [await one.embed(texts, Lane.INTERACTIVE) for one in (in_process, of_server)]
    assert ((ours * theirs).sum(axis=1) > 0.9999).all()


async def test_the_end_of_a_long_text_counts(embedder):
    other = LONG[:-200] + "compilers " * 20
    first, second = await embedder.embed([LONG, other], Lane.BULK)
    assert float(first @ second) < 0.99999


async def test_windows_that_the_server_refuses_are_halved(url):
    settings = EmbeddingSettings(
        engine="openai", url=url, model="tiny", refuses_long_texts=True, **PREFIXES
    )
    async with open_embedding_engine([settings]) as embedder:
        vectors = await embedder.embed(["7 " * 2_000, LONG, "a"], Lane.BULK)
        [alone] = await embedder.embed([LONG], Lane.INTERACTIVE)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert float(vectors[1] @ alone) > 0.9999


async def test_it_writes_and_embeds_at_once(engine, in_process):
    async def write() -> object:
        return [step async for step in engine.generate(ask("Hello.", max_output_tokens=200))][-1]

    finish, vectors = await asyncio.gather(
        write(), in_process.embed([f"ship {n}" for n in range(200)], Lane.BULK)
    )
    assert isinstance(finish, Finish)
    assert vectors.shape == (200, DIMENSIONS)


async def test_the_span_of_the_engine_is_a_child_of_ours(in_process, spans):
    spans.clear()
    await in_process.embed(["a well"], Lane.INTERACTIVE)
    await until(lambda: len(spans.get_finished_spans()) == 3)
    by_name = {span.name: span for span in spans.get_finished_spans()}
    ours, theirs = by_name["embeddings tiny"], by_name["llm_request"]
    assert theirs.parent.span_id == ours.context.span_id
    assert ours.parent.span_id == by_name["embed batch"].context.span_id


@pytest.mark.parametrize("more", [{"dimensions": 32}, {"max_tokens": 100_000}])
async def test_settings_that_the_model_cannot_have_are_refused(folder, more):
    settings = EmbeddingSettings(engine="vllm", model=str(folder), arguments=ARGUMENTS, **more)
    with pytest.raises(FailedPreconditionError) as refused:
        async with open_embedding_engine([settings]):
            pass
    assert refused.value.reason in {"ENGINE_ARGUMENTS", "ENGINE_NOT_STARTED"}
