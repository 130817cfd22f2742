"""What stays of a prompt that is too long: the best passages and the latest exchanges."""

from uuid import UUID

import pytest

from query.answer import Exchange
from query.domain import Passage, Version
from query.usecases.generator import Prompt
from query.usecases.token_budget import PART_TOKENS, Counted, fit, halve

DOCUMENT = Version(document="collections/c/documents/d", number=1)


def prompt(passages: int, history: int = 0) -> Prompt:
    return Prompt(
        instructions="i",
        question="q",
        passages=[
            Passage(
                version=DOCUMENT,
                ordinal=number,
                chunk_id=UUID(int=number),
                text="x",
                title="",
                start=0,
                end=1,
                page=0,
                ingest_trace_id="",
            )
            for number in range(passages)
        ],
        model="",
        max_output_tokens=100,
        history=[Exchange(question=str(n), answer="a", sources=()) for n in range(history)],
    )


def sizes(given: Prompt) -> tuple[list[int], list[str]]:
    return [one.ordinal for one in given.passages], [one.question for one in given.history]


PART = 100 - PART_TOKENS


@pytest.mark.parametrize(
    ("context", "passages", "history"),
    [
        (10_000, [0, 1, 2, 3], ["0", "1", "2"]),
        (300 + 700, [0, 1, 2, 3], ["2"]),
        (300 + 400, [0, 1, 2], ["2"]),
        (300 + 399, [0, 1, 2], []),
        (300 + 200, [0, 1], []),
        (300 + 100, [0], []),
        (300, [0], []),
        (1, [0], []),
    ],
)
def test_what_has_room_stays(context, passages, history):
    given = prompt(4, 3)
    counted = Counted([PART] * 9, context)
    assert sizes(fit(given, counted)) == (passages, history)


def test_without_passages_and_history_nothing_changes():
    given = prompt(0)
    assert fit(given, Counted([PART] * 2, 1)) == given
    assert halve(given) == given


def test_half_of_a_prompt():
    assert sizes(halve(prompt(5, 3))) == ([0, 1], ["2"])
    assert sizes(halve(prompt(1, 1))) == ([0], [])
