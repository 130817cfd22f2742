from time import process_time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.domain import Hit, Passage, Version
from query.retrieval.copies import join_copies

CLAUSE = (
    "The supplier repairs or replaces every pump that fails within three years after its delivery, "
    "unless the buyer opened the housing, ran it dry or used oil of another grade than the manual "
    "names for the climate in which the pump stands and for the hours that it runs in a day."
)


def hit(number: int, text: str) -> Hit:
    passage = Passage(
        version=Version(document=f"collections/c/documents/d{number}", number=1),
        ordinal=0,
        chunk_id=UUID(int=number),
        text=text,
        title="",
        start=0,
        end=len(text),
        page=0,
        ingest_trace_id="",
    )
    return Hit(passage=passage, score=1.0 / (1 + number))


def joined(*texts: str, limit: int = 10) -> list[tuple[int, list[int]]]:
    hits = [hit(number, text) for number, text in enumerate(texts)]
    return [
        (one.passage.chunk_id.int, [copy.chunk_id.int for copy in one.copies])
        for one in join_copies(hits, limit)
    ]


def test_copies_are_one_hit_that_names_them():
    assert joined(CLAUSE, "Another text.", CLAUSE, CLAUSE) == [(0, [2, 3]), (1, [])]


@pytest.mark.parametrize(
    "copy",
    [
        CLAUSE.upper(),
        CLAUSE.replace(" ", "\n"),
        CLAUSE.replace(",", ";"),
        CLAUSE.replace("supplier", "seller"),
        f"{CLAUSE} Signed.",
    ],
)
def test_a_text_with_small_changes_is_a_copy(copy):
    assert joined(CLAUSE, copy) == [(0, [1])]


@pytest.mark.parametrize(
    "other",
    [
        CLAUSE.replace("three years", "3 years"),
        CLAUSE[: len(CLAUSE) // 2],
        f"{CLAUSE} {CLAUSE[::-1]}",
    ],
)
def test_a_text_with_other_content_is_not(other):
    assert joined(CLAUSE, other) == [(0, []), (1, [])]


def test_a_text_with_another_number_is_not_a_copy():
    assert joined(f"{CLAUSE} Clause 12.", f"{CLAUSE} Clause 13.") == [(0, []), (1, [])]


def test_short_texts_must_be_equal():
    assert joined("yes", "Yes.", "no", "") == [(0, [1]), (2, []), (3, [])]


def test_texts_without_blanks_are_compared_by_signs():
    text = "员工每年享有带薪年假、需提前两周向主管申请、逾期不予受理、详情请咨询人事部门。" * 3
    assert joined(text, text.replace("咨询", "联系", 1), text[:40]) == [(0, [1]), (2, [])]


def test_the_limit_counts_hits_and_not_copies():
    assert joined("a", "a", "b", "c", limit=2) == [(0, [1]), (2, [])]


@given(st.lists(st.text(max_size=30), max_size=12), st.integers(1, 12))
def test_no_hit_is_lost_or_doubled(texts, limit):
    found = joined(*texts, limit=limit)
    numbers = [number for first, copies in found for number in (first, *copies)]
    assert len(numbers) == len(set(numbers))
    assert [first for first, _ in found] == sorted(first for first, _ in found)
    if len(found) < limit:
        assert len(numbers) == len(texts)


def test_many_long_hits_are_compared_in_time():
    texts = [f"{number} " + " ".join(f"w{number}x{n}" for n in range(600)) for number in range(400)]
    started = process_time()
    assert len(joined(*texts, limit=100)) == 100
    assert process_time() - started < 5.0
