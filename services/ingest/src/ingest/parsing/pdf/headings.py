"""Finds the headings of a PDF: lines with the words that a tag or a bookmark of the page tells."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ingest.parsing.outline_marks import HEADING_MARKS, SECTION_MARKS
from ingest.parsing.pdf.boxes import PlacedLine

HEADING_LINES_MAX = 3
# How far below its announced place a heading may begin, and how far above, in points.
BELOW_MAX, ABOVE_MAX = 150.0, 30.0

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)*|[A-Z](?:\.\d+)+)[.):]?\s+(?=\S)")


class Announced(NamedTuple):
    """A heading of a page: its level from 1, its words, and its height on the page, if known."""

    level: int
    title: str
    height: float | None


class _Match(NamedTuple):
    """Lines that have the words of a title together: from the first one up to `behind`."""

    first: int
    behind: int


def mark_headings(text: str, lines: Sequence[PlacedLine], announced: Sequence[Announced]) -> str:
    """Mark the headings of a page; one of several lines becomes one line.

    A wrong heading is worse than none. If the announced words are no line, or are several and none
    is near the announced place, there is no heading; only the sections before it end.
    """
    titles = [_split(line.text) for line in lines]
    levels: dict[int, int] = {}
    headings = set[int]()
    behind = 0
    for one in announced:
        matches = [match for match in _find_matches(one, titles) if match.first not in headings]
        match = _choose(matches, lines, one.height)
        if match is None:
            first = _find_section(lines, behind, one.height)
        else:
            first, behind = match
            headings.add(first)
            for line in lines[first + 1 : behind]:
                text = text.replace(f"\n{line.mark}", f" {line.mark}", 1)
        levels[first] = min(one.level, levels.get(first, one.level))
    for index, level in levels.items():
        marks = HEADING_MARKS if index in headings else SECTION_MARKS
        mark = lines[index].mark
        text = text.replace(mark, marks[level] + mark, 1)
    return text


def _find_matches(one: Announced, titles: Sequence[tuple[str, str]]) -> Iterator[_Match]:
    """The lines with the announced words; the number may stand in one of both only."""
    wanted_number, wanted = _split(one.title)
    for first, (number, begin) in enumerate(titles):
        if number and wanted_number and number != wanted_number:
            continue
        words, behind = begin, first + 1
        while words and words != wanted and wanted.startswith(words):
            if behind == min(len(titles), first + HEADING_LINES_MAX):
                break
            words += "".join(titles[behind])
            behind += 1
        if words and words == wanted:
            yield _Match(first, behind)


def _choose(
    matches: Sequence[_Match], lines: Sequence[PlacedLine], height: float | None
) -> _Match | None:
    if len(matches) <= 1 or height is None:
        return matches[0] if len(matches) == 1 else None
    near = [one for one in matches if -ABOVE_MAX <= height - lines[one.first].top <= BELOW_MAX]
    return min(near, key=lambda one: abs(height - lines[one.first].top), default=None)


def _find_section(lines: Sequence[PlacedLine], behind: int, height: float | None) -> int:
    """The line that a section begins with at the latest: too soon is better than too late."""
    last = len(lines) - 1
    for index in range(behind, last):
        if height is None or lines[index].top <= height:
            return index
    return min(behind, last)


def _split(title: str) -> tuple[str, str]:
    """The number in front of a title, and its letters and digits."""
    normal = unicodedata.normalize("NFKC", title)
    numbered = _NUMBER.match(normal)
    number, words = (numbered[1], normal[numbered.end() :]) if numbered else ("", normal)
    return _fold(number), _fold(words)


def _fold(text: str) -> str:
    return "".join(sign for sign in text.casefold() if sign.isalnum())
