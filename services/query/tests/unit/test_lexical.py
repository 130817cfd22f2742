import math

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.base.errors import InvalidInputError
from query.retrieval import lexical
from query.retrieval.lexical import SparseVector, encode_passage, encode_question, terms


def dot(question: SparseVector, passage: SparseVector) -> float:
    weights = dict(zip(passage.indices, passage.values, strict=True))
    return sum(
        weights.get(index, 0.0) * value
        for index, value in zip(question.indices, question.values, strict=True)
    )


def test_words_meet_across_their_inflections():
    question = encode_question("Which wing flows were measured?")
    assert dot(question, encode_passage("measuring the flow over wings")) > 0
    assert dot(question, encode_passage("a cake recipe with butter")) == 0


def test_stop_words_carry_nothing():
    assert encode_question("what is it that they were?") == SparseVector((), ())
    assert terms("The lift isn't what you'd expect of a wing's") == ["lift", "d", "expect", "wing"]


def test_compatibility_forms_of_a_word_are_one_word():
    assert terms("\ufb01le \uff11\uff12\uff13 WING") == terms("file 123 wing")


def test_term_ids_are_pinned_for_ever():
    """A changed id makes every stored index useless: then ANALYSER must change with it."""
    assert lexical.ANALYSER == "bm25-en-1"
    assert terms("Aeroelastic models of heated high-speed aircraft") == [
        "aeroelast",
        "model",
        "heat",
        "high",
        "speed",
        "aircraft",
    ]
    assert encode_question("aircraft") == SparseVector((2_112_683_258,), (1.0,))
    assert encode_question("Wings").indices == (4_162_447_908,)


def test_a_weight_is_bm25s_saturated_frequency():
    passage = encode_passage("wing wing wing drag")
    weights = dict(zip(passage.indices, passage.values, strict=True))
    norm = 1.2 * (1 - 0.75 + 0.75 * 4 / lexical.AVERAGE_TERMS)
    index = mmh3.hash("wing", signed=False)
    assert weights[index] == pytest.approx(3 * 2.2 / (3 + norm))


def test_a_title_counts_twice():
    titled = encode_passage("drag", title="wing")
    assert titled == encode_passage("drag wing wing")


def test_a_question_repeats_what_matters_to_it():
    question = encode_question("wing drag wing")
    assert sorted(question.values) == [1.0, 2.0]


def test_a_long_passage_weighs_a_term_less():
    question = encode_question("wing")
    short, long = encode_passage("wing"), encode_passage("wing " + "drag lift flow " * 100)
    assert dot(question, short) > dot(question, long) > 0


@given(st.text())
def test_any_text_has_a_vector(text):
    vector = encode_passage(text, title=text)
    assert list(vector.indices) == sorted(set(vector.indices))
    assert all(0 <= index < 2**32 for index in vector.indices)
    assert all(math.isfinite(value) and value > 0 for value in vector.values)
    assert vector == encode_passage(text, title=text)


@pytest.mark.parametrize(
    ("indices", "values"),
    [((1, 1), (1.0, 2.0)), ((1,), ()), ((1,), (math.nan,)), ((1,), (math.inf,))],
)
def test_a_vector_cannot_be_malformed(indices, values):
    with pytest.raises(InvalidInputError):
        SparseVector(indices, values)
