"""The types of a measurement: its value, its floor and its aim."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

from typing_extensions import override


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a value, or its ratio to the floor, should reach; nothing fails when it does not."""

    sense: Literal["<=", ">="]
    limit: float
    of: Literal["value", "ratio"] = "value"

    @override
    def __str__(self) -> str:
        return f"{'ratio ' if self.of == 'ratio' else ''}{self.sense} {self.limit:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `spread` is the lowest and highest of the repetitions `value` is the median of.

    `floor` is in the unit of the value and was measured in the same run; `ratio` is the value over
    the floor unless `note` says otherwise.
    """

    name: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None
    floor: float | None = None
    ratio: float | None = None
    aim: Aim | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the aim was reached; None without one."""
        if self.aim is None:
            return None
        held = self.ratio if self.aim.of == "ratio" else self.value
        if held is None:
            return None
        return held <= self.aim.limit if self.aim.sense == "<=" else held >= self.aim.limit

    def as_json(self) -> dict[str, object]:
        """The row for machines."""
        aim = str(self.aim) if self.aim else None
        return {**asdict(self), "aim": aim, "met": self.met}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One experiment and its rows; `skipped` says why there are none."""

    name: str
    title: str
    rows: Sequence[Row] = ()
    skipped: str = ""
    failed: bool = False

    def as_json(self) -> dict[str, object]:
        """The figure for machines."""
        rows = [row.as_json() for row in self.rows]
        return {"name": self.name, "title": self.title, "skipped": self.skipped, "rows": rows}


def spread(values: Sequence[float]) -> tuple[float, float] | None:
    """Lowest and highest; None of a single value."""
    return (min(values), max(values)) if len(values) > 1 else None


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the sorted values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


__all__ = ["Aim", "Figure", "Row", "median", "quantile", "spread"]
