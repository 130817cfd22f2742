import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.base.errors import InvalidInputError
from query.retrieval import lexical
from query.retrieval.lexical import SparseVector, encode_passage, encode_question, read_words
from query.words.terms import make_id


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


def test_function_words_count_only_where_nothing_else_is_asked():
    assert make_id("the") not in encode_question("the wing of the plane").indices
    assert dot(encode_question("to be or not to be"), encode_passage("or not to be")) > 0


def test_term_ids_are_pinned_for_ever():
    """A changed id makes every stored index useless: then ANALYSER must change with it."""
    assert lexical.ANALYSER == 3
    assert make_id("aircraft") == 2_112_683_258
    assert encode_question("Wings").indices == tuple(sorted(map(make_id, ("wing", "wings"))))


def test_a_weight_is_bm25s_saturated_frequency():
    passage = encode_passage("wing wing wing drag")
    weights = dict(zip(passage.indices, passage.values, strict=True))
    norm = 1.2 * (1 - 0.75 + 0.75 * 4 / lexical.AVERAGE_WORDS)
    assert weights[make_id("wing")] == pytest.approx(3 * 2.2 / (3 + norm))


def test_a_title_counts_twice():
    titled = encode_passage("drag", title="wing")
    assert titled == encode_passage("drag wing wing")


def test_a_question_repeats_what_matters_to_it():
    question = encode_question("wing drag wing")
    weights = dict(zip(question.indices, question.values, strict=True))
    assert weights[make_id("wing")] == 2 * weights[make_id("drag")]


def test_a_long_passage_weighs_a_term_less():
    question = encode_question("wing")
    short, long = encode_passage("wing"), encode_passage("wing " + "drag lift flow " * 100)
    assert dot(question, short) > dot(question, long) > 0


def test_an_unknown_word_is_replaced_by_those_that_look_alike():
    words = read_words("where is the reciept")
    (spelling,) = words.spellings
    passage = encode_passage("Keep the receipt.")
    assert not set(spelling.word) & set(passage.indices)
    assert dot(words.vector, passage) == 0
    assert dot(spelling.replace(words.vector), passage) > 0


def test_a_replacement_keeps_the_weights_of_the_question():
    words = read_words("the reciept and its colour")
    replaced = words.spellings[0].replace(words.vector)
    weights = dict(zip(replaced.indices, replaced.values, strict=True))
    for index, value in zip(words.vector.indices, words.vector.values, strict=True):
        assert weights[index] == value
    assert len(weights) > len(words.vector.indices)


@given(st.text())
def test_any_text_has_a_vector(text):
    vector = encode_passage(text, title=text)
    assert list(vector.indices) == sorted(set(vector.indices))
    assert all(0 <= index < 2**32 for index in vector.indices)
    assert all(math.isfinite(value) and value > 0 for value in vector.values)
    words = read_words(text)
    assert all(math.isfinite(value) and value > 0 for value in words.vector.values)
    assert vector == encode_passage(text, title=text)


@pytest.mark.parametrize(
    ("indices", "values"),
    [((1, 1), (1.0, 2.0)), ((1,), ()), ((1,), (math.nan,)), ((1,), (math.inf,))],
)
def test_a_vector_cannot_be_malformed(indices, values):
    with pytest.raises(InvalidInputError):
        SparseVector(indices, values)
