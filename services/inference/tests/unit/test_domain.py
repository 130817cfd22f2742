"""What a request must be to reach an engine."""

import pytest

from chassis.base.errors import InvalidInputError
from inference.domain import CountRequest, EmbeddingRequest, Lane, RerankRequest


def embedding(texts):
    return EmbeddingRequest(profile="p", texts=texts, lane=Lane.BULK)


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
    ("question", "texts", "reason"),
    [
        ("", ["x"], "QUESTION_LENGTH"),
        (" \n", ["x"], "QUESTION_LENGTH"),
        ("x" * 4001, ["x"], "QUESTION_LENGTH"),
        ("why", [], "TEXT_COUNT"),
        ("why", ["x", ""], "TEXT_LENGTH"),
    ],
)
def test_what_cannot_be_reranked_is_refused(question, texts, reason):
    with pytest.raises(InvalidInputError) as refused:
        RerankRequest(model="", question=question, texts=texts)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("texts", "reason"),
    [([], "TEXT_COUNT"), ([""], "TEXT_LENGTH"), (["x" * 1_000_001] * 2, "TEXT_LENGTH")],
)
def test_what_cannot_be_counted_is_refused(texts, reason):
    with pytest.raises(InvalidInputError) as refused:
        CountRequest(model="", texts=texts)
    assert refused.value.reason == reason
