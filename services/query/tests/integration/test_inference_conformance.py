"""One suite for inference as query needs it: the stand-in of the tests, and the real process."""

from contextlib import AsyncExitStack
from uuid import UUID

import numpy as np
import pytest

from chassis.base.errors import NotFoundError
from chassis.process.authority import remote_authority
from chassis.rpc.channel import open_channel
from query.answer import Delta, Finish, FinishReason, Quote
from query.domain import Passage, Version
from query.gateways import InferenceEmbedder, InferenceGenerator
from query.profile import Profile
from query.question_vectors import QuestionVectors
from query.usecases.generator import Prompt

MINILM = Profile(name="minilm-l6-v2", dimensions=384)


def passage(ordinal: int, text: str) -> Passage:
    return Passage(
        version=Version(document="collections/c/documents/d", number=1),
        ordinal=ordinal,
        chunk_id=UUID(int=ordinal),
        text=text,
        title="A manual",
        start=0,
        end=len(text),
        page=0,
        ingest_trace_id="",
    )


PASSAGES = [
    passage(0, "The impeller of the pump must be replaced after 4,000 hours. Then test it."),
    passage(1, "Grease the bearing of the motor every six months."),
]


@pytest.fixture(params=["stand-in", "process"])
def servers_or_none(request):
    return request.getfixturevalue("servers") if request.param == "process" else None


@pytest.fixture
async def inference(servers_or_none, embedder, generator):
    """An embedder and a generator."""
    servers = servers_or_none
    if servers is None:
        yield embedder, generator
        return
    async with AsyncExitStack() as stack:
        authority = await stack.enter_async_context(
            remote_authority(
                servers.services["auth"].address, servers.keys["service_keys"]["query"]
            )
        )
        channel = await stack.enter_async_context(
            open_channel(
                servers.services["inference"].address,
                service="inference",
                credentials=authority.credentials,
            )
        )
        yield InferenceEmbedder(channel, MINILM, QuestionVectors(0)), InferenceGenerator(channel)


def prompt(passages, **changes) -> Prompt:
    settings = {
        "instructions": "Be brief.",
        "question": "After how many hours must the impeller be replaced?",
        "model": "",
    }
    return Prompt(passages=passages, max_output_tokens=200, **settings | changes)


async def generate(generator, asked: Prompt) -> list:
    async with generator.generate(asked) as steps:
        return [step async for step in steps]


async def test_vectors_have_unit_length_and_the_order_of_their_texts(inference):
    embedder, _ = inference
    texts = [one.text for one in PASSAGES]
    rows = await embedder.embed_passages("acme", texts)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3)
    swapped = await embedder.embed_passages("acme", texts[::-1])
    assert (rows * swapped[::-1]).sum(axis=1).min() > 0.999


async def test_a_text_has_the_same_vector_as_question_and_as_passage(inference):
    embedder, _ = inference
    [question] = await embedder.embed_questions("acme", ["impeller wear"])
    [row] = await embedder.embed_passages("acme", ["impeller wear"])
    assert question.ndim == 1
    assert float(question @ row) > 0.999


async def test_texts_about_the_same_lie_closer(inference):
    embedder, _ = inference
    [question] = await embedder.embed_questions("acme", ["replace the impeller of the pump"])
    near, far = await embedder.embed_passages("acme", [one.text for one in PASSAGES])
    assert float(question @ near) > float(question @ far)


async def test_an_answer_quotes_what_it_was_shown_and_finishes_once(inference):
    _, generator = inference
    *steps, finish = await generate(generator, prompt(PASSAGES))
    assert isinstance(finish, Finish)
    assert finish.reason is FinishReason.STOP
    assert 0 <= finish.confidence <= 1
    assert (finish.input_tokens > 0, finish.output_tokens > 0) == (True, True)
    assert not finish.generative
    assert isinstance(steps[0], Delta)
    quotes = [step for step in steps if isinstance(step, Quote)]
    assert quotes
    for quote in quotes:
        assert 0 <= quote.start < quote.end <= len(PASSAGES[quote.passage].text)
        assert quote.marker in "".join(step.text for step in steps if isinstance(step, Delta))


async def test_without_passages_there_is_no_answer_and_it_says_so(inference):
    _, generator = inference
    *steps, finish = await generate(generator, prompt([]))
    assert finish.reason is FinishReason.NO_ANSWER
    assert "".join(step.text for step in steps)


async def test_a_model_nobody_has_is_unknown(inference):
    _, generator = inference
    with pytest.raises(NotFoundError) as refused:
        await generate(generator, prompt(PASSAGES, model="no-such-model"))
    assert refused.value.reason == "MODEL_UNKNOWN"


async def test_an_answer_may_be_left_at_any_step(inference):
    _, generator = inference
    async with generator.generate(prompt(PASSAGES)) as steps:
        assert isinstance(await anext(steps), Delta)
