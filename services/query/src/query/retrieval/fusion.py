"""Fuses two ranked lists, by meaning and by words, into one.

The scores of the lists are not comparable, but their z-scores are. On three judged collections the
sum of z-scores ranks better than reciprocal ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from query.domain import Matrix

SMOOTHING: Final = 0.3
NEIGHBOURS: Final = 10
# Candidates smoothed at once. In most searches the first block determines the first ten.
BLOCK: Final = 100
# Digits of a score. Further digits are rounding errors of 32-bit floats, which would order copies
# of a passage at random.
DIGITS: Final = 6

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Both lists as one table, sorted by id.

    `cosines` and `bm25s` are the scores of the lists, NaN if a row is not in the list.
    """

    point_ids: Sequence[str]
    cosines: Scores
    bm25s: Scores

    @classmethod
    def merge(cls, dense: Mapping[str, float], sparse: Mapping[str, float]) -> "Candidates":
        """Makes the table from two lists, each with scores by point id."""
        ids = sorted(dense.keys() | sparse.keys())
        absent = float("nan")
        return cls(
            point_ids=ids,
            cosines=np.array([dense.get(one, absent) for one in ids], dtype=np.float64),
            bm25s=np.array([sparse.get(one, absent) for one in ids], dtype=np.float64),
        )

    def take(self, rows: NDArray[np.intp]) -> "Candidates":
        """Selects rows, in this order."""
        return Candidates(
            point_ids=[self.point_ids[row] for row in rows],
            cosines=self.cosines[rows],
            bm25s=self.bm25s[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """Candidates in the fused order, best first; all columns have one length.

    `scores` compare candidates of one search only. `cosines` and `bm25s` are as in `Candidates`.
    """

    point_ids: Sequence[str]
    scores: Sequence[float]
    cosines: Sequence[float]
    bm25s: Sequence[float]

    def take(self, rows: Sequence[int]) -> "Ranked":
        """Selects rows, in this order."""
        return Ranked(
            point_ids=[self.point_ids[row] for row in rows],
            scores=[self.scores[row] for row in rows],
            cosines=[self.cosines[row] for row in rows],
            bm25s=[self.bm25s[row] for row in rows],
        )


def fuse(found: Candidates, vectors: Matrix, *, depth: int, limit: int) -> Ranked:
    """Order the candidates, best first; equal scores in the order of ids.

    Each score is smoothed by the scores of the candidate's nearest neighbours, because passages
    close to good ones are likely good. The first `limit` are exact. Candidates that cannot be among
    them keep their unsmoothed score and come after them.

    Args:
        found: the candidates.
        vectors: the dense vector of each candidate, row by row.
        depth: the maximum length of the lists; a list of this length was cut.
        limit: how many candidates at the top must be exact.
    """
    meaning, words = standardise_lists(found.cosines, found.bm25s, depth)
    scores = np.round(smooth(meaning + words, vectors, limit), DIGITS)
    return _order(found, scores)


def standardise_lists(cosines: Scores, bm25s: Scores, depth: int) -> tuple[Scores, Scores]:
    """The z-scores of both lists; NaN in a list marks what it does not have."""
    # A candidate missing from a cut list gets at most the lowest score of the list. A candidate
    # missing from a word list that was not cut shares no word with the question: its score is 0.
    cut = np.count_nonzero(~np.isnan(bm25s)) >= depth
    return standardise(cosines), standardise(bm25s, floor=None if cut else 0.0)


def rank_by_words(found: Candidates) -> Ranked:
    """Order the candidates of a search by words alone, with BM25 as their score."""
    return _order(found, found.bm25s)


def _order(found: Candidates, scores: Scores) -> Ranked:
    """Order by scores, best first; equal ones in the order of ids."""
    order = np.argsort(-scores, kind="stable")
    best = found.take(order)
    return Ranked(
        point_ids=best.point_ids,
        scores=scores[order].tolist(),
        cosines=best.cosines.tolist(),
        bm25s=best.bm25s.tolist(),
    )


def standardise(listed: Scores, *, floor: float | None = None) -> Scores:
    """Z-scores of the rows; if a floor is given, missing rows have that score and count too."""
    absent = np.isnan(listed)
    if absent.all():
        return np.zeros(len(listed))
    sample = listed[~absent]
    scores = np.where(absent, sample.min() if floor is None else floor, listed)
    if floor is not None:
        sample = scores
    spread = float(sample.std())
    return (scores - sample.mean()) / spread if spread > 0 else np.zeros(len(listed))


def smooth(scores: Scores, vectors: Matrix, limit: int) -> Scores:
    """Mix in the mean score of the nearest neighbours, for candidates that may reach the top.

    Neighbours can raise a score at most to the mix with the highest score. So the best are smoothed
    block by block, until no other candidate can be among the first `limit`.
    """
    if len(scores) < 2:  # noqa: PLR2004 (a single candidate has no neighbour)
        return scores
    smoothed = scores.copy()
    order = np.argsort(-scores, kind="stable")
    reach = (1 - SMOOTHING) * scores[order] + SMOOTHING * scores[order[0]]
    for first in range(0, len(order), BLOCK):
        if first >= limit:
            last = np.partition(smoothed[order[:first]], first - limit)[first - limit]
            if reach[first] < last - 10.0**-DIGITS:
                break
        rows = order[first : first + BLOCK]
        around = _average_neighbours(rows, scores, vectors)
        smoothed[rows] = (1 - SMOOTHING) * scores[rows] + SMOOTHING * around
    return smoothed


def _average_neighbours(rows: NDArray[np.intp], scores: Scores, vectors: Matrix) -> Scores:
    """Mean score of each row's nearest, weighted by squared cosine; all equally near ones count."""
    # With 32 bits, products of equal vectors may differ by the row, and so the order of copies.
    exact = vectors.astype(np.float64)
    closeness = np.maximum(exact[rows] @ exact.T, 0.0) ** 2
    closeness[np.arange(len(rows)), rows] = -1.0  # a row is not its own neighbour
    count = min(NEIGHBOURS, len(scores) - 1)
    farthest = np.partition(closeness, -count, axis=1)[:, -count, None]
    # The smallest weight keeps the mean defined where all neighbours are unrelated.
    weights = np.where(closeness >= farthest, closeness + 1e-9, 0.0)
    around: Scores = weights @ scores / weights.sum(axis=1)
    return around
