"""Marks by which a reader says where headings and tables begin; they are no part of the text.

A mark is a lone surrogate: no decoded text contains one, and it stays in its place while the text
is cleaned. `take_outline` removes them.
"""

import re

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
MARKS = frozenset((*HEADING_MARKS.values(), TABLE_MARK))

_MARK_CLASS = f"[{min(MARKS)}-{max(MARKS)}]"
_LEVELS = {mark: level for level, mark in HEADING_MARKS.items()}
_MARK = re.compile(_MARK_CLASS)
_MARKS_BEFORE_BLANKS = re.compile(rf"(?:{_MARK_CLASS}[^\S\n]*+)+(\n|\Z)?")


def settle_marks(text: str) -> str:
    """Move marks next to the words they stand before, and remove those of lines without words."""
    return _MARKS_BEFORE_BLANKS.sub(_settle, text)


def _settle(found: re.Match[str]) -> str:
    if found[1] is not None:
        return found[1]
    return _MARK.sub("", found[0]) + "".join(_MARK.findall(found[0]))


def take_outline(text: str, offset: int = 0) -> tuple[str, Outline]:
    """Remove the marks of a cleaned text; `offset` is added to the places of the outline.

    A heading ends with its line, a table before the next blank line.
    """
    parts = _MARK.split(text)
    if len(parts) == 1:
        return text, Outline()
    marks = _MARK.findall(text)
    plain = "".join(parts)
    headings: list[Heading] = []
    tables: list[Table] = []
    start = 0
    for part, mark in zip(parts, marks, strict=False):
        start += len(part)
        line_end = _find(plain, "\n", start)
        words = plain[start:line_end].strip()
        if mark == TABLE_MARK:
            rows, end = min(line_end + 1, len(plain)), _find(plain, "\n\n", line_end)
            if words and rows < end:
                tables.append(Table(offset + rows, offset + end, words[:TABLE_HEADER_MAX_CHARS]))
        elif words:
            headings.append(Heading(offset + start, _LEVELS[mark], words[:HEADING_MAX_CHARS]))
    return plain, Outline(headings, tables)


def _find(text: str, end: str, start: int) -> int:
    found = text.find(end, start)
    return found if found >= 0 else len(text)
