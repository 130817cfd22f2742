"""Merges the rankings of several wordings of a question into one."""

from collections.abc import Sequence
from math import nan

import numpy as np

from query.retrieval.fusion import Ranked, standardise


def merge_wordings(rankings: Sequence[Ranked]) -> Ranked:
    """One ranking, in the order of the sums of z-scores; equal ones in the order of ids.

    A candidate that a wording does not have gets its lowest score there. Cosine and BM25 are those
    of the first wording that has the candidate.
    """
    if len(rankings) == 1:
        return rankings[0]
    known: dict[str, tuple[float, float]] = {}
    for ranked in rankings:
        for point_id, *scores in zip(ranked.point_ids, ranked.cosines, ranked.bm25s, strict=True):
            known.setdefault(point_id, (scores[0], scores[1]))
    ids = sorted(known)
    sums = np.zeros(len(ids))
    for ranked in rankings:
        listed = dict(zip(ranked.point_ids, ranked.scores, strict=True))
        sums += standardise(np.array([listed.get(one, nan) for one in ids]))
    order = np.argsort(-sums, kind="stable").tolist()
    return Ranked(
        point_ids=[ids[row] for row in order],
        scores=[float(sums[row]) for row in order],
        cosines=[known[ids[row]][0] for row in order],
        bm25s=[known[ids[row]][1] for row in order],
    )
