"""Fusion by its definition, slowly: every candidate is smoothed. `fuse` must equal it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from query.retrieval.fusion import NEIGHBOURS, SMOOTHING

Lists = Mapping[str, float]


def fused_scores(
    cosines: Lists, bm25s: Lists, vectors: Mapping[str, Any], *, depth: int
) -> dict[str, float]:
    """The fused score of each candidate by id, best first."""
    ids = sorted(cosines.keys() | bm25s.keys())
    floor = None if len(bm25s) >= depth else 0.0
    scores = _standardised(ids, cosines) + _standardised(ids, bm25s, floor=floor)
    if len(ids) > 1:
        scores = _smoothed(scores, np.stack([vectors[one] for one in ids]))
    return {ids[row]: float(scores[row]) for row in np.argsort(-scores, kind="stable")}


def _standardised(ids: Sequence[str], listed: Lists, *, floor: float | None = None) -> Any:
    if not listed:
        return np.zeros(len(ids))
    lowest = min(listed.values()) if floor is None else floor
    scores = np.array([listed.get(one, lowest) for one in ids])
    sample = scores if floor is not None else np.array(list(listed.values()))
    spread = sample.std()
    return (scores - sample.mean()) / spread if spread > 0 else np.zeros(len(ids))


def _smoothed(scores: Any, vectors: Any) -> Any:
    """Equally near neighbours all count."""
    count = min(NEIGHBOURS, len(scores) - 1)
    smoothed = []
    for row, score in enumerate(scores):
        closeness = np.clip(vectors @ vectors[row], 0.0, None).astype(np.float64) ** 2
        others = np.delete(closeness, row)
        near = others >= np.sort(others)[-count]
        weights = others[near] + 1e-9
        around = (weights * np.delete(scores, row)[near]).sum() / weights.sum()
        smoothed.append((1 - SMOOTHING) * score + SMOOTHING * around)
    return np.array(smoothed)
