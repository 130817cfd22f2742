"""Several engines behind one name."""

import random
from collections import Counter

import pytest

from chassis.base.errors import InvalidInputError, UnavailableError
from inference.domain import Capability
from inference.engines.openai.model import open_model
from inference.engines.pool import EnginePool, Member
from services.inference.tests.generations import ask, said
from services.inference.tests.openai_server import MODEL, chunk, running_openai_server

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
            Member(generator=one, weight=3),
            Member(generator=two, weight=1),
            Member(generator=three, weight=0),
        ]
        yield EnginePool(members, random.Random(7))


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
        pool = EnginePool([Member(generator=each, weight=1) for each in (one, two)])
        assert Capability.COUNT_TOKENS in one.card.capabilities
        assert Capability.COUNT_TOKENS not in pool.card.capabilities
        assert pool.card.context_tokens == 512
        alone = EnginePool([Member(generator=one, weight=1)])
        assert await alone.count(["a b"]) == [2]
