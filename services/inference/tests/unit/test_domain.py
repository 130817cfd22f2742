"""What a request must be to reach an engine."""

import pytest

from chassis.base.errors import InvalidInputError
from inference.domain import EmbeddingRequest, Lane, Passage, Question


def embedding(texts):
    return EmbeddingRequest(profile="p", texts=texts, lane=Lane.BULK)


def question(text="why", passages=(), **more):
    return Question(model="m", text=text, passages=passages, **more)


def passages(*texts):
    return [Passage(index=index, text=text) for index, text in enumerate(texts)]


@pytest.mark.parametrize("texts", [["x"], ["x"] * 256, ["x" * 8192]])
def test_texts_within_the_limits_are_taken(texts):
    assert embedding(texts).texts == texts


@pytest.mark.parametrize(
    ("texts", "reason"),
    [([], "TEXT_COUNT"), (["x"] * 257, "TEXT_COUNT"), ([""], "TEXT_LENGTH")],
)
def test_texts_beyond_the_limits_are_refused(texts, reason):
    with pytest.raises(InvalidInputError) as refused:
        embedding(texts)
    assert refused.value.reason == reason


def test_every_text_of_bad_length_is_named():
    with pytest.raises(InvalidInputError) as refused:
        embedding(["fine", "", "fine", "x" * 8193])
    assert [violation.field for violation in refused.value.fields] == ["texts[1]", "texts[3]"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"text": ""}, "QUESTION_LENGTH"),
        ({"text": " \n"}, "QUESTION_LENGTH"),
        ({"text": "x" * 4001}, "QUESTION_LENGTH"),
        ({"passages": passages(*["x"] * 65)}, "PASSAGE_COUNT"),
        ({"passages": passages("x", "")}, "TEXT_LENGTH"),
        ({"passages": passages("x") + passages("y")}, "PASSAGE_INDEX"),
        ({"max_output_tokens": 0}, "OUTPUT_TOKENS_RANGE"),
    ],
)
def test_questions_beyond_the_limits_are_refused(arguments, reason):
    with pytest.raises(InvalidInputError) as refused:
        question(**arguments)
    assert refused.value.reason == reason


def test_a_question_may_come_without_passages():
    assert question(passages=[]).passages == []
