"""The figures of a campaign: a row for people, or a JSON object."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from tests.faults.injection import has_group
from tests.faults.report import Report

KINDS = {
    "lost": ("lost", "not deleted", "found though deleted"),
    "doubled": ("doubled",),
    "stuck": ("stuck",),
    "order": ("order",),
    "shown": ("shown",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Runs are counted when something was in flight at each of their faults.

    `group_kills` are kills of a part for which several deliveries of one durable awaited
    acknowledgement, `open_uploads` the uploads without an answer at all kills together;
    `limited_searches` are those of a key that may not see all documents, and `shown` what it found
    of the others; `repeats` are answers to messages that were sent more than once; `other` are
    violations of no other kind.
    """

    seed: int
    runs: int
    counted: int
    uploads: int
    decided: int
    kills: int
    group_kills: int
    open_uploads: int
    stops: int
    long_stops: int
    stores_deleted: int
    tenants_deleted: int
    broker_full: int
    limited_searches: int
    conversations: int
    messages: int
    repeats: int
    lost: int
    doubled: int
    stuck: int
    order: int
    shown: int
    other: int
    settle_median_s: float
    settle_max_s: float

    @property
    def violations(self) -> int:
        """All of them."""
        return self.lost + self.doubled + self.stuck + self.order + self.shown + self.other

    def table(self) -> str:
        """Markdown, a row of figures under their names."""
        figures = {
            name.removesuffix("_s").replace("_", " "): f"{value:.1f} s"
            if name.endswith("_s")
            else str(value)
            for name, value in asdict(self).items()
        }
        widths = [max(len(name), len(value)) for name, value in figures.items()]
        rows = (figures.keys(), ["-" * width for width in widths], figures.values())
        return "".join(
            "| "
            + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            + " |\n"
            for row in rows
        )


def summarize(seed: int, reports: Sequence[Report], long_stop_s: float) -> Summary:
    """The figures of all runs; a stop is long from `long_stop_s` on."""
    faults = [fault for report in reports for fault in report.faults]
    kills = [fault for fault in faults if fault["fault"] == "kill"]
    stops = [fault for fault in faults if fault["fault"] == "stop"]
    settle = [report.settle_s for report in reports] or [0.0]
    found = [kind_of(line) for report in reports for line in report.violations]
    return Summary(
        seed=seed,
        runs=len(reports),
        counted=sum(report.counted for report in reports),
        uploads=reports[-1].accepted if reports else 0,
        decided=reports[-1].decided if reports else 0,
        kills=len(kills),
        group_kills=sum(has_group(kill["part"], kill["pending"]) for kill in kills),
        open_uploads=sum(kill["open_uploads"] for kill in kills),
        stops=len(stops),
        long_stops=sum(stop["seconds"] >= long_stop_s for stop in stops),
        stores_deleted=sum(bool(report.lost_store) for report in reports),
        tenants_deleted=sum(bool(report.deleted_tenant) for report in reports),
        limited_searches=sum(report.outsider_answers for report in reports),
        conversations=reports[-1].conversations if reports else 0,
        messages=reports[-1].messages if reports else 0,
        repeats=reports[-1].repeats if reports else 0,
        broker_full=sum(fault["fault"] == "full" for fault in faults),
        settle_median_s=median(settle),
        settle_max_s=max(settle),
        **{kind: found.count(kind) for kind in (*KINDS, "other")},
    )


def kind_of(violation: str) -> str:
    """The column that a line of the checker belongs to."""
    named = violation.split(":", 1)[0]
    return next((kind for kind, names in KINDS.items() if named in names), "other")
