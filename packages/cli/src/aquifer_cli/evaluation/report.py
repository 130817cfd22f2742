"""Shows a run to people, and compares it with another one in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from aquifer_cli.evaluation.figures import label
from aquifer_cli.evaluation.intervals import Difference, Estimate
from aquifer_cli.evaluation.runs import OtherRun, RunFile, list_changes
from aquifer_cli.layout import Row
from aquifer_cli.screen import Screen

# Counts that are shown only if there are any.
UNUSUAL: Final = {
    "without_a_relevant_document",
    "hits_of_other_documents",
    "citations_of_other_documents",
    "answers_while_the_model_was_away",
}


def show_run(screen: Screen, run: RunFile) -> None:
    """The documents, the questions and the figures."""
    documents = run.documents
    missing = ", ".join(f"{count:,} {reason}" for reason, count in documents.not_indexed.items())
    told = f"{documents.indexed:,} of {documents.total:,} indexed, {documents.sent:,} sent now"
    screen.fill(f"documents: {told}{f'; not indexed: {missing}' if missing else ''}")
    counts = [
        f"{count:,} {label(name)}"
        for name, count in run.counts.items()
        if count or name not in UNUSUAL
    ]
    screen.fill(", ".join(counts))
    if run.failures:
        reasons = Counter(failure.reason for failure in run.failures)
        failed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        screen.fill(f"questions without a result, in no figure: {failed}", style="red")
    screen.say()
    screen.table(
        ["figure", "value", "95 % interval", "questions"],
        [Row(cells=_figure_cells(name, one)) for name, one in run.figures.items()],
    )


def show_comparison(
    screen: Screen,
    run: RunFile,
    other: OtherRun,
    differences: Mapping[str, Difference | None],
    main: str,
) -> None:
    """The differences, and the verdict."""
    screen.say()
    screen.fill(f"against {other.name} of {other.time}")
    if changes := list_changes(run.settings, other.settings):
        screen.fill(f"settings that differ: {', '.join(map(label, changes))}")
    screen.table(
        ["figure", "difference", "95 % interval", "p", "questions"],
        [Row(cells=_difference_cells(name, one)) for name, one in differences.items()],
    )
    screen.say()
    screen.fill(decide(main, differences[main], other.name))


def decide(figure: str, difference: Difference | None, other: str) -> str:
    """The verdict on two runs in words, by a figure of which more is better."""
    name = label(figure)
    if difference is None:
        return f"Nothing can be told: {other} has no question in common for {name}."
    if difference.low is None or difference.high is None:
        return f"Nothing can be told from one question of {name}."
    measured = (
        f"{difference.value:+z.3f}, 95 % interval {_span(difference.low, difference.high, '+')},"
        f" p = {_p(difference.p)}, {difference.questions:,} questions"
    )
    if difference.low <= 0 <= difference.high:
        return f"No difference of {name} from {other} is shown ({measured})."
    word = "better" if difference.value > 0 else "worse"
    return f"This run is {word} than {other} by {name} ({measured})."


def as_json(
    run: RunFile, other: OtherRun | None, differences: Mapping[str, Difference | None], main: str
) -> dict[str, object]:
    """A run for programs, without its single questions."""
    if other is None:
        return run.summary()
    compared = {
        name: one and {field: getattr(one, field) for field in Difference.__slots__}
        for name, one in differences.items()
    }
    against = {
        "run": other.name,
        "time": other.time,
        "settings_that_differ": list_changes(run.settings, other.settings),
        "differences": compared,
        "verdict": decide(main, differences[main], other.name),
    }
    return {**run.summary(), "against": against}


def _figure_cells(name: str, one: Estimate | None) -> Sequence[object]:
    if one is None:
        return (label(name), "none", "", 0)
    return (label(name), f"{one.value:.3f}", _span(one.low, one.high), one.questions)


def _difference_cells(name: str, one: Difference | None) -> Sequence[object]:
    if one is None:
        return (label(name), "none", "", "", 0)
    interval = _span(one.low, one.high, "+")
    return (label(name), f"{one.value:+z.3f}", interval, _p(one.p), one.questions)


def _span(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return "unknown"
    return f"{low:{sign}z.3f} to {high:{sign}z.3f}"


def _p(p: float | None) -> str:
    return "" if p is None else f"{p:.4f}"
