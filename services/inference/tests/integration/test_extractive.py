"""Answers that are quotes, by the real model."""

import asyncio
import itertools
import re
from collections import Counter

import pytest

from chassis.base.errors import InvalidInputError
from inference.batching import Batcher
from inference.domain import InputType, Lane, ModelKind
from inference.engines.extractive import EMBEDDED_MAX, LEAD_IN, QUOTES_MAX, REFUSAL, Extractive
from inference.generation import CitationMark, Finish, FinishReason, TextDelta
from services.inference.tests import generations
from services.inference.tests.generations import quotes, said

from .answers import LIBRARY, OWN_ANSWERABLE, OWN_FOREIGN, OWN_PASSAGES, STORKS

STORK_QUESTION = "Why do storks avoid flying over the sea?"


@pytest.fixture
async def batcher(engine):
    async with Batcher(engine) as batcher:
        yield batcher


@pytest.fixture
def generator(engine, batcher):
    return Extractive(batcher, engine)


def ask(text, passages=OWN_PASSAGES, **more):
    return generations.ask(text, passages, **more)


async def answer(generator, request):
    return [step async for step in generator.generate(request)]


async def find_quotes(generator, request):
    return quotes(await answer(generator, request), request)


async def test_every_quote_stands_where_it_says(generator):
    for text, _ in OWN_ANSWERABLE:
        request = ask(text)
        steps = await answer(generator, request)
        found = quotes(steps, request)
        assert 1 <= len(found) <= QUOTES_MAX
        for quote in found:
            assert f"\n{quote.text} {quote.marker}" in said(steps)


async def test_offsets_count_characters_not_bytes(generator):
    passage = "\U0001f9a2 \u00dcber Z\u00fcrich \u2014 caf\u00e9s! " + STORKS
    [first, *_] = await find_quotes(generator, ask(STORK_QUESTION, [passage]))
    assert first.text.startswith("They avoid long flights over the sea")
    assert first.text.endswith("over land only.")


async def test_nothing_is_said_but_lead_in_and_quotes(generator):
    request = ask(STORK_QUESTION)
    steps = await answer(generator, request)
    found = quotes(steps, request)
    assert said(steps) == "\n".join([LEAD_IN, *(f"{one.text} {one.marker}" for one in found)])
    assert [one.marker for one in found] == [f"[{number + 1}]" for number in range(len(found))]


async def test_each_quote_follows_its_own_text_and_the_end_comes_last(generator):
    request = ask("How is rye bread baked?")
    steps = await answer(generator, request)
    assert isinstance(steps[0], TextDelta)
    for before, step in itertools.pairwise(steps):
        if isinstance(step, CitationMark):
            [quote] = quotes([step], request)
            assert before.text.endswith(f"{quote.text} {quote.marker}")
    assert [type(step) for step in steps].count(Finish) == 1
    assert isinstance(steps[-1], Finish)
    assert steps[-1].reason is FinishReason.STOP


async def test_the_best_passage_is_read_first_whatever_its_place(generator):
    for passages in itertools.islice(itertools.permutations(OWN_PASSAGES), 0, 120, 24):
        [first, *_] = await find_quotes(generator, ask(STORK_QUESTION, passages))
        assert "over land only" in first.text


async def test_the_answer_is_in_the_quotes(generator):
    hits = 0
    for text, wanted in OWN_ANSWERABLE:
        hits += any(wanted in quote.text for quote in await find_quotes(generator, ask(text)))
    assert hits >= len(OWN_ANSWERABLE) - 1


async def test_a_foreign_question_is_refused_in_fixed_words(generator):
    steps = await answer(generator, ask(OWN_FOREIGN[0]))
    assert said(steps) == REFUSAL
    assert [type(step) for step in steps] == [TextDelta, Finish]
    assert steps[-1].reason is FinishReason.NO_ANSWER
    assert steps[-1].support < 0.35


@pytest.mark.parametrize("passages", [[], [" "], ["\n\n"]])
async def test_without_anything_to_quote_it_refuses(generator, passages):
    steps = await answer(generator, ask(STORK_QUESTION, passages))
    assert said(steps) == REFUSAL
    assert steps[-1].reason is FinishReason.NO_ANSWER
    assert steps[-1].support == 0


@pytest.mark.parametrize("text", ["???", "\u00bf", "the of and", "x" * 4000])
async def test_a_question_without_words_to_go_by_is_refused(generator, text):
    assert (await answer(generator, ask(text)))[-1].reason is FinishReason.NO_ANSWER


async def test_the_same_question_gets_the_same_answer_beside_any_other_work(generator, batcher):
    question = ask("How long should the loaf rest before cutting?")
    alone = await answer(generator, question)
    bulk = asyncio.ensure_future(batcher.embed([LIBRARY * 4] * 16, Lane.BULK))
    beside = await asyncio.gather(
        *(answer(generator, question) for _ in range(3)), answer(generator, ask(STORK_QUESTION))
    )
    await bulk
    for again in beside[:3]:
        assert again[:-1] == alone[:-1]
        assert again[-1].usage == alone[-1].usage
        assert again[-1].support == pytest.approx(alone[-1].support, abs=0.01)


async def test_an_answer_stops_before_it_exceeds_its_bound(engine, generator):
    question = "What should I know about rye bread and its sourdough?"
    [*_, free] = await answer(generator, ask(question))
    steps = await answer(generator, ask(question, max_output_tokens=free.usage.output_tokens - 1))
    assert steps[-1].reason is FinishReason.LENGTH
    assert steps[-1].usage.output_tokens < free.usage.output_tokens
    exact = await answer(generator, ask(question, max_output_tokens=free.usage.output_tokens))
    assert exact[-1].reason is FinishReason.STOP


async def test_usage_is_what_was_read_and_said(engine, generator):
    question = ask(STORK_QUESTION)
    steps = await answer(generator, question)
    read = [question.question, *(passage.text for passage in question.passages)]
    assert steps[-1].usage.input_tokens == sum(engine.count_tokens(read))
    without_marks = re.sub(r" \[\d\]", "", said(steps))
    assert steps[-1].usage.output_tokens == sum(engine.count_tokens([without_marks]))


async def test_overlapping_passages_are_not_quoted_twice(generator):
    found = await find_quotes(generator, ask(STORK_QUESTION, [STORKS, STORKS, STORKS[37:]]))
    texts = [quote.text for quote in found]
    assert len(texts) == len(set(texts))


async def test_good_sentences_side_by_side_are_one_quote(generator):
    passage = (
        "The ferry to Inishmore leaves Rossaveel at nine. "
        "The ferry to Inishmore returns at five.\n\n"
        "The ferry to Inishmore costs twelve euros. Rabbits live in the dunes."
    )
    found = await find_quotes(generator, ask("When does the ferry to Inishmore leave?", [passage]))
    assert [quote.text for quote in found] == [passage.split("\n\n", maxsplit=1)[0]]


async def test_a_bound_that_a_quote_exceeds_leaves_its_best_sentence(generator):
    passage = (
        "The ferry to Inishmore leaves Rossaveel at nine. "
        "The last ferry to Inishmore leaves at six."
    )
    question = ask("When does the ferry to Inishmore leave?", [passage], max_output_tokens=24)
    steps = await answer(generator, question)
    assert steps[-1].reason is FinishReason.LENGTH
    [quote] = await find_quotes(generator, question)
    assert quote.text in passage.replace(". ", ".\n").splitlines()


async def test_each_passage_with_a_good_sentence_is_quoted(generator):
    passages = [
        f"Notes of {town}. The harbour of {town} was built in {year}. Gulls nest on its roofs."
        for town, year in (("Kinsale", 1670), ("Kilronan", 1853), ("Kilmore", 1790))
    ]
    found = await find_quotes(generator, ask("When was the harbour built?", passages))
    assert sorted(quote.text.split("built in ")[1][:4] for quote in found) == [
        "1670",
        "1790",
        "1853",
    ]


WELL = (
    "Handbook of the village well\n\nThe well\n\nThe well was drilled in 1987 to a depth of 62 "
    "metres. Its casing is steel, 200 millimetres wide.\n\nEvery year\n\nThe water is tested in "
    "April. The pump is lifted and inspected every five years."
)
DROUGHT = (
    "Drought plan of the water board\n\nStage one begins when the level falls below 21 metres. "
    "Washing cars is then forbidden.\n\nStage two begins below 24 metres. Gardens may be watered "
    "at night.\n\nStage three begins below 27 metres. The swimming pool closes."
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("How deep is the village well?", "The well was drilled in 1987 to a depth of 62 metres."),
        ("When does stage two of the drought plan begin?", "Stage two begins below 24 metres."),
    ],
)
async def test_the_sentence_is_quoted_first_and_its_heading_never(generator, text, wanted):
    found = await find_quotes(generator, ask(text, [WELL, DROUGHT]))
    assert found[0].text.startswith(wanted)
    assert not any("Handbook" in quote.text or "Drought plan" in quote.text for quote in found)


async def test_a_heading_lends_support_to_what_stands_below_it(generator):
    text = "How often is the pump of the village well inspected?"
    passage = WELL[WELL.index("Every year") :]
    [*_, bare] = await answer(generator, ask(text, [passage]))
    [*_, under] = await answer(
        generator, ask(text, [passage.replace("Every year", "The village well")])
    )
    assert under.support > bare.support


async def test_a_great_many_sentences_are_narrowed_before_they_are_embedded(generator, batcher):
    class Counting:
        profile, card, texts = batcher.profile, batcher.card, Counter()

        async def embed(self, texts, lane, input_type):
            self.texts[input_type] += len(texts)
            return await batcher.embed(texts, lane, input_type=input_type)

    counting = Counting()
    filler = [" ".join(f"Box {n} of row {row} holds nails." for n in range(60)) for row in range(9)]
    narrowed = Extractive(counting, generator._vocabulary)
    found = await find_quotes(narrowed, ask(STORK_QUESTION, [*filler, STORKS]))
    assert counting.texts == {InputType.QUESTION: 1, InputType.PASSAGE: EMBEDDED_MAX}
    assert "over land only" in found[0].text


async def test_leaving_early_frees_the_embedder(generator, batcher, until):
    stream = generator.generate(ask(STORK_QUESTION, OWN_PASSAGES * 8))
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: batcher.waiting_texts(Lane.INTERACTIVE) > 0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await stream.aclose()
    assert batcher.waiting_texts(Lane.INTERACTIVE) == 0


def test_the_card_says_that_nothing_is_composed(generator):
    assert generator.card.kind is ModelKind.GENERATE
    assert not generator.card.generative


@pytest.mark.parametrize(
    ("question", "reason"), [("x" * 4_001, "PROMPT_TOO_LONG"), (" ", "MESSAGES_INVALID")]
)
async def test_a_conversation_without_a_question_of_its_size_is_refused(
    generator, question, reason
):
    with pytest.raises(InvalidInputError) as refused:
        await answer(generator, ask(question))
    assert refused.value.reason == reason


async def test_texts_are_scored_by_how_well_they_answer_in_any_order(generator):
    found = []
    for passages in (OWN_PASSAGES, OWN_PASSAGES[::-1]):
        scores = await generator.rerank(STORK_QUESTION, passages)
        assert passages[max(range(len(scores)), key=scores.__getitem__)] == STORKS
        found.append(scores)
    assert found[0] == pytest.approx(found[1][::-1], abs=1e-3)


async def test_a_text_without_a_sentence_scores_nothing(generator):
    assert (await generator.rerank(STORK_QUESTION, [STORKS, " "]))[1] == 0
