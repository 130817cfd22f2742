"""Rankings are diversified, merged and explained."""

import math
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query.retrieval.diversity import diversify
from query.retrieval.explanation import explain_ranking
from query.retrieval.fusion import Candidates, Ranked, fuse, rank_by_words
from query.retrieval.wordings import merge_wordings

NAN = math.nan


def name(number: int) -> str:
    return str(uuid.UUID(int=number))


def rank(*scored: tuple[int, float], cosines=None, bm25s=None) -> Ranked:
    return Ranked(
        point_ids=[name(number) for number, _ in scored],
        scores=[score for _, score in scored],
        cosines=cosines or [NAN] * len(scored),
        bm25s=bm25s or [NAN] * len(scored),
    )


def numbers(ranked: Ranked) -> list[int]:
    return [uuid.UUID(one).int for one in ranked.point_ids]


def diversified(ranked: Ranked, vectors: dict[int, list[float]], **options) -> list[int]:
    found = Candidates.merge({name(number): 0.0 for number in vectors}, {})
    rows = np.array([vectors[uuid.UUID(one).int] for one in found.point_ids], dtype=np.float32)
    return numbers(diversify(ranked, found, rows, **options))


NEAR_TWINS = {1: [1.0, 0.0], 2: [1.0, 0.0], 3: [0.0, 1.0], 4: [0.0, 1.0]}


def test_a_candidate_that_repeats_a_better_one_comes_later():
    ranked = rank((1, 4.0), (2, 3.9), (3, 3.0), (4, 1.0))
    assert diversified(ranked, NEAR_TWINS, diversity=0.0, limit=3) == [1, 2, 3, 4]
    assert diversified(ranked, NEAR_TWINS, diversity=0.5, limit=3) == [1, 3, 2, 4]


def test_only_the_best_are_chosen_again():
    ranked = rank(*((number, 10.0 - number) for number in range(1, 9)))
    vectors = {number: [1.0, 0.0] for number in range(1, 8)} | {8: [0.0, 1.0]}
    assert diversified(ranked, vectors, diversity=1.0, limit=2)[0] == 1
    assert 8 not in diversified(ranked, vectors, diversity=1.0, limit=2)[:2]


@given(
    scores=st.lists(st.floats(-5, 5), min_size=0, max_size=30),
    diversity=st.floats(0, 1),
    limit=st.integers(1, 40),
    seed=st.integers(0, 99),
)
@settings(max_examples=200)
def test_nothing_is_lost_and_the_best_stays_first(scores, diversity, limit, seed):
    ordered = sorted(scores, reverse=True)
    ranked = rank(*enumerate(ordered, 1))
    made = np.random.default_rng(seed).normal(size=(len(ordered), 4))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    vectors = {number: list(row) for number, row in enumerate(made, 1)}
    order = diversified(ranked, vectors, diversity=diversity, limit=limit)
    assert sorted(order) == sorted(vectors)
    assert order[:1] == [1][: len(order)]


def test_what_several_wordings_find_comes_first():
    first = rank((1, 9.0), (2, 8.0), (4, 1.0), (5, 0.0))
    other = rank((3, 90.0), (2, 80.0), (5, 10.0), (4, 0.0))
    merged = merge_wordings([first, other])
    assert numbers(merged)[0] == 2
    assert set(numbers(merged)[1:3]) == {1, 3}
    assert set(numbers(merged)) == {1, 2, 3, 4, 5}
    assert merged.scores == sorted(merged.scores, reverse=True)


def test_one_wording_is_left_as_it_is():
    ranked = rank((1, 9.0), (2, 8.0))
    assert merge_wordings([ranked]) is ranked


def test_equal_ranks_are_ordered_by_id_and_scores_of_the_first_wording_stay():
    one = rank((1, 2.0), (2, 1.0), cosines=[0.5, 0.4], bm25s=[NAN, 1.0])
    other = rank((2, 2.0), (1, 1.0), cosines=[0.7, 0.1], bm25s=[3.0, 4.0])
    merged = merge_wordings([one, other])
    assert numbers(merged) == [1, 2]
    assert merged.scores == [0.0, 0.0]
    assert merged.cosines == [0.5, 0.4]
    assert math.isnan(merged.bm25s[0])
    assert merged.bm25s[1] == 1.0


def test_a_wording_that_finds_nothing_changes_nothing():
    ranked = rank((1, 9.0), (2, 8.0))
    assert numbers(merge_wordings([ranked, rank()])) == [1, 2]
    assert numbers(merge_wordings([rank(), rank()])) == []


@pytest.mark.parametrize("depth", [3, 200])
def test_the_parts_of_an_explanation_add_up_to_the_score(depth):
    found = Candidates.merge(
        {name(1): 0.9, name(2): 0.5, name(3): 0.1}, {name(2): 7.0, name(4): 3.0, name(1): 2.0}
    )
    rows = np.eye(4, dtype=np.float32)
    ranked = fuse(found, rows, depth=depth, limit=10)
    explained = explain_ranking(ranked, depth)
    for place, (point_id, score) in enumerate(
        zip(ranked.point_ids, ranked.scores, strict=True), start=1
    ):
        one = explained[point_id]
        assert one.meaning + one.words + one.neighbours == pytest.approx(score, abs=1e-5)
        assert one.fused_rank == place
    assert explained[name(1)].meaning_rank == 1
    assert explained[name(4)].meaning_rank == 0
    assert explained[name(2)].words_rank == 1
    assert explained[name(3)].words_rank == 0


def test_by_words_alone_the_score_is_bm25():
    ranked = rank_by_words(Candidates.merge({}, {name(1): 7.5, name(2): 3.0}))
    explained = explain_ranking(ranked, 200)
    assert (explained[name(1)].words, explained[name(1)].neighbours) == (7.5, 0.0)
    assert explained[name(1)].meaning == 0.0
    assert explained[name(2)].words_rank == 2
