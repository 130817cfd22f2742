import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.fusion import Ranked, fuse
from query.vectors.port import Candidate, Candidates


def candidate(number: int, score: float) -> Candidate:
    return Candidate(point_id=f"00000000-0000-0000-0000-{number:012d}", score=score)


def number_of(one: Candidate | Ranked) -> int:
    return int(one.point_id[-12:])


def order(found: Candidates, **kwargs) -> list[int]:
    return [number_of(one) for one in fuse(found, **kwargs)]


def test_nothing_found_is_nothing_fused():
    assert fuse(Candidates(dense=(), sparse=())) == []


def test_a_candidate_good_in_both_lists_wins():
    found = Candidates(
        dense=(candidate(1, 0.9), candidate(2, 0.8), candidate(3, 0.1)),
        sparse=(candidate(4, 9.0), candidate(2, 8.0), candidate(3, 1.0)),
    )
    assert order(found)[0] == 2


def test_scores_of_the_lists_are_kept():
    found = Candidates(dense=(candidate(1, 0.9),), sparse=(candidate(2, 3.0),))
    by_number = {number_of(one): one for one in fuse(found)}
    assert (by_number[1].cosine, by_number[1].bm25) == (0.9, None)
    assert (by_number[2].cosine, by_number[2].bm25) == (None, 3.0)


def test_the_scale_of_a_list_does_not_matter():
    dense = (candidate(1, 0.9), candidate(2, 0.7), candidate(3, 0.2))
    sparse = (candidate(3, 9.0), candidate(2, 5.0), candidate(1, 1.0))
    scaled = tuple(candidate(number_of(one), 1000 * one.score) for one in sparse)
    ours, theirs = (fuse(Candidates(dense=dense, sparse=words)) for words in (sparse, scaled))
    assert [one.score for one in ours] == pytest.approx([one.score for one in theirs])


def test_the_only_passage_with_the_word_comes_first():
    """Its list has no spread of its own: the others' missing word is what sets it apart."""
    dense = tuple(candidate(number, 0.5 - number / 100) for number in range(20))
    assert order(Candidates(dense=dense, sparse=(candidate(11, 4.0),)))[0] == 11


def test_who_is_absent_from_a_cut_list_has_its_lowest_score():
    dense = (candidate(1, 0.5), candidate(2, 0.5), candidate(3, 0.5))
    sparse = (candidate(1, 9.0), candidate(2, 8.0))
    ranked = {number_of(one): one.score for one in fuse(found_with(dense, sparse), depth=2)}
    assert ranked[3] == ranked[2] < ranked[1]


def found_with(dense, sparse) -> Candidates:
    return Candidates(dense=dense, sparse=sparse)


def test_equal_scores_come_in_the_order_of_ids():
    dense = tuple(candidate(number, 0.5) for number in (3, 1, 2))
    assert order(Candidates(dense=dense, sparse=())) == [1, 2, 3]


def test_a_close_neighbour_of_good_passages_moves_up():
    scores = {1: 0.9, 2: 0.9, 3: 0.4, 4: 0.4, 5: 0.1, 6: 0.1}
    near, far, away = np.array([1, 0, 0]), np.array([0, 1, 0]), np.array([0, 0, 1])
    rows = {1: near, 2: near, 3: far, 4: near, 5: far, 6: away}
    dense = tuple(candidate(number, score) for number, score in scores.items())
    vectors = {one.point_id: rows[number_of(one)].astype(np.float32) for one in dense}
    assert order(Candidates(dense=dense, sparse=()))[2:4] == [3, 4]
    assert order(Candidates(dense=dense, sparse=(), vectors=vectors))[2:4] == [4, 3]


SCORES = st.dictionaries(st.integers(0, 40), st.floats(-1, 1), max_size=30)


@given(dense=SCORES, words=SCORES, smoothed=st.booleans(), data=st.data())
def test_the_order_of_the_lists_does_not_matter(dense, words, smoothed, data):
    lists = [[candidate(n, s) for n, s in scores.items()] for scores in (dense, words)]
    vectors = {}
    if smoothed:
        for one in (*lists[0], *lists[1]):
            row = np.random.default_rng(number_of(one)).standard_normal(8).astype(np.float32)
            vectors[one.point_id] = row / np.linalg.norm(row)
    first = fuse(Candidates(dense=tuple(lists[0]), sparse=tuple(lists[1]), vectors=vectors))
    shuffled = [tuple(data.draw(st.permutations(one))) for one in lists]
    second = fuse(Candidates(dense=shuffled[0], sparse=shuffled[1], vectors=vectors))
    assert {number_of(one) for one in first} == dense.keys() | words.keys()
    assert all(np.isfinite(one.score) for one in first)
    assert sorted(one.score for one in first) == pytest.approx(sorted(one.score for one in second))
