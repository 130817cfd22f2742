"""One order from two lists: by meaning and by words.

The scores of the lists are not comparable, their deviations from each list's mean are. Measured
on three judged collections the sum of those z-scores orders better than reciprocal ranks do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from query.vectors.port import SEARCH_LIMIT_MAX, Candidates

SMOOTHING: Final = 0.3
NEIGHBOURS: Final = 10

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate in the fused order.

    `score` compares candidates of one search only. `cosine` and `bm25` are the scores the lists
    gave, None where the candidate is not in the list.
    """

    point_id: str
    score: float
    cosine: float | None
    bm25: float | None


def fuse(found: Candidates, *, depth: int = SEARCH_LIMIT_MAX) -> list[Ranked]:
    """Order the candidates of both lists, best first, equal scores in the order of ids.

    `depth` is the limit the search was made with: a list that long was cut. With `found.vectors`
    each score is smoothed by those of the candidate's nearest neighbours: passages that lie close
    to good ones are likely good.
    """
    cosines = {candidate.point_id: candidate.score for candidate in found.dense}
    words = {candidate.point_id: candidate.score for candidate in found.sparse}
    ids = sorted(cosines.keys() | words.keys())
    if not ids:
        return []
    # Who is absent from a cut list could have had its lowest score; who is absent from a list of
    # words that was not cut shares no word with the question, which is a score: 0.
    floor = None if len(words) >= depth else 0.0
    scores = _standardise(ids, cosines) + _standardise(ids, words, floor=floor)
    if found.vectors:
        scores = _smooth(scores, np.stack([found.vectors[point_id] for point_id in ids]))
    return [
        Ranked(
            point_id=ids[row],
            score=float(scores[row]),
            cosine=cosines.get(ids[row]),
            bm25=words.get(ids[row]),
        )
        for row in np.argsort(-scores, kind="stable")
    ]


def _standardise(
    ids: Sequence[str], listed: Mapping[str, float], *, floor: float | None = None
) -> Scores:
    """A z-score for each id. Where a floor is known, the absent have it and count as well."""
    if not listed:
        return np.zeros(len(ids))
    lowest = min(listed.values()) if floor is None else floor
    scores = np.array([listed.get(point_id, lowest) for point_id in ids])
    sample = scores if floor is not None else np.fromiter(listed.values(), dtype=np.float64)
    spread = float(sample.std())
    return (scores - sample.mean()) / spread if spread > 0 else np.zeros(len(ids))


def _smooth(scores: Scores, vectors: NDArray[np.float32]) -> Scores:
    """Mix in the mean score of the nearest neighbours, each weighed by its squared cosine."""
    count = min(NEIGHBOURS, len(scores) - 1)
    if count < 1:
        return scores
    closeness = np.clip(vectors @ vectors.T, 0.0, None) ** 2
    np.fill_diagonal(closeness, -1.0)
    nearest = np.argpartition(-closeness, count - 1, axis=1)[:, :count]
    # The smallest weight keeps the mean defined where all neighbours are unrelated.
    weights = np.take_along_axis(closeness, nearest, axis=1).astype(np.float64) + 1e-9
    around: Scores = (weights * scores[nearest]).sum(axis=1) / weights.sum(axis=1)
    return (1 - SMOOTHING) * scores + SMOOTHING * around
