"""Orders candidates so that the best differ from each other (maximal marginal relevance)."""

from typing import Final

import numpy as np

from query.domain import Matrix
from query.retrieval.fusion import Candidates, Ranked

# Candidates to choose from for each one that is returned.
POOL: Final = 3


def diversify(
    ranked: Ranked, found: Candidates, vectors: Matrix, *, diversity: float, limit: int
) -> Ranked:
    """Choose the first `limit` one by one; the others follow in their order.

    Each is the candidate with the highest (1 - diversity) * score - diversity * likeness, where the
    score is scaled to 0..1 and the likeness is the highest cosine to those chosen before.
    Carbonell and Goldstein, 1998.

    Args:
        ranked: the candidates, best first.
        found: the same candidates in the order of `vectors`.
        vectors: the dense vector of each, row by row, of unit length.
        diversity: 0 keeps the order, 1 looks at the likeness alone, after the best one.
        limit: how many to choose.
    """
    pool = min(len(ranked.point_ids), POOL * limit)
    if diversity <= 0 or pool < 2:  # noqa: PLR2004 (a single candidate differs from none)
        return ranked
    rows = {point_id: row for row, point_id in enumerate(found.point_ids)}
    pooled = vectors[[rows[point_id] for point_id in ranked.point_ids[:pool]]]
    scores = np.array(ranked.scores[:pool])
    spread = float(scores.max() - scores.min())
    worth = (1 - diversity) * (scores - scores.min()) / (spread or 1.0)
    likeness = np.zeros(pool)
    left = np.ones(pool, dtype=bool)
    chosen: list[int] = []
    while len(chosen) < min(limit, pool):
        best = int(np.argmax(np.where(left, worth - diversity * likeness, -np.inf)))
        chosen.append(best)
        left[best] = False
        likeness = np.maximum(likeness, pooled @ pooled[best])
    rest = [row for row in range(len(ranked.point_ids)) if row >= pool or left[row]]
    return ranked.take([*chosen, *rest])
