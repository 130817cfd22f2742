"""Numbers in brackets become citations, wherever the text is cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.citation_marks import mark_citations
from inference.generation import CitationMark, Finish, FinishReason, TextDelta, Usage

FINISH = Finish(reason=FinishReason.STOP, usage=Usage(input_tokens=1, output_tokens=1))


async def read(*texts: str, passages: int = 3):
    async def steps():
        for text in texts:
            yield TextDelta(text)
        yield FINISH

    return [step async for step in mark_citations(steps(), passages)]


def text_of(steps):
    return "".join(step.text for step in steps if isinstance(step, TextDelta))


def marks(steps):
    return [(step.passage, step.marker) for step in steps if isinstance(step, CitationMark)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It rains [1].", [(0, "[1]")]),
        ("It rains [1][3].", [(0, "[1]"), (2, "[3]")]),
        ("It rains [1, 3; 2].", [(0, "[1, 3; 2]"), (2, "[1, 3; 2]"), (1, "[1, 3; 2]")]),
        ("It rains [ 2 ].", [(1, "[ 2 ]")]),
        ("It rains [2, 2].", [(1, "[2, 2]")]),
        ("It rains [4], [0] or [99].", []),
        ("It rains [3, 4].", [(2, "[3, 4]")]),
        ("a list[int] and [x] and [1", []),
        ("the year [1987]", []),
        ("", []),
    ],
)
async def test_marks_are_numbers_that_a_passage_has(text, wanted):
    steps = await read(text)
    assert marks(steps) == wanted
    assert text_of(steps) == text
    assert steps[-1] == FINISH


async def test_a_mark_comes_right_behind_the_text_that_ends_with_it():
    steps = await read("Rain [1] and sun [2].")
    for before, step in itertools.pairwise(steps):
        if isinstance(step, CitationMark):
            assert before.text.endswith(step.marker)


@given(st.lists(st.text("a [123],;", max_size=6), max_size=8))
async def test_however_the_text_is_cut_text_and_marks_are_the_same(texts):
    whole, cut = await read("".join(texts)), await read(*texts)
    assert text_of(cut) == text_of(whole) == "".join(texts)
    assert marks(cut) == marks(whole)


async def test_only_a_bracket_waits_for_what_follows():
    steps = await read("one ", "two [", "1", "] three")
    assert [step.text for step in steps if isinstance(step, TextDelta)] == [
        "one ",
        "two ",
        "[1]",
        " three",
    ]
