"""A cross-encoder, by vLLM in this process and by its server."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from chassis.base.errors import FailedPreconditionError, InvalidInputError
from inference.domain import Capability
from inference.engine_settings import RerankerSettings
from inference.engines.registry import open_reranker
from inference.ports import Reranker
from tests.vllm.conftest import serving
from tests.vllm.tiny_encoder import WINDOW_TOKENS, make_cross_encoder, make_embedder

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

ARGUMENTS = {"enforce_eager": True, "max_num_seqs": 64, "dtype": "float32"}
QUESTION = "How deep is the well?"
TEXTS = ["The harbour froze.", "The well is deep.", "A pump.", "\u6e05\u6c34 \U0001f30a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("models") / "tiny-reranker")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def in_process(folder: Path) -> AsyncIterator[Reranker]:
    settings = RerankerSettings(engine="vllm", name="tiny", model=str(folder), arguments=ARGUMENTS)
    async with open_reranker([settings]) as reranker:
        yield reranker


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder, ["--runner", "pooling", "--enforce-eager", "--dtype", "float32"]) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def of_server(url: str) -> AsyncIterator[Reranker]:
    settings = RerankerSettings(engine="openai", url=url, model="tiny")
    async with open_reranker([settings]) as reranker:
        yield reranker


@pytest.fixture(params=["process", "server"])
def reranker(request: pytest.FixtureRequest) -> Reranker:
    return request.getfixturevalue("in_process" if request.param == "process" else "of_server")


async def test_each_text_has_its_own_score(reranker):
    scores = await reranker.rerank(QUESTION, TEXTS)
    assert len({round(score, 6) for score in scores}) == len(TEXTS)
    assert await reranker.rerank(QUESTION, TEXTS[::-1]) == pytest.approx(scores[::-1], abs=1e-5)
    for text, score in zip(TEXTS, scores, strict=True):
        assert await reranker.rerank(QUESTION, [text]) == pytest.approx([score], abs=1e-5)


async def test_both_ways_give_the_same_scores(in_process, of_server):
    ours, theirs = [await one.rerank(QUESTION, TEXTS) for one in (in_process, of_server)]
    assert ours == pytest.approx(theirs, abs=1e-4)


async def test_a_long_text_is_scored_by_its_best_part(reranker):
    text = "The lock keeper wrote down every barge that passed. " * 150
    short, long = await reranker.rerank(QUESTION, [TEXTS[0], text])
    assert 0 <= short <= 1
    assert 0 <= long <= 1


async def test_a_question_that_leaves_no_room_is_refused(reranker):
    with pytest.raises(InvalidInputError) as refused:
        await reranker.rerank("well " * WINDOW_TOKENS, TEXTS)
    assert refused.value.reason == "PROMPT_TOO_LONG"


async def test_the_card_says_what_it_can_do(reranker):
    assert reranker.card.capabilities == {Capability.RERANK}
    assert (reranker.card.name, reranker.card.context_tokens) == ("tiny", WINDOW_TOKENS)


async def test_a_model_that_only_embeds_is_refused(tmp_path):
    folder = make_embedder(tmp_path / "embedder")
    with pytest.raises(FailedPreconditionError) as refused:
        settings = RerankerSettings(engine="vllm", model=str(folder), arguments=ARGUMENTS)
        async with open_reranker([settings]):
            pass
    assert refused.value.reason == "ENGINE_NOT_STARTED"
