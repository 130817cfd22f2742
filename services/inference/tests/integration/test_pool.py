"""Several engines behind one name."""

import base64
import random
from collections import Counter

import numpy as np
import pytest

from chassis.base.errors import FailedPreconditionError, InvalidInputError, UnavailableError
from inference.domain import Capability, Lane
from inference.engine_settings import EmbeddingSettings, RerankerSettings
from inference.engines.embedders import open_embedding_engine
from inference.engines.openai.model import open_model
from inference.engines.pool import GeneratorPool, Member, WeightedEngines
from inference.engines.registry import open_reranker
from services.inference.tests.generations import ask, said
from services.inference.tests.openai_server import MODEL, chunk, running_openai_server, vector_of

QUESTION = ask("How deep is the well?")


@pytest.fixture
async def servers():
    async with (
        running_openai_server(words=["first"]) as first,
        running_openai_server(words=["second"]) as second,
        running_openai_server(words=["spare"]) as spare,
    ):
        yield first, second, spare


@pytest.fixture
async def pool(servers):
    first, second, spare = servers
    async with (
        open_model(first.url, name="chat") as one,
        open_model(second.url, name="chat") as two,
        open_model(spare.url, name="chat") as three,
    ):
        members = [
            Member(engine=one, weight=3),
            Member(engine=two, weight=1),
            Member(engine=three, weight=0),
        ]
        yield GeneratorPool(WeightedEngines(members, random.Random(7)))


async def read(pool) -> str:
    return said([step async for step in pool.generate(QUESTION)])


async def test_calls_are_shared_by_weight(pool, servers):
    counts = Counter([await read(pool) for _ in range(200)])
    assert counts["spare"] == 0
    assert 120 < counts["first"] < 175
    assert {body["model"] for server in servers[:2] for body in server.asked} == {"tiny"}
    assert pool.card.name == "chat"


async def test_a_call_goes_on_to_an_engine_that_works(pool, servers):
    first, second, _ = servers
    first.status = 503
    assert {await read(pool) for _ in range(20)} == {"second"}
    second.status = 429
    assert await read(pool) == "spare"


async def test_when_all_fail_the_last_reason_is_told(pool, servers):
    for server in servers:
        server.status = 500
    with pytest.raises(UnavailableError) as failed:
        await read(pool)
    assert failed.value.reason == "ENGINE_FAILED"


async def test_an_answer_that_has_begun_is_not_begun_again(pool, servers):
    for server in servers:
        server.before = chunk({"content": "half"})
    steps = pool.generate(QUESTION)
    await anext(steps)
    with pytest.raises(UnavailableError):
        async for _ in steps:
            pass
    assert sum(len(server.asked) for server in servers) == 1


async def test_a_request_that_is_wrong_is_asked_once(pool, servers):
    for server in servers:
        server.status = 400
    with pytest.raises(InvalidInputError):
        await read(pool)
    assert sum(len(server.asked) for server in servers) == 1


async def test_a_pool_can_do_what_all_of_its_engines_can(servers):
    first, second, _ = servers
    second.models = [MODEL | {"owned_by": "library", "max_model_len": 512}]
    async with (
        open_model(first.url, name="chat") as one,
        open_model(second.url, name="chat") as two,
    ):
        pool = GeneratorPool(
            WeightedEngines([Member(engine=each, weight=1) for each in (one, two)])
        )
        assert Capability.COUNT_TOKENS in one.card.capabilities
        assert Capability.COUNT_TOKENS not in pool.card.capabilities
        assert pool.card.context_tokens == 512
        alone = GeneratorPool(WeightedEngines([Member(engine=one, weight=1)]))
        assert await alone.count(["a b"]) == [2]


async def test_the_health_of_each_server_is_told(pool, servers):
    first, _, _ = servers
    assert [one.healthy for one in pool.servers] == [True] * 3
    assert [one.weight for one in pool.servers] == [3, 1, 0]
    assert pool.servers[0].address == f"127.0.0.1:{first.port}"
    first.status = 503
    while pool.servers[0].healthy:
        await read(pool)
    assert [one.healthy for one in pool.servers] == [False, True, True]
    first.status = 200
    for _ in range(20):
        await read(pool)
    assert [one.healthy for one in pool.servers] == [True] * 3


def another_model(answer):
    for one in answer["data"]:
        vector = np.frombuffer(base64.b64decode(one["embedding"]), "<f4")
        one["embedding"] = base64.b64encode(vector[::-1].tobytes()).decode()
    return answer


TEXTS = ["The well is deep.", "A pump.", "The harbour froze."]


def settings_of(kind, server, **more):
    return kind(engine="openai", name="shared", model="tiny", url=server.url, **more)


async def test_vectors_are_computed_by_several_servers(servers):
    engines = [settings_of(EmbeddingSettings, one) for one in servers[:2]]
    spare = settings_of(EmbeddingSettings, servers[2], weight=0)
    async with open_embedding_engine([*engines, spare]) as embedder:
        for server in servers:
            server.asked.clear()
        wanted = np.stack([vector_of(text) for text in TEXTS])
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)

        async def check() -> list[int]:
            for lane in Lane:
                for _ in range(10):
                    np.testing.assert_allclose(await embedder.embed(TEXTS, lane), wanted, atol=1e-6)
            return [len(server.asked) for server in servers]

        first, second, third = await check()
        assert first > 2
        assert second > 2
        assert not third
        servers[0].status = servers[1].status = 429
        servers[0].headers = servers[1].headers = {"retry-after": "30"}
        assert (await check())[2]
        assert embedder.card.description.startswith("3 engines; ")
        assert [one.weight for one in embedder.servers] == [1, 1, 0]


async def test_servers_with_different_vectors_are_no_pool(servers):
    async def refuse(**changed) -> str:
        first, second = (settings_of(EmbeddingSettings, one) for one in servers[:2])
        with pytest.raises(FailedPreconditionError) as refused:
            async with open_embedding_engine([first, second.model_copy(update=changed)]):
                pass
        assert refused.value.reason == "ENGINE_ARGUMENTS"
        return refused.value.detail

    assert "different vectors" in await refuse(dimensions=8)
    assert "must have the same question_prefix" in await refuse(question_prefix="q: ")
    assert "must all be servers" in await refuse(engine="vllm")
    servers[1].twist = another_model
    assert "different vectors" in await refuse()


async def test_texts_are_scored_by_a_server_that_works(servers):
    engines = [settings_of(RerankerSettings, one) for one in servers]
    async with open_reranker(engines) as reranker:
        scores = await reranker.rerank("How deep is the well?", TEXTS)
        servers[0].status = servers[1].status = 500
        for _ in range(5):
            assert await reranker.rerank("How deep is the well?", TEXTS) == scores
        assert reranker.card.name == "shared"
