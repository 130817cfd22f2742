"""Answers are streamed, cite verbatim, are stored whole or not at all, and forget the deleted."""

import asyncio
import uuid

import pytest

from aquifer.lines import Line, pack
from aquifer.query.v1.passage_events_pb2 import AnswerProduced
from chassis.base.errors import DataLossError, InvalidInputError, UnavailableError
from query.answer import Citation, Delta, Finish, FinishReason, Inquiry, Mention, Quote, Started
from query.domain import Question, Version
from query.lines import find_lines
from query.usecases.ask import ENGINE_AWAY
from query.usecases.generator import EXTRACTIVE, REFUSAL
from query.usecases.token_budget import PART_TOKENS

PUMP = "collections/manuals/documents/pump"
TRACE = "1" * 32


async def ask(world, question: str = "impeller", **changes):
    return [step async for step in world.ask.run(world.inquiry(question, **changes), TRACE)]


def list_published(world) -> list[AnswerProduced]:
    kind = AnswerProduced.DESCRIPTOR.full_name
    rows = [row for row in world.rows("outbox") if row["event"] == kind]
    return [AnswerProduced.FromString(row["payload"]) for row in rows]


async def test_an_answer_starts_cites_and_finishes_in_this_order(world):
    await world.deliver(world.embedded("the impeller wears out in a year"))
    steps = await ask(world)
    assert [type(step) for step in steps] == [Started, Delta, Delta, Citation, Finish]
    started, _, _, citation, finish = steps
    assert started.trace_id == TRACE
    assert citation.quote == citation.passage.text[citation.start : citation.end]
    assert citation.passage.version.document == PUMP
    assert (finish.reason, finish.model, finish.output_tokens) == (FinishReason.STOP, "quoting", 7)


async def test_an_answer_is_read_back_as_it_was_given(world):
    await world.deliver(world.embedded("the impeller wears out in a year"))
    started, *steps = await ask(world)
    answer = await world.answers.find("acme", started.answer_id, None)
    assert answer.text == "".join(step.text for step in steps if isinstance(step, Delta))
    assert list(answer.citations) == [step for step in steps if isinstance(step, Citation)]
    assert answer.finish == steps[-1]
    assert (answer.question, answer.principal, answer.trace_id) == ("impeller", "user:ada", TRACE)


async def test_a_citation_names_the_page_of_its_quote(world):
    event = world.embedded("Contents.\n\nthe impeller wears out in a year")
    event.prepared.chunks[0].page_breaks.add(start=11, page=2)
    await world.deliver(event)
    world.generator.quotes = lambda _: [Quote(passage=0, start=11, end=23, marker="[1]")]
    started, *steps = await ask(world)
    [citation] = [step for step in steps if isinstance(step, Citation)]
    assert (citation.quote, citation.passage.page, citation.page) == ("the impeller", 1, 2)
    assert (await world.answers.find("acme", started.answer_id, None)).citations == [citation]


LINES = [
    Line(0, 9, 288, 288, 500, 340),
    Line(11, 32, 288, 360, 900, 412),
    Line(33, 43, 288, 420, 600, 472),
]


async def test_a_citation_has_the_lines_of_its_quote_alone(world):
    event = world.embedded("Contents.\n\nthe impeller wears out\nin a year, at most")
    event.prepared.chunks[0].page_breaks.add(start=33, page=2)
    event.prepared.chunks[0].lines = pack(LINES)
    await world.deliver(event)
    world.generator.quotes = lambda _: [
        Quote(passage=0, start=15, end=33, marker="[1]"),
        Quote(passage=0, start=24, end=38, marker="[2]"),
    ]
    started, *steps = await ask(world)
    first, second = [step for step in steps if isinstance(step, Citation)]
    assert list_lines(first) == [(1, LINES[1])]
    assert list_lines(second) == [(1, LINES[1]), (2, LINES[2])]
    assert (await world.answers.find("acme", started.answer_id, None)).citations == [first, second]
    await world.purge(1)
    [one, _] = (await world.answers.find("acme", started.answer_id, None)).citations
    assert list_lines(one) == []
    assert pack(LINES[:1]).hex() not in str(world.rows("answers"))


def list_lines(citation: Citation) -> list[tuple[int, Line]]:
    return list(find_lines(citation.passage, citation.start, citation.end))


async def test_a_citation_tells_what_its_passage_stands_under(world):
    event = world.embedded("1975 | the impeller | 12")
    event.prepared.chunks[0].headings.extend(["Fleet", "North > Sea"])
    event.prepared.chunks[0].table_header = "Year | Part | Catch"
    await world.deliver(event)
    started, *steps = await ask(world, "the catch of the fleet")
    [citation] = [step for step in steps if isinstance(step, Citation)]
    assert citation.passage.headings == ("Fleet", "North > Sea")
    assert citation.passage.table_header == "Year | Part | Catch"
    assert citation.passage.text == "1975 | the impeller | 12"
    assert (await world.answers.find("acme", started.answer_id, None)).citations == [citation]


async def test_nobody_else_reads_an_answer(world):
    await world.deliver(world.embedded("the impeller wears out"))
    started, *_ = await ask(world)
    assert await world.answers.find("globex", started.answer_id, None) is None
    assert await world.answers.find("acme", uuid.uuid4(), None) is None


async def test_the_fact_is_stored_with_the_answer_and_holds_no_text(world):
    await world.deliver(world.embedded("the impeller wears out"))
    started, *_ = await ask(world)
    [fact] = list_published(world)
    assert fact.answer_id == str(started.answer_id)
    assert [(one.document, one.version) for one in fact.cited] == [(PUMP, 1)]
    assert (fact.input_tokens, fact.output_tokens, fact.no_answer) == (12, 7, False)
    assert b"impeller" not in fact.SerializeToString()


async def test_without_passages_the_answer_is_that_there_is_none(world):
    started, *_, finish = await ask(world)
    assert finish.reason is FinishReason.NO_ANSWER
    assert world.generator.prompts[0].passages == []
    assert (await world.answers.find("acme", started.answer_id, None)).citations == []
    assert list_published(world)[0].no_answer


async def test_the_finish_comes_after_the_answer_is_stored(world):
    await world.deliver(world.embedded("the impeller wears out"))
    stored = [
        (isinstance(step, Finish), len(world.rows("answers")))
        async for step in world.ask.run(world.inquiry("impeller"), TRACE)
    ]
    assert set(stored[:-1]) == {(False, 0)}
    assert stored[-1] == (True, 1)


async def test_a_client_that_leaves_stops_the_engine_and_leaves_nothing(world):
    await world.deliver(world.embedded("the impeller wears out"))
    world.generator.pause = asyncio.Event()
    steps = world.ask.run(world.inquiry("impeller"), TRACE)
    assert isinstance(await anext(steps), Started)
    assert isinstance(await anext(steps), Delta)
    assert world.generator.running == 1
    await steps.aclose()
    assert world.generator.running == 0
    assert world.rows("answers") == list_published(world) == []


async def test_a_cancelled_call_stops_the_engine_and_leaves_nothing(world):
    await world.deliver(world.embedded("the impeller wears out"))
    world.generator.pause = asyncio.Event()
    call = asyncio.create_task(ask(world))
    while not world.generator.running:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert world.generator.running == 0
    assert world.rows("answers") == []


@pytest.mark.parametrize(
    "quote",
    [
        Quote(passage=1, start=0, end=3, marker="[1]"),
        Quote(passage=-1, start=0, end=3, marker="[1]"),
        Quote(passage=0, start=0, end=10_000, marker="[1]"),
        Quote(passage=0, start=3, end=3, marker="[1]"),
        Quote(passage=0, start=-2, end=3, marker="[1]"),
    ],
)
async def test_a_quote_that_is_not_there_ends_the_answer_with_an_error(world, quote):
    await world.deliver(world.embedded("the impeller wears out"))
    world.generator.quotes = lambda _: [quote]
    with pytest.raises(DataLossError) as failed:
        await ask(world)
    assert failed.value.reason == "QUOTE_INVALID"
    assert world.rows("answers") == []


async def test_a_deleted_document_takes_its_words_out_of_answers(world):
    metadata = {"secret": "heliotrope"}
    await world.deliver(world.embedded("the impeller wears out in a year", metadata=metadata))
    valve = "collections/manuals/documents/valve"
    await world.deliver(world.embedded("impeller and valve", document=valve))
    world.generator.quotes = lambda prompt: [
        Quote(passage=number, start=0, end=8, marker=f"[{number}]")
        for number in range(len(prompt.passages))
    ]
    started, *_ = await ask(world)
    await world.purge(1)
    answer = await world.answers.find("acme", started.answer_id, None)
    by_document = {one.passage.version.document: one for one in answer.citations}
    gone, kept = by_document[PUMP], by_document[valve]
    assert (answer.text, gone.quote, gone.passage.text, gone.passage.title) == ("", "", "", "")
    assert kept.quote == kept.passage.text[kept.start : kept.end] == "impeller"
    stored = str(world.rows("answers"))
    assert "wears" not in stored
    assert "heliotrope" not in stored
    assert gone.passage.metadata == {}
    assert "valve" in stored


async def test_a_purge_reports_each_answer_it_redacted_once(world):
    await world.deliver(world.embedded("the impeller wears out in a year"))
    await ask(world)
    await ask(world)
    [purged] = await world.purge(1)
    assert purged.redacted_answers == 2
    [again] = await world.purge(1, attempt=1)
    assert again.redacted_answers == 2


async def test_an_answer_from_two_documents_counts_for_the_one_that_still_had_words(world):
    valve = "collections/manuals/documents/valve"
    shown = "collections/manuals/documents/shown"
    for document in (PUMP, valve, shown):
        text = f"impeller of {document}"
        await world.deliver(world.embedded(text, document=document))
    world.generator.generative = True
    world.generator.quotes = lambda prompt: [
        Quote(passage=number, start=0, end=8, marker=f"[{number}]")
        for number, passage in enumerate(prompt.passages)
        if passage.version.document != shown
    ]
    await ask(world)
    removed = {name: (await world.purge(1, name))[0] for name in (PUMP, valve, shown)}
    assert {name: one.redacted_answers for name, one in removed.items()} == {
        PUMP: 1,
        valve: 1,
        shown: 0,
    }


async def test_a_hidden_document_is_out_of_answers_before_it_is_purged(world):
    await world.deliver(world.embedded("the impeller wears out in a year"))
    started, *_ = await ask(world)
    await world.hide.run("acme", Version(document=PUMP, number=1))
    answer = await world.answers.find("acme", started.answer_id, None)
    assert (answer.text, answer.citations[0].quote) == ("", "")


async def test_a_document_deleted_while_it_is_quoted_leaves_no_words(world):
    await world.deliver(world.embedded("the impeller wears out in a year"))
    world.generator.pause = asyncio.Event()
    call = asyncio.create_task(ask(world))
    while not world.generator.running:
        await asyncio.sleep(0.01)
    await world.purge(1)
    world.generator.pause.set()
    steps = await call
    assert isinstance(steps[-1], Finish)
    assert "wears" not in str(world.rows("answers"))
    assert world.rows("answers")[0]["redacted_at"] is not None


async def test_what_a_composing_model_was_shown_counts_as_its_source(world):
    await world.deliver(world.embedded("the impeller wears out in a year"))
    world.generator.quotes = lambda _: []
    started, *_ = await ask(world)
    world.generator.generative = True
    composed, *_ = await ask(world)
    await world.purge(1)
    assert (await world.answers.find("acme", started.answer_id, None)).text != ""
    assert (await world.answers.find("acme", composed.answer_id, None)).text == ""


async def test_an_answer_survives_the_deletion_of_an_older_version(world):
    await world.deliver(world.embedded("the impeller wears out in a year", version=2))
    started, *_ = await ask(world)
    await world.purge(1)
    answer = await world.answers.find("acme", started.answer_id, None)
    assert answer.citations[0].quote != ""


async def test_while_the_index_is_rebuilt_nothing_is_answered(world):
    world.serving.store_id = None
    with pytest.raises(UnavailableError) as refused:
        await ask(world)
    assert refused.value.reason == "VECTORS_REBUILDING"
    assert world.rows("answers") == []


@pytest.mark.parametrize("tokens", [0, -1, 100_000])
def test_a_bound_out_of_range_is_refused(tokens):
    with pytest.raises(InvalidInputError) as refused:
        Inquiry(tenant="acme", held=None, principal="p", question="why", max_output_tokens=tokens)
    assert refused.value.reason == "OUTPUT_TOKENS_RANGE"


def written(*steps, reason=FinishReason.STOP):
    """What a model that writes says."""
    finish = Finish(
        reason=reason,
        input_tokens=9,
        output_tokens=5,
        model="writer",
        generative=True,
        confidence=None,
    )
    return [*steps, finish]


async def test_a_passage_that_is_only_named_is_quoted_where_it_says_the_same(world):
    text = "The impeller wears out in a year.\nGrease the bearing every 6 months. Then test it."
    await world.deliver(world.embedded(text))
    world.generator.writes = written(
        Delta(text="Impellers last. The bearing needs grease each 6 months [1]"),
        Mention(passage=0, marker="[1]"),
        Delta(text=". It wears out in a year [1]"),
        Mention(passage=0, marker="[1]"),
    )
    started, *steps = await ask(world)
    first, second = [step for step in steps if isinstance(step, Citation)]
    assert first.quote == "Grease the bearing every 6 months."
    assert second.quote == "The impeller wears out in a year."
    for citation in (first, second):
        assert citation.passage.text[citation.start : citation.end] == citation.quote
    answer = await world.answers.find("acme", started.answer_id, None)
    assert list(answer.citations) == [first, second]
    assert answer.finish == steps[-1]
    assert answer.finish.confidence is None


async def test_a_named_passage_that_shares_no_word_is_the_source_as_a_whole(world):
    await world.deliver(world.embedded("Das Laufrad hält ein Jahr."))
    world.generator.writes = written(Delta(text="One year [1]."), Mention(passage=0, marker="[1]"))
    [citation] = [step for step in await ask(world) if isinstance(step, Citation)]
    assert citation.quote == citation.passage.text


async def test_a_passage_that_was_not_shown_cannot_be_named(world):
    await world.deliver(world.embedded("the impeller wears out"))
    world.generator.writes = written(Delta(text="x [9]"), Mention(passage=8, marker="[9]"))
    with pytest.raises(DataLossError) as failed:
        await ask(world)
    assert failed.value.reason == "QUOTE_INVALID"


async def test_a_model_that_refuses_as_it_was_told_gives_no_answer(world):
    await world.deliver(world.embedded("the impeller wears out"))
    world.generator.writes = written(Delta(text=f" {REFUSAL}\n"))
    *_, finish = await ask(world)
    assert finish.reason is FinishReason.NO_ANSWER
    assert list_published(world)[0].no_answer


@pytest.mark.parametrize("reason", sorted(ENGINE_AWAY))
async def test_while_the_default_model_is_away_documents_are_quoted(world, reason):
    await world.deliver(world.embedded("the impeller wears out"))
    world.generator.away = UnavailableError(reason, "x")
    started, *steps = await ask(world)
    assert [type(step) for step in steps] == [Delta, Delta, Citation, Finish]
    assert steps[-1].degraded
    assert [one.model for one in world.generator.prompts] == ["", EXTRACTIVE]
    answer = await world.answers.find("acme", started.answer_id, None)
    assert answer.finish.degraded


@pytest.mark.parametrize(
    ("model", "reason"),
    [("quoting", "ENGINE_UNREACHABLE"), ("", "INFERENCE_UNAVAILABLE"), ("", "SHUTTING_DOWN")],
)
async def test_nobody_else_answers_for_a_model_that_was_named_or_without_inference(
    world, model, reason
):
    await world.deliver(world.embedded("the impeller wears out"))
    world.generator.away = UnavailableError(reason, "x")
    with pytest.raises(UnavailableError) as failed:
        await ask(world, model=model)
    assert failed.value.reason == reason


async def test_an_engine_that_fails_amid_its_answer_is_not_replaced(world):
    await world.deliver(world.embedded("the impeller wears out"))

    async def fail_later(prompt):
        yield Delta(text="half")
        raise UnavailableError("ENGINE_FAILED", "x")

    world.generator._steps = fail_later
    with pytest.raises(UnavailableError):
        await ask(world)
    assert world.rows("answers") == []


async def test_a_model_that_reads_little_is_shown_the_best_passages(world):
    for number in range(8):
        name = f"collections/manuals/documents/d{number}"
        await world.deliver(world.embedded(f"the impeller of pump {number}", document=name))
    world.generator.reads = 2
    *_, finish = await ask(world)
    assert finish.reason is FinishReason.STOP
    assert [len(one.passages) for one in world.generator.prompts] == [8, 4, 2]
    first, *_, last = world.generator.prompts
    assert last.passages == first.passages[:2]


async def test_a_prompt_that_is_too_long_without_passages_is_the_callers_to_change(world):
    await world.deliver(world.embedded("the impeller wears out"))
    world.generator.reads = 0
    with pytest.raises(InvalidInputError) as refused:
        await ask(world)
    assert refused.value.reason == "PROMPT_TOO_LONG"


async def deliver_pumps(world, number: int = 8) -> None:
    for one in range(number):
        name = f"collections/manuals/documents/d{one}"
        await world.deliver(
            world.embedded(f"the impeller of pump {one} " + "x" * 500, document=name)
        )


async def test_a_prompt_that_is_too_long_is_counted_once_and_loses_what_has_no_room(world):
    await deliver_pumps(world)
    world.generator.reads = 5
    world.tokens.context_tokens = 100 + 2 * PART_TOKENS + 5 * (550 + PART_TOKENS)
    prompts = world.generator.prompts
    await ask(world)
    assert len(prompts[0].passages) == 8
    assert len(world.tokens.counted) == 1
    shown = len(prompts[1].passages)
    spent = sum(map(len, world.tokens.counted[0][: 2 + shown])) + (2 + shown) * PART_TOKENS + 100
    one_more = len(world.tokens.counted[0][2 + shown]) + PART_TOKENS
    assert spent <= world.tokens.context_tokens < spent + one_more
    assert prompts[1].passages == prompts[0].passages[:shown]


async def test_a_count_that_shows_no_reason_halves_the_prompt(world):
    await deliver_pumps(world)
    world.generator.reads = 2
    world.tokens.context_tokens = 1_000_000
    await ask(world)
    assert [len(one.passages) for one in world.generator.prompts] == [8, 4, 2]
    assert len(world.tokens.counted) == 1


async def test_a_citation_tells_its_score_and_the_event_that_brought_it(world):
    event = world.embedded("the impeller wears out in a year")
    event.prepared.upload_event_id = "evt-7"
    await world.deliver(event)
    [hit] = (
        await world.find.run(Question(tenant="acme", text="impeller", limit=8, held=None))
    ).hits
    started, *steps = await ask(world)
    [citation] = [step for step in steps if isinstance(step, Citation)]
    assert citation.score == hit.score
    assert citation.passage.upload_event_id == "evt-7"
    assert (await world.answers.find("acme", started.answer_id, None)).citations == [citation]
