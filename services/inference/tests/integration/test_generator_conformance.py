"""What every `Generator` promises; each implementation runs the same suite."""

import asyncio
from contextlib import aclosing

import pytest

from inference.batching import Batcher
from inference.domain import Capability, Lane, ModelKind
from inference.engines.extractive import Extractive
from inference.engines.openai.model import open_model
from inference.generation import (
    CitationMark,
    Finish,
    FinishReason,
    Generation,
    Message,
    Passage,
    Role,
    Sampling,
    Step,
    TextDelta,
)
from inference.ports import Reranker, TokenCounter
from services.inference.tests.generations import ask, said
from services.inference.tests.openai_server import running_openai_server

PASSAGES = [
    "The harbour froze. Nobody had seen the like before.",
    "Caf\u00e9 \U0001f9a2. The well was drilled to a depth of 62 metres.",
]
QUESTION = "How deep is the well?"


@pytest.fixture(params=["extractive", "openai"])
async def generator(request):
    if request.param == "openai":
        async with running_openai_server() as server, open_model(server.url) as model:
            yield model
        return
    engine = request.getfixturevalue("engine")
    async with Batcher(engine) as batcher:
        yield Extractive(batcher, engine)


async def read(generator, request: Generation) -> list[Step]:
    async with aclosing(generator.generate(request)) as steps:
        return [step async for step in steps]


async def test_text_comes_first_and_one_finish_last(generator):
    *steps, finish = await read(generator, ask(QUESTION, PASSAGES))
    assert isinstance(steps[0], TextDelta)
    assert isinstance(finish, Finish)
    assert not any(isinstance(step, Finish) for step in steps)
    assert finish.reason is FinishReason.STOP
    assert said(steps).strip()


async def test_tokens_are_counted(generator):
    finish = (await read(generator, ask(QUESTION, PASSAGES)))[-1]
    assert finish.usage.input_tokens > 0
    assert finish.usage.output_tokens > 0
    assert 0 <= finish.usage.cached_input_tokens <= finish.usage.input_tokens
    assert finish.support is None or 0 <= finish.support <= 1


async def test_quotes_stand_where_they_say(generator):
    request = ask(QUESTION, PASSAGES)
    marks = [one for one in await read(generator, request) if isinstance(one, CitationMark)]
    assert bool(marks) is (Capability.QUOTES in generator.card.capabilities)
    for mark in marks:
        start, end = mark.span
        assert 0 <= start < end <= len(request.passages[mark.passage].text)


@pytest.mark.parametrize(
    "messages",
    [
        [
            Message(role=Role.SYSTEM, parts=["Be brief."]),
            Message(role=Role.USER, parts=["Hello."]),
            Message(role=Role.ASSISTANT, parts=["Good day."]),
            Message(role=Role.USER, parts=[(Passage(text=PASSAGES[1]),), QUESTION]),
        ],
        [Message(role=Role.USER, parts=[QUESTION, (Passage(text=PASSAGES[1], title='a "b"'),)])],
        [Message(role=Role.USER, parts=["\u4f60\u597d \U0001f9a2 \u0639"])],
    ],
)
async def test_a_conversation_of_any_form_is_continued(generator, messages):
    request = Generation(model="", messages=messages, max_output_tokens=64)
    assert isinstance((await read(generator, request))[-1], Finish)


async def test_sampling_stop_and_lane_are_taken(generator):
    sampling = Sampling(temperature=0.0, top_p=0.9, top_k=5, seed=7, presence_penalty=0.5)
    request = ask(QUESTION, PASSAGES, sampling=sampling, stop=["END"], lane=Lane.BULK)
    assert isinstance((await read(generator, request))[-1], Finish)


async def test_an_answer_can_be_left_at_any_step(generator):
    for left_after in range(1, 4):
        async with aclosing(generator.generate(ask(QUESTION, PASSAGES))) as steps:
            for _ in range(left_after):
                await anext(steps)
    assert isinstance((await read(generator, ask(QUESTION, PASSAGES)))[-1], Finish)


async def test_many_answers_at_once_do_not_mix(generator):
    """Each has read its own conversation; a model that only quotes says the same as alone."""
    requests = [ask(QUESTION, PASSAGES), ask(f"{QUESTION} Tell it in metres.", PASSAGES)]
    alone = [await read(generator, request) for request in requests]
    together = await asyncio.gather(*(read(generator, request) for request in requests * 4))
    for steps, own in zip(together, alone * 4, strict=True):
        assert steps[-1].usage.input_tokens == own[-1].usage.input_tokens
        if not generator.card.generative:
            assert steps[:-1] == own[:-1]


async def test_the_card_says_what_it_is_and_what_it_can_do(generator):
    card = generator.card
    assert card.kind is ModelKind.GENERATE
    assert card.name
    assert card.engine
    assert card.description
    assert Capability.GENERATE in card.capabilities
    assert (Capability.QUOTES in card.capabilities) is not card.generative
    assert Capability.EMBED not in card.capabilities


async def test_what_the_card_says_it_can_do_it_does(generator):
    can = generator.card.capabilities
    if Capability.COUNT_TOKENS in can:
        assert isinstance(generator, TokenCounter)
        few, many = await generator.count(["a well", "a well is deep, and the pump is old"])
        assert 0 < few < many
    if Capability.RERANK in can:
        assert isinstance(generator, Reranker)
        frozen, deep = await generator.rerank(QUESTION, PASSAGES)
        assert frozen < deep
