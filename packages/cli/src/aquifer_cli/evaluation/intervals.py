"""Figures with 95 % intervals, by bootstrap over the questions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, rankdata

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 10_000
SEED: Final = 7
# Resamples that are in memory at once.
BATCH: Final = 100

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value and its interval, which is None for fewer than two questions of a kind."""

    value: float
    low: float | None
    high: float | None
    questions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """This run minus another one over the questions that both have; `p` is two-sided."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    questions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A confidence, and whether the question is answerable."""

    answerable: bool
    confidence: float


def estimate_mean(values: Sequence[float]) -> Estimate:
    """The mean over questions; `values` has one value each, at least one."""
    data = np.asarray(values)
    low, high, _ = _resample((data,), _mean)
    return Estimate(value=float(data.mean()), low=low, high=high, questions=len(data))


def compare_means(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Difference | None:
    """The paired difference of two means, by question id; None without a common question."""
    common = [question for question in ours if question in theirs]
    if not common:
        return None
    data = np.asarray([ours[question] - theirs[question] for question in common])
    low, high, p = _resample((data,), _mean)
    return Difference(value=float(data.mean()), low=low, high=high, p=p, questions=len(data))


def estimate_auroc(judged: Sequence[Judged]) -> Estimate | None:
    """How often an answerable question has a higher confidence than an unanswerable one.

    Equal confidences count half. None without questions of both kinds.
    """
    above, below = _split(judged)
    if not len(above) or not len(below):
        return None
    low, high, _ = _resample((above, below), auroc)
    value = float(auroc(above, below))
    return Estimate(value=value, low=low, high=high, questions=len(judged))


def compare_aurocs(ours: Mapping[str, Judged], theirs: Mapping[str, Judged]) -> Difference | None:
    """The paired difference of two AUROCs, by question id; None without both kinds in common."""
    common = [question for question in ours if question in theirs]
    kinds = [
        [question for question in common if ours[question].answerable is kind]
        for kind in (True, False)
    ]
    if not all(kinds):
        return None
    above, below = (_confidences(kind, ours) for kind in kinds)
    their_above, their_below = (_confidences(kind, theirs) for kind in kinds)

    def subtract(some: Any, others: Any, axis: int = -1) -> Any:
        # Questions are drawn, so that both runs are compared over the same ones.
        return auroc(above[some], below[others], axis) - auroc(
            their_above[some], their_below[others], axis
        )

    first, second = (np.arange(len(kind)) for kind in kinds)
    low, high, p = _resample((first, second), subtract)
    value = float(subtract(first, second))
    return Difference(value=value, low=low, high=high, p=p, questions=len(common))


def auroc(above: Values, below: Values, axis: int = -1) -> Any:
    """Area under the ROC curve along the last axis, from the ranks of all values."""
    first, second = above.shape[axis], below.shape[axis]
    ranks = rankdata(np.concatenate([above, below], axis=axis), axis=axis)
    total = ranks[..., :first].sum(axis=axis)
    return (total - first * (first + 1) / 2) / (first * second)


def _split(judged: Sequence[Judged]) -> tuple[Values, Values]:
    above, below = (
        np.asarray([one.confidence for one in judged if one.answerable is kind], dtype=np.float64)
        for kind in (True, False)
    )
    return above, below


def _confidences(questions: Sequence[str], judged: Mapping[str, Judged]) -> Values:
    return np.asarray([judged[question].confidence for question in questions])


def _mean(values: Any, axis: int = -1) -> Any:
    return values.mean(axis=axis)


def _resample(
    data: Sequence[NDArray[Any]], statistic: Callable[..., Any]
) -> tuple[float | None, float | None, float | None]:
    """The percentile interval, and the two-sided p of the value 0."""
    if min(map(len, data)) < 2:  # noqa: PLR2004  # one question has no spread
        return None, None, None
    drawn = bootstrap(
        data,
        statistic,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    low, high = drawn.confidence_interval
    values = drawn.bootstrap_distribution
    tail = min(int((values <= 0).sum()), int((values >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))
    return float(low), float(high), p
