"""What a part of a text stands under: the headings, and the header row of a table."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

HEADING_LEVELS: Final = 6
HEADING_MAX_CHARS: Final = 200
TABLE_HEADER_MAX_CHARS: Final = 500


class Heading(NamedTuple):
    """The character offset of a heading, its level from 1, and its words, empty if not known."""

    start: int
    level: int
    text: str


class Table(NamedTuple):
    """The rows of a table below its header row, as character offsets, and the header row."""

    start: int
    end: int
    header: str


class Place(NamedTuple):
    """Headings, outermost first, and the header row of the table that goes on here, or ''."""

    headings: tuple[str, ...] = ()
    table_header: str = ""


TOP: Final = Place()


@dataclass(frozen=True, slots=True)
class Outline:
    """The headings and tables of a text, each in order of their offsets; tables do not overlap."""

    headings: Sequence[Heading] = ()
    tables: Sequence[Table] = ()
    # For each heading the index of the one it stands under, or -1.
    _parents: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        open_headings: list[int] = []
        for index, heading in enumerate(self.headings):
            while open_headings and self.headings[open_headings[-1]].level >= heading.level:
                open_headings.pop()
            self._parents.append(open_headings[-1] if open_headings else -1)
            open_headings.append(index)

    def locate(self, start: int) -> Place:
        """Find what a text that begins at an offset stands under; a heading not under itself."""
        return Place(self._find_path(start), self._find_table_header(start))

    def find_headings(self, first: int, last: int) -> Sequence[Heading]:
        """Find the headings that begin at `first` to `last`, both included."""
        begin = bisect_left(self.headings, first, key=lambda one: one.start)
        return self.headings[begin : bisect_right(self.headings, last, key=lambda one: one.start)]

    def _find_path(self, start: int) -> tuple[str, ...]:
        index = bisect_right(self.headings, start, key=lambda one: one.start) - 1
        if index >= 0 and self.headings[index].start == start:
            index = self._parents[index]
        path: list[str] = []
        while index >= 0:
            path.append(self.headings[index].text)
            index = self._parents[index]
        return tuple(filter(None, reversed(path)))

    def _find_table_header(self, start: int) -> str:
        index = bisect_right(self.tables, start, key=lambda one: one.start) - 1
        inside = index >= 0 and start < self.tables[index].end
        return self.tables[index].header if inside else ""


NO_OUTLINE: Final = Outline()
