"""Marks by which a reader says where headings, tables and lines begin.

They are no part of the text, but lone surrogates, which no decoded text contains. They stay in
their places while the text is cleaned. `take_marks` removes them.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ingest.outline import (
    HEADING_LEVELS,
    HEADING_MAX_CHARS,
    TABLE_HEADER_MAX_CHARS,
    Heading,
    Outline,
    Table,
)

_FIRST = 0xD801
# Before the words of a heading, by its level.
HEADING_MARKS = {level: chr(_FIRST + level - 1) for level in range(1, HEADING_LEVELS + 1)}
# Before a row of a table that names its columns.
TABLE_MARK = chr(_FIRST + HEADING_LEVELS)
# Where a section begins whose heading is not known, by its level: it ends those before it.
SECTION_MARKS = {
    level: chr(_FIRST + HEADING_LEVELS + level) for level in range(1, HEADING_LEVELS + 1)
}
# Before a line of a page stand two of these, which are the digits of its number.
_FIRST_DIGIT, _BASE = 0xDC00, 0x400
_DIGITS = frozenset(map(chr, range(_FIRST_DIGIT, _FIRST_DIGIT + _BASE)))
LINES_MAX = _BASE * _BASE
LINE_MARK_PATTERN = f"[{min(_DIGITS)}-{max(_DIGITS)}]{{2}}"
MARKS = frozenset((*HEADING_MARKS.values(), TABLE_MARK, *SECTION_MARKS.values(), *_DIGITS))

_OUTLINE_CLASS = f"[{HEADING_MARKS[1]}-{SECTION_MARKS[HEADING_LEVELS]}]"
_MARK_CLASS = f"[{_OUTLINE_CLASS[1:-1]}{min(_DIGITS)}-{max(_DIGITS)}]"
_LEVELS = {mark: level for level, mark in HEADING_MARKS.items()}
_SECTION_LEVELS = {mark: level for level, mark in SECTION_MARKS.items()}
_ALL_LEVELS = _LEVELS | _SECTION_LEVELS
_MARK = re.compile(f"{_OUTLINE_CLASS}|{LINE_MARK_PATTERN}")
_MARKS_BEFORE_BLANKS = re.compile(rf"{_MARK_CLASS}++(?=\s|\Z)(?:{_MARK_CLASS}|[^\S\n])*+(\n|\Z)?")


class Marked(NamedTuple):
    """A text whose marks were removed, and what they say; `lines` are offsets and numbers."""

    text: str
    outline: Outline
    lines: list[tuple[int, int]]


def mark_line(number: int) -> str:
    """The mark before a line by its number, which is less than `LINES_MAX`."""
    return chr(_FIRST_DIGIT + number // _BASE) + chr(_FIRST_DIGIT + number % _BASE)


def settle_marks(text: str) -> str:
    """Move marks next to the words they stand before, and remove those of lines without words."""
    return _MARKS_BEFORE_BLANKS.sub(_settle, text)


def _settle(found: re.Match[str]) -> str:
    if found[1] is not None:
        return found[1]
    return _MARK.sub("", found[0]) + "".join(_MARK.findall(found[0]))


def strip_marks(text: str) -> str:
    """The text without its marks."""
    return _MARK.sub("", text)


def find_level(text: str) -> int | None:
    """The outermost level of the headings and sections in a text; None if it has none."""
    return min((_ALL_LEVELS[sign] for sign in text if sign in _ALL_LEVELS), default=None)


def begin_section(text: str, level: int) -> str:
    """Let a section of this level, or of the one outside it, begin with the words of a text.

    One place has one mark, so a heading or section that begins there gets the level.
    """
    is_word = (sign not in MARKS and not sign.isspace() for sign in text)
    words = next((place for place, found in enumerate(is_word) if found), len(text))
    before = text[:words]
    own = find_level(before)
    if own is None:
        return f"{before}{SECTION_MARKS[level]}{text[words:]}"
    for marks in (HEADING_MARKS, SECTION_MARKS):
        before = before.replace(marks[own], marks[min(level, own)])
    return before + text[words:]


def split_marks(text: str) -> tuple[str, list[tuple[int, str]]]:
    """The text without its marks, and the marks with their places in it."""
    marks: list[tuple[int, str]] = []
    removed = 0
    for found in _MARK.finditer(text):
        marks.append((found.start() - removed, found[0]))
        removed += len(found[0])
    return strip_marks(text), marks


def insert_marks(text: str, marks: Sequence[tuple[int, str]]) -> str:
    """The text with these marks at their places, which ascend."""
    parts: list[str] = []
    start = 0
    for place, mark in marks:
        parts += (text[start:place], mark)
        start = place
    return "".join((*parts, text[start:]))


def take_marks(text: str, offset: int = 0) -> Marked:
    """Remove the marks of a cleaned text; `offset` is added to the places of the outline.

    A heading ends with its line, a table before the next blank line.
    """
    parts = _MARK.split(text)
    if len(parts) == 1:
        return Marked(text, Outline(), [])
    marks = _MARK.findall(text)
    plain = "".join(parts)
    headings: list[Heading] = []
    tables: list[Table] = []
    lines: list[tuple[int, int]] = []
    start = 0
    for part, mark in zip(parts, marks, strict=False):
        start += len(part)
        if mark[0] in _DIGITS:
            lines.append((start, _read_number(mark)))
            continue
        line_end = _find(plain, "\n", start)
        words = plain[start:line_end].strip()
        if mark == TABLE_MARK:
            rows, end = min(line_end + 1, len(plain)), _find(plain, "\n\n", line_end)
            if words and rows < end:
                tables.append(Table(offset + rows, offset + end, words[:TABLE_HEADER_MAX_CHARS]))
        elif mark in _SECTION_LEVELS:
            headings.append(Heading(offset + start, _SECTION_LEVELS[mark], ""))
        elif words:
            headings.append(Heading(offset + start, _LEVELS[mark], words[:HEADING_MAX_CHARS]))
    return Marked(plain, Outline(headings, tables), lines)


def _read_number(mark: str) -> int:
    return _BASE * (ord(mark[0]) - _FIRST_DIGIT) + ord(mark[1]) - _FIRST_DIGIT


def _find(text: str, end: str, start: int) -> int:
    found = text.find(end, start)
    return found if found >= 0 else len(text)
