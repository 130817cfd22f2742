"""Where the lines of a PDF page stand on it, as a viewer shows it."""

import math
from array import array
from typing import NamedTuple

from aquifer.lines import COORDINATE_MAX, STEPS_PER_POINT
from ingest.parsing.outline_marks import LINES_MAX, mark_line
from ingest.parsing.pdf.pdfium import Box


class PlacedLine(NamedTuple):
    """A line of a page: its mark, its text, and the height of its upper side above the origin."""

    mark: str
    text: str
    top: float


class LineBoxes:
    """Numbers the lines of a page and keeps the place of each, in the steps of `aquifer.lines`.

    `edges` is the part of the page that is shown, `rotation` the angle by which a viewer turns it
    clockwise. A line without a place on the page has a box without an area.
    """

    def __init__(self, edges: Box, rotation: int) -> None:
        self.sides = array("H")
        self.lines: list[PlacedLine] = []
        self._edges = edges
        self._rotation = rotation

    def mark(self, box: Box, text: str) -> str:
        """The mark for a line with this box in the coordinates of the page."""
        if len(self.lines) == LINES_MAX:
            return ""
        line = PlacedLine(mark_line(len(self.lines)), text, box.top)
        self.lines.append(line)
        self.sides.extend(self._place(box))
        return line.mark

    def _place(self, box: Box) -> tuple[int, int, int, int]:
        if not all(map(math.isfinite, (*self._edges, *box))):
            return 0, 0, 0, 0
        left, bottom, right, top = self._edges
        match self._rotation:
            case 90:
                sides = (box.bottom - bottom, box.left - left, box.top - bottom, box.right - left)
            case 180:
                sides = (right - box.right, box.bottom - bottom, right - box.left, box.top - bottom)
            case 270:
                sides = (top - box.top, right - box.right, top - box.bottom, right - box.left)
            case _:
                sides = (box.left - left, top - box.top, box.right - left, top - box.bottom)
        width, height = right - left, top - bottom
        if self._rotation % 180:
            width, height = height, width
        ends = (width, height, width, height)
        first, above, last, below = map(_to_steps, sides, ends)
        return first, above, last, below


def _to_steps(side: float, end: float) -> int:
    """A coordinate in steps; what reaches beyond the page is cut off."""
    return min(round(STEPS_PER_POINT * min(max(side, 0.0), end)), COORDINATE_MAX)
