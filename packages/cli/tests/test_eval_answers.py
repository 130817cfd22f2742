"""What is measured of one answer."""

import pytest

from aquifer.query.v1.query_service_pb2 import (
    FINISH_REASON_NO_ANSWER,
    FINISH_REASON_STOP,
    AnswerFinished,
    Citation,
    Passage,
)
from aquifer_cli.evaluation.answers import Answers, judge, measure
from aquifer_cli.evaluation.files import Question
from aquifer_cli.evaluation.intervals import Judged

TEXT = "The well is 62\n metres deep. \U0001f4a7 It was dug in 1890."
ANSWERABLE = Question(id="q", text="How deep?", answers=["62 METRES"], answerable=True)
OTHER = Question(id="q", text="How wide?", answerable=False)
FINISHED = AnswerFinished(reason=FINISH_REASON_STOP, model="m", confidence=0.0)


def cite(quote, *, shift=0, text=TEXT, document="collections/c/documents/well"):
    start = text.index(quote) + shift
    passage = Passage(document=document, text=text)
    return Citation(passage=passage, quote=quote, quote_start=start, quote_end=start + len(quote))


def test_an_answer_is_looked_for_without_case_and_line_breaks():
    answered = judge(ANSWERABLE, [cite("The well is 62\n metres deep.")], FINISHED)
    assert answered.figures == {
        "answer_in_passages": 1,
        "answer_in_quotes": 1,
        "citations_valid": 1,
        "no_answer": 0,
        "no_answer_if_answerable": 0,
    }
    assert (answered.cited, answered.invalid, answered.finish) == (["well"], 0, "STOP")
    # A confidence of 0 is one.
    assert (answered.confidence, answered.model) == (0.0, "m")


def test_an_answer_beside_the_quote_is_in_the_passage_alone():
    figures = judge(ANSWERABLE, [cite("It was dug in 1890.")], FINISHED).figures
    assert (figures["answer_in_passages"], figures["answer_in_quotes"]) == (1, 0)


def test_only_the_first_five_citations_count():
    others = [cite("no", text="no answer here") for _ in range(5)]
    figures = judge(ANSWERABLE, [*others, cite("The well")], FINISHED).figures
    assert figures["answer_in_passages"] == 0
    figures = judge(ANSWERABLE, [*others[:4], cite("The well")], FINISHED).figures
    assert figures["answer_in_passages"] == 1


@pytest.mark.parametrize(
    "citation",
    [
        cite("It was dug", shift=1),
        cite("The well", shift=-1),
        Citation(passage=Passage(text=TEXT)),
        Citation(passage=Passage(text="a"), quote="a", quote_start=0, quote_end=2),
    ],
)
def test_a_citation_whose_offsets_do_not_give_its_quote_is_counted(citation):
    answered = judge(OTHER, [cite("It was dug"), citation], FINISHED)
    assert (answered.invalid, answered.figures["citations_valid"]) == (1, 0)
    answers = Answers(answered={"q": answered}, failures=())
    assert (answers.count_citations(), answers.count_invalid()) == (2, 1)


def test_no_answer_counts_by_whether_there_is_one():
    silent = AnswerFinished(reason=FINISH_REASON_NO_ANSWER)
    answered = judge(OTHER, [], silent)
    assert answered.figures == {"no_answer": 1, "no_answer_if_unanswerable": 1}
    assert answered.confidence is None
    assert judge(ANSWERABLE, [], silent).figures == {
        "no_answer": 1,
        "answer_in_passages": 0,
        "answer_in_quotes": 0,
        "no_answer_if_answerable": 1,
    }


def test_citations_of_other_documents_are_counted():
    foreign = cite("The well", document="collections/c/documents/other")
    answers = Answers(
        answered={"q": judge(OTHER, [cite("The well"), foreign], FINISHED)}, failures=()
    )
    assert answers.count_foreign({"well"}) == 1


def test_a_question_counts_for_the_figures_that_it_has():
    rows = {
        "a": judge(ANSWERABLE, [cite("The well")], FINISHED).figures,
        "b": judge(OTHER, [], FINISHED).figures,
    }
    judged = {"a": Judged(answerable=True, confidence=0.5)}
    measured = measure(rows, judged)
    assert measured.main == "answer_in_passages"
    assert measured.means["answer_in_passages"] == {"a": 1}
    assert measured.means["no_answer_if_unanswerable"] == {"b": 0}
    assert set(measured.means["no_answer"]) == {"a", "b"}
    assert measured.judged == judged
