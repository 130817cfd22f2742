"""Joins the words of a PDF page to cells, and cells to rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ingest.parsing.pdf.direction import has_right_to_left, join_by_place
from ingest.parsing.pdf.text import ASCENT, DESCENT, WIDE_GAP, Word

# All in shares of the letter size: gaps in a line, and how far baselines of one line differ.
APART_GAP, BLANK_GAP, OVERLAP_MAX = 0.05, 0.15, -0.5
LINE_STEP = 0.3
SCRIPT_SIZE_MAX, SCRIPT_SIZE_MIN = 0.85, 0.35
RAISED_MIN, RAISED_MAX, LOWERED_MAX, SCRIPT_GAP_MAX = 0.1, 0.75, 0.5, 0.5


@dataclass(slots=True)
class Cell:
    """A piece of a line without wide gaps; `first` and `last` are places in the file's order.

    It reaches from `bottom` to `top`, and its baseline is at `line`.
    """

    text: str
    start: float
    end: float
    bottom: float
    top: float
    line: float
    size: float
    first: int
    last: int


Row = list[Cell]


def build_rows(words: list[Word]) -> list[Row]:
    """Rows from top to bottom, each from left to right."""
    _tie_scripts(words)
    return [_build_cells(line) for line in _group_lines(words)]


def _tie_scripts(words: list[Word]) -> None:
    """Puts raised and lowered words on the line of the words that they are drawn with."""
    for previous, word in pairwise(words):
        if _is_script(word, previous, word.start - previous.end):
            word.line = previous.line
        elif _is_script(previous, word, word.start - previous.end):
            previous.line = word.line


def _is_script(word: Word, neighbour: Word, gap: float) -> bool:
    size = neighbour.size
    rise = word.base - neighbour.line
    return (
        SCRIPT_SIZE_MIN * size <= word.size <= SCRIPT_SIZE_MAX * size
        and OVERLAP_MAX * size <= gap <= SCRIPT_GAP_MAX * size
        and (RAISED_MIN * size <= rise <= RAISED_MAX * size or 0 < -rise <= LOWERED_MAX * size)
    )


def _group_lines(words: list[Word]) -> Iterable[list[Word]]:
    words = sorted(words, key=lambda word: -word.line)
    line = list[Word]()
    for word in words:
        if line and line[0].line - word.line > LINE_STEP * min(word.size, line[0].size):
            yield line
            line = []
        line.append(word)
    if line:
        yield line


def _build_cells(line: list[Word]) -> Row:
    line.sort(key=lambda word: (word.start, word.first))
    pieces, end = [[line[0]]], line[0].end
    for word in line[1:]:
        if word.start - end > WIDE_GAP * max(word.size, pieces[-1][-1].size):
            pieces.append([])
        pieces[-1].append(word)
        end = max(end, word.end)
    cells = [_build_cell(piece) for piece in pieces]
    return [cell for cell in cells if cell.text]


def _build_cell(words: list[Word]) -> Cell:
    size = median(word.size for word in words)
    line = median(word.line for word in words)
    text = "".join(word.text for word in words)
    text = join_by_place(words) if has_right_to_left(text) else _join(words)
    return Cell(
        text.strip(),
        words[0].start,
        max(word.end for word in words),
        min(word.base - DESCENT * word.size for word in words),
        max(word.base + ASCENT * word.size for word in words),
        line,
        size,
        min(word.first for word in words),
        max(word.last for word in words),
    )


def _join(words: list[Word]) -> str:
    parts = [words[0].text]
    base = words[0]
    for previous, word in pairwise(words):
        parts.append(_find_separator(previous, word, base, parts[-1]))
        parts.append(word.text)
        if word.size > SCRIPT_SIZE_MAX * base.size:
            base = word
    return "".join(parts)


def _find_separator(previous: Word, word: Word, base: Word, before: str) -> str:
    """What stands between two words: a blank, or the mark of a raised or lowered one."""
    gap = word.start - previous.end
    between = word.first - previous.last - 1
    if between == 1 and word.is_apart:
        return " "
    if between and gap > (APART_GAP if word.is_apart else BLANK_GAP) * word.size:
        return " "
    last = before[-1:]
    if not _is_script(word, base, gap) or not _has_sign(word.text):
        return ""
    if word.base > base.line:
        return "" if last.isspace() or previous.base > base.line + RAISED_MIN * base.size else "^"
    return "_" if last.isdigit() else ""


def _has_sign(text: str) -> bool:
    return any(character.isalnum() for character in text)
