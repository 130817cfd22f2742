"""Lays out text for a screen of a given width; `None` means no limit.

Names are never cut or broken, so that they can be copied.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len, set_cell_size

GAP = "  "
ASIDE_CELLS_MIN = 12
_BREAKS = " \n"
# Characters that control a terminal or reverse the order of a line; a tab becomes a space.
_OBEYED = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F)], "\ufffd")
_OBEYED |= dict.fromkeys(range(0x2066, 0x206A), "\ufffd") | {0x0A: "\n", 0x09: " "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a table.

    Args:
        cells: shown in full, whatever the width.
        aside: text after the cells, cut to the remaining width, or omitted.
        below: a separate line below the cells.
    """

    cells: Sequence[object]
    aside: str = ""
    below: str = ""


def escape_controls(text: str) -> str:
    """Removes terminal control characters, which documents may contain."""
    return text.translate(_OBEYED)


def cut(text: str, width: int | None) -> str:
    """Puts text on one line; cuts it to `width` cells if necessary, ending with `…`."""
    line = " ".join(text.split())
    if width is None or cell_len(line) <= width:
        return line
    return set_cell_size(line, max(width - 1, 0)).rstrip() + "…"


def table(head: Sequence[str], rows: Sequence[Row], width: int | None) -> Iterator[list[str]]:
    """Pads the cells of each line, the last one for the aside; empty columns are removed.

    The first line is the header. A column of numbers is right-aligned.
    """
    columns = [list(column) for column in zip_longest(*(row.cells for row in rows), fillvalue="")]
    kept = [i for i, column in enumerate(columns) if any(_render(value) for value in column)]
    widths = [max(cell_len(head[i]), *(cell_len(_render(v)) for v in columns[i])) for i in kept]
    yield [*_pad([head[i] for i in kept], widths), ""]
    for row in rows:
        cells = _pad([row.cells[i] for i in kept], widths)
        yield [*cells, _cut_aside(row.aside, sum(widths) + len(GAP) * len(widths), width)]


def _render(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _pad(cells: Sequence[object], widths: Sequence[int]) -> list[str]:
    lines = []
    for value, width in zip(cells, widths, strict=True):
        space = " " * (width - cell_len(_render(value)))
        lines.append(space + _render(value) if isinstance(value, int) else _render(value) + space)
    return lines


def _cut_aside(text: str, taken: int, width: int | None) -> str:
    left = None if width is None else width - taken
    return "" if left is not None and left < ASIDE_CELLS_MIN else cut(text, left)


def fill(text: str, width: int | None, indent: str = "") -> list[str]:
    """Breaks text between words into lines of at most `width` cells; long words stay whole."""
    words = text.split()
    if width is None:
        return [indent + " ".join(words)]
    lines = [indent]
    for word in words:
        if lines[-1] != indent and cell_len(f"{lines[-1]} {word}") > width:
            lines.append(indent)
        lines[-1] += word if lines[-1] == indent else f" {word}"
    return lines


class Flow:
    """Writes text that comes in pieces, in indented lines broken between words."""

    def __init__(self, write: Callable[[str], None], width: int | None, indent: str = "") -> None:
        self._write = write
        self._width = width
        self._indent = indent
        self._column = 0
        self._space = ""
        self._word = ""

    def add(self, text: str) -> None:
        """Writes more text; the last word waits until it is complete."""
        for character in text:
            if character not in _BREAKS:
                self._word += character
                continue
            self._put_word()
            if character == "\n":
                self._break()
            else:
                self._space += character

    def end(self) -> None:
        """Writes the rest and ends the line."""
        self._put_word()
        if self._column:
            self._break()

    def _put_word(self) -> None:
        if not self._word:
            return
        cells = cell_len(self._space) + cell_len(self._word)
        if self._width is not None and self._column and self._column + cells > self._width:
            self._break()
        if not self._column:
            self._space = self._indent + self._space
        self._write(self._space + self._word)
        self._column += cell_len(self._space) + cell_len(self._word)
        self._space = self._word = ""

    def _break(self) -> None:
        self._write("\n")
        self._column = 0
        self._space = ""
