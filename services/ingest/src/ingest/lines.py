"""Where the lines of a text stand on its pages."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from aquifer.lines import Line, pack

SIDES = 4


class Lines:
    """The lines of a text in order, those without a place left out.

    Kept as numbers, because a text may have a quarter of a million lines.
    """

    def __init__(self) -> None:
        self._starts = array("I")
        self._ends = array("I")
        # Left, top, right and bottom of each line, in the steps of `aquifer.lines`.
        self._sides = array("H")

    def add_page(
        self, page: str, offset: int, marks: Sequence[tuple[int, int]], boxes: "array[int]"
    ) -> None:
        """Add the lines of a page that begins at `offset`.

        `marks` are the places where its lines begin, and the numbers of their boxes; a line ends
        where the next one begins, without the white space between them.
        """
        for (start, number), (behind, _) in pairwise((*marks, (len(page), 0))):
            sides = boxes[SIDES * number : SIDES * (number + 1)]
            length = len(page[start:behind].rstrip())
            if length and sides[0] < sides[2] and sides[1] < sides[3]:
                self._starts.append(offset + start)
                self._ends.append(offset + start + length)
                self._sides.extend(sides)

    def pack(self, start: int, end: int) -> bytes:
        """Pack the lines of `text[start:end]`, with offsets in it."""
        return pack(self._find(start, end))

    def _find(self, start: int, end: int) -> Iterator[Line]:
        for index in range(bisect_right(self._ends, start), bisect_left(self._starts, end)):
            sides = self._sides[SIDES * index : SIDES * (index + 1)]
            yield Line(
                max(0, self._starts[index] - start), min(self._ends[index], end) - start, *sides
            )
