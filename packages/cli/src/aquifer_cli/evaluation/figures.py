"""The figures of a run, and how they differ from those of another one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aquifer_cli.evaluation.intervals import (
    Difference,
    Estimate,
    Judged,
    compare_aurocs,
    compare_means,
    estimate_auroc,
    estimate_mean,
)

AUROC: Final = "abstention_auroc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of each question.

    Attributes:
        means: by figure, a value by question id; the first figure is the one that decides.
        judged: the confidence of answers, by question id.
        has_auroc: whether `judged` is a figure of this kind of run.
    """

    means: Mapping[str, Mapping[str, float]]
    judged: Mapping[str, Judged] = field(default_factory=dict)
    has_auroc: bool = False

    @property
    def main(self) -> str:
        """The figure that decides which of two runs is better."""
        return next(iter(self.means))


def estimate(measured: Measured) -> dict[str, Estimate | None]:
    """Each figure; None if no question has a value for it."""
    figures: dict[str, Estimate | None] = {
        name: estimate_mean(list(values.values())) if values else None
        for name, values in measured.means.items()
    }
    if measured.has_auroc:
        figures[AUROC] = estimate_auroc(list(measured.judged.values()))
    return figures


def compare(ours: Measured, theirs: Measured) -> dict[str, Difference | None]:
    """Ours minus theirs for each figure; None if the runs have no question in common for it."""
    figures = {
        name: compare_means(values, theirs.means.get(name, {}))
        for name, values in ours.means.items()
    }
    if ours.has_auroc:
        figures[AUROC] = compare_aurocs(ours.judged, theirs.judged)
    return figures


def label(figure: str) -> str:
    """The name of a figure for people."""
    return figure.replace("_", " ").replace("auroc", "AUROC")
