import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from query.retrieval.fusion import BLOCK, Candidates, Ranked, fuse

from .fusion_oracle import fused_scores

DEPTH = 200


def name(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


def number_of(point_id: str) -> int:
    return int(point_id[-12:])


def fuse_lists(dense, sparse, vectors=None, *, depth=DEPTH, limit=100) -> Ranked:
    """Two lists of scores by number; without `vectors` no candidate is another's neighbour."""
    found = Candidates.merge(
        {name(n): score for n, score in dense.items()},
        {name(n): score for n, score in sparse.items()},
    )
    numbers = [number_of(one) for one in found.point_ids]
    rows = np.eye(len(numbers), dtype=np.float32)
    if vectors is not None and numbers:
        rows = np.stack([vectors[n] for n in numbers])
    return fuse(found, rows, depth=depth, limit=limit)


def order(*args, **kwargs) -> list[int]:
    return [number_of(one) for one in fuse_lists(*args, **kwargs).point_ids]


def scores(ranked: Ranked) -> dict[int, float]:
    return dict(zip(map(number_of, ranked.point_ids), ranked.scores, strict=True))


def test_nothing_found_is_nothing_fused():
    assert order({}, {}) == []


def test_one_candidate_alone_is_ranked():
    assert order({7: 0.5}, {}) == order({}, {7: 3.0}) == [7]


def test_a_candidate_good_in_both_lists_wins():
    assert order({1: 0.9, 2: 0.8, 3: 0.1}, {4: 9.0, 2: 8.0, 3: 1.0})[0] == 2


def test_scores_of_the_lists_are_kept():
    ranked = fuse_lists({1: 0.9}, {2: 3.0})
    columns = zip(map(number_of, ranked.point_ids), ranked.cosines, ranked.bm25s, strict=True)
    by_number = {number: (cosine, bm25) for number, cosine, bm25 in columns}
    np.testing.assert_equal(by_number, {1: (0.9, np.nan), 2: (np.nan, 3.0)})


def test_the_scale_of_a_list_does_not_matter():
    dense, sparse = {1: 0.9, 2: 0.7, 3: 0.2}, {3: 9.0, 2: 5.0, 1: 1.0}
    scaled = {number: 1000 * score for number, score in sparse.items()}
    assert scores(fuse_lists(dense, sparse)) == pytest.approx(scores(fuse_lists(dense, scaled)))


def test_the_only_passage_with_the_word_comes_first():
    """Its list has no spread of its own: the others' missing word is what sets it apart."""
    dense = {number: 0.5 - number / 100 for number in range(20)}
    assert order(dense, {11: 4.0})[0] == 11


def test_a_candidate_absent_from_a_cut_list_has_its_lowest_score():
    ranked = scores(fuse_lists({1: 0.5, 2: 0.5, 3: 0.5}, {1: 9.0, 2: 8.0}, depth=2))
    assert ranked[3] == ranked[2] < ranked[1]


def test_equal_scores_come_in_the_order_of_ids():
    assert order({3: 0.5, 1: 0.5, 2: 0.5}, {}) == [1, 2, 3]


@given(copies=st.integers(2, 40), others=st.integers(0, 60), seed=st.integers(0, 1_000))
@example(copies=2, others=26, seed=599)
def test_copies_of_one_passage_come_in_the_order_of_ids(copies, others, seed):
    """Their vectors are equal; 32-bit products of them may be rounded differently by the row."""
    rng = np.random.default_rng(seed)
    rows = unit(rng.standard_normal((others + 1, 384)))
    numbers = rng.permutation(copies + others)
    vectors = {int(n): rows[max(0, place - copies + 1)] for place, n in enumerate(numbers)}
    dense = {n: float(vectors[n] @ rows[0]) for n in vectors}
    alike = sorted(int(n) for n in numbers[:copies])
    dense |= dict.fromkeys(alike, 1.0)
    assert [n for n in order(dense, {}, vectors) if n in alike] == alike


def test_a_close_neighbour_of_good_passages_moves_up():
    dense = {1: 0.9, 2: 0.9, 3: 0.4, 4: 0.4, 5: 0.1, 6: 0.1}
    near, far, away = np.eye(3, dtype=np.float32)
    vectors = {1: near, 2: near, 3: far, 4: near, 5: far, 6: away}
    assert order(dense, {})[2:4] == [3, 4]
    assert order(dense, {}, vectors)[2:4] == [4, 3]


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def search(seed: int, count: int, spread: float, depth: int):
    """Lists as a search gives them: clustered passages, one question, tails of both kinds.

    Vectors lie on a grid on which 32-bit products are exact: what is equally near is equal.
    """
    rng = np.random.default_rng(seed)
    themes = rng.standard_normal((rng.integers(1, 12), 16))
    theme = rng.integers(0, len(themes), count)
    rows = np.round(16 * unit(themes[theme] + spread * rng.standard_normal((count, 16)))) / 16
    rows = rows.astype(np.float32)
    question = unit(themes[:1] + 0.3 * rng.standard_normal((1, 16)))[0]
    cosines = rows @ question
    words = rng.gamma(1.0, 3.0, count) * (rng.random(count) < rng.random())
    nearest = np.argsort(-cosines)[:depth]
    said = [n for n in np.argsort(-words)[:depth] if words[n] > 0]
    return (
        {int(n): float(cosines[n]) for n in nearest},
        {int(n): float(words[n]) for n in said},
        dict(enumerate(rows)),
    )


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 400),
    spread=st.sampled_from([0.05, 0.5, 2.0]),
    depth=st.sampled_from([1, 7, 50, 200]),
    limit=st.sampled_from([1, 10, 30, 100]),
)
def test_the_first_are_those_of_smoothing_every_candidate(seed, count, spread, depth, limit):
    dense, sparse, vectors = search(seed, count, spread, depth)
    ranked = fuse_lists(dense, sparse, vectors, depth=depth, limit=limit)
    expected = fused_scores(
        {name(n): score for n, score in dense.items()},
        {name(n): score for n, score in sparse.items()},
        {name(n): row for n, row in vectors.items()},
        depth=depth,
    )
    assert sorted(ranked.point_ids) == sorted(expected)
    best = list(expected)[:limit]
    for place, (mine, theirs) in enumerate(zip(ranked.point_ids, best, strict=False)):
        # Another id in a place only where the two scores are the same but for rounding.
        assert expected[mine] == pytest.approx(expected[theirs], abs=3e-6), place
        assert ranked.scores[place] == pytest.approx(expected[mine], abs=3e-6)
    assert ranked.scores == sorted(ranked.scores, reverse=True)


def test_a_candidate_far_down_that_neighbours_lift_is_found():
    """More candidates than one block: those behind it are looked at while they may come up."""
    count = 3 * BLOCK
    rng = np.random.default_rng(1)
    rows = unit(rng.standard_normal((count, 64)))
    dense = {n: 1.0 if n < 10 else 0.5 - n * 1e-5 for n in range(count)}
    lifted = count - 1
    for n in range(10):
        rows[n] = rows[lifted]
    vectors = dict(enumerate(rows))
    everyone = order(dense, {}, vectors, limit=count)
    assert everyone.index(lifted) == 10
    for limit in (1, 10, 11, 50, 100):
        assert order(dense, {}, vectors, limit=limit)[:limit] == everyone[:limit]


SCORES = st.dictionaries(st.integers(0, 40), st.floats(-1, 1), max_size=30)


@given(dense=SCORES, words=SCORES, data=st.data())
def test_the_order_of_the_lists_does_not_matter(dense, words, data):
    rows = unit(np.random.default_rng(0).standard_normal((41, 8)))
    first = fuse_lists(dense, words, rows)
    shuffled = [dict(data.draw(st.permutations(list(one.items())))) for one in (dense, words)]
    assert set(map(number_of, first.point_ids)) == dense.keys() | words.keys()
    assert np.isfinite(first.scores).all()
    again = fuse_lists(*shuffled, rows)
    assert (again.point_ids, again.scores) == (first.point_ids, first.scores)
