"""Draws a run, and its differences from another one, as a PNG."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aquifer_cli.evaluation.figures import label
from aquifer_cli.evaluation.intervals import Estimate
from aquifer_cli.layout import cut

OURS: Final = "#1f5fa8"
THEIRS: Final = "#d9822b"
WORSE: Final = "#b3382c"
DOTS_PER_INCH: Final = 150
NAME_CELLS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A run in the plot: its figures, and the value of the main figure by question id."""

    name: str
    figures: Mapping[str, Estimate | None]
    values: Mapping[str, float]


def draw(title: str, main: str, ours: Series, theirs: Series | None) -> bytes:
    """A PNG: figures with intervals, and beside them the questions in the order of `main`."""
    # Names of files may have `$`, which would begin a formula, and signs that the font lacks.
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        return _draw(title, main, ours, theirs)


def _draw(title: str, main: str, ours: Series, theirs: Series | None) -> bytes:
    rows = len(ours.figures)
    figure = Figure(figsize=(12, max(4.0, 0.7 * rows + 1.8)), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_figures(left, [ours] if theirs is None else [ours, theirs])
    if theirs is None:
        _draw_values(right, main, ours)
    else:
        _draw_differences(right, main, ours, theirs)
    figure.suptitle(title)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=DOTS_PER_INCH)
    return out.getvalue()


def _draw_figures(axes: Axes, runs: Sequence[Series]) -> None:
    names = list(runs[0].figures)
    for number, (run, color) in enumerate(zip(runs, (OURS, THEIRS), strict=False)):
        # The first run stands above the second.
        shift = 0.0 if len(runs) == 1 else (-0.16, 0.16)[number]
        shown = False
        for place, name in enumerate(names):
            if (one := run.figures.get(name)) is None:
                continue
            low = one.value if one.low is None else one.low
            high = one.value if one.high is None else one.high
            axes.errorbar(
                one.value,
                place + shift,
                xerr=[[max(one.value - low, 0.0)], [max(high - one.value, 0.0)]],
                fmt="o",
                color=color,
                capsize=4,
                label=None if shown else cut(run.name, NAME_CELLS),
            )
            axes.annotate(
                f"{one.value:.3f}",
                (one.value, place + shift),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=color,
            )
            shown = True
    axes.set_yticks(range(len(names)), [label(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(-0.06, 1.06)
    axes.grid(axis="x", alpha=0.3)
    axes.set_title("figures with 95 % intervals")
    if len(runs) > 1:
        axes.legend(loc="best", fontsize=8)


def _draw_values(axes: Axes, main: str, run: Series) -> None:
    values = sorted(run.values.values(), reverse=True)
    axes.bar(range(len(values)), values, width=1.0, color=OURS)
    axes.margins(x=0.01)
    axes.set_title(f"{label(main)} of each question, sorted")
    axes.set_xlabel(f"{len(values):,} questions")
    axes.set_ylim(0, 1.03)
    axes.grid(axis="y", alpha=0.3)


def _draw_differences(axes: Axes, main: str, ours: Series, theirs: Series) -> None:
    values = sorted(
        (
            value - theirs.values[question]
            for question, value in ours.values.items()
            if question in theirs.values
        ),
        reverse=True,
    )
    above, below = sum(value > 0 for value in values), sum(value < 0 for value in values)
    colors = [OURS if value > 0 else WORSE for value in values]
    axes.bar(range(len(values)), values, width=1.0, color=colors)
    axes.margins(x=0.01)
    axes.axhline(0, color="black", linewidth=0.8)
    names = f"{cut(ours.name, NAME_CELLS)} minus {cut(theirs.name, NAME_CELLS)}"
    axes.set_title(f"{label(main)} by question, sorted:\n{names}")
    equal = len(values) - above - below
    axes.set_xlabel(f"{above:,} higher, {equal:,} equal, {below:,} lower")
    axes.grid(axis="y", alpha=0.3)
