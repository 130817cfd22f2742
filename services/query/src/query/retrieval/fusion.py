"""One order from two lists: by meaning and by words.

The scores of the lists are not comparable, their deviations from each list's mean are. Measured
on three judged collections the sum of those z-scores orders better than reciprocal ranks do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from query.domain import Matrix

SMOOTHING: Final = 0.3
NEIGHBOURS: Final = 10
# Candidates smoothed at once. The first block settles the first ten in most searches.
BLOCK: Final = 100
# Digits of a score. Beyond them is the rounding of 32-bit floats, which would order copies of one
# passage by chance.
DIGITS: Final = 6

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Both lists as one table, rows in the order of ids.

    `cosines` and `bm25s` are the scores the lists gave, NaN where a row is not in the list.
    """

    point_ids: Sequence[str]
    cosines: Scores
    bm25s: Scores

    @classmethod
    def merge(cls, dense: Mapping[str, float], sparse: Mapping[str, float]) -> "Candidates":
        """The table of two lists, each the scores by point id."""
        ids = sorted(dense.keys() | sparse.keys())
        absent = float("nan")
        return cls(
            point_ids=ids,
            cosines=np.array([dense.get(one, absent) for one in ids], dtype=np.float64),
            bm25s=np.array([sparse.get(one, absent) for one in ids], dtype=np.float64),
        )

    def take(self, rows: NDArray[np.intp]) -> "Candidates":
        """The table of these rows alone, in this order."""
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


def fuse(found: Candidates, vectors: Matrix, *, depth: int, limit: int) -> Ranked:
    """Order the candidates, best first, equal scores in the order of ids.

    Each score is smoothed by those of the candidate's nearest neighbours: passages that lie close
    to good ones are likely good. That is exact for the first `limit`; candidates which cannot come
    among them keep the score they had, below all of those.

    Args:
        found: the candidates.
        vectors: the dense vector of each candidate, row by row.
        depth: the limit the lists were made with: a list that long was cut.
        limit: how many of the first must be exact.
    """
    # A candidate absent from a cut list could have had its lowest score; one absent from a list
    # of words that was not cut shares no word with the question, which is a score: 0.
    cut = np.count_nonzero(~np.isnan(found.bm25s)) >= depth
    scores = standardise(found.cosines) + standardise(found.bm25s, floor=None if cut else 0.0)
    scores = np.round(smooth(scores, vectors, limit), DIGITS)
    order = np.argsort(-scores, kind="stable")
    best = found.take(order)
    return Ranked(
        point_ids=best.point_ids,
        scores=scores[order].tolist(),
        cosines=best.cosines.tolist(),
        bm25s=best.bm25s.tolist(),
    )


def standardise(listed: Scores, *, floor: float | None = None) -> Scores:
    """A z-score for each row. Where a floor is known, absent rows have it and count as well."""
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
    """Mix in the mean score of the nearest neighbours, for all who may be among the first `limit`.

    Neighbours raise a score at most to the mix with the highest score there is. So the best are
    smoothed block by block, until the best of the others cannot reach place `limit` any more.
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
    """Mean score of each row's nearest, weighed by squared cosine; equally near ones all count."""
    closeness = np.maximum(vectors[rows] @ vectors.T, 0.0) ** 2
    closeness[np.arange(len(rows)), rows] = -1.0  # nobody is a neighbour of its own
    count = min(NEIGHBOURS, len(scores) - 1)
    farthest = np.partition(closeness, -count, axis=1)[:, -count, None]
    # The smallest weight keeps the mean defined where all neighbours are unrelated.
    weights = np.where(closeness >= farthest, closeness.astype(np.float64) + 1e-9, 0.0)
    around: Scores = weights @ scores / weights.sum(axis=1)
    return around
