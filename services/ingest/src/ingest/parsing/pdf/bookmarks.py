"""Finds the headings of a PDF: lines with the words of a bookmark on the page it leads to."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ingest.outline import HEADING_LEVELS
from ingest.parsing.outline_marks import HEADING_MARKS, SECTION_MARKS
from ingest.parsing.pdf import pdfium
from ingest.parsing.pdf.boxes import PlacedLine

BOOKMARKS_MAX = 20_000
HEADING_LINES_MAX = 3
# How far below the place that its bookmark leads to a heading may begin, and how far above, in
# points.
BELOW_MAX, ABOVE_MAX = 150.0, 30.0

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)*|[A-Z](?:\.\d+)+)[.):]?\s+(?=\S)")


class Bookmark(NamedTuple):
    """Its level from 1, its title, and the height on the page that it leads to, if it has one."""

    level: int
    title: str
    height: float | None


class _Match(NamedTuple):
    """Lines that have the words of a title together: from the first one up to `behind`."""

    first: int
    behind: int


def read_bookmarks(document: int) -> dict[int, list[Bookmark]]:
    """The bookmarks of each page, by its index; those that are nested too deeply are left out."""
    found: dict[int, list[Bookmark]] = {}
    for level, bookmark in _walk(document):
        if destination := pdfium.find_destination(document, bookmark):
            page = pdfium.find_destination_page(document, destination)
            height = pdfium.find_destination_height(destination)
            title = pdfium.read_bookmark_title(bookmark)
            found.setdefault(page, []).append(Bookmark(level, title, height))
    return found


def _walk(document: int) -> Iterator[tuple[int, int]]:
    """Yields levels and bookmarks in order, each once: a file may link them in a circle."""
    seen = set[int]()
    left = [(1, pdfium.find_first_bookmark(document, None))]
    while left and len(seen) < BOOKMARKS_MAX:
        level, bookmark = left.pop()
        if not bookmark or bookmark in seen:
            continue
        seen.add(bookmark)
        yield level, bookmark
        left.append((level, pdfium.find_next_bookmark(document, bookmark)))
        if level < HEADING_LEVELS:
            left.append((level + 1, pdfium.find_first_bookmark(document, bookmark)))


def mark_headings(text: str, lines: Sequence[PlacedLine], bookmarks: Sequence[Bookmark]) -> str:
    """Mark the headings of a page; one of several lines becomes one line.

    A wrong heading is worse than none. A bookmark is no heading if its words are no line, or are
    several and it does not lead near one of them; it only ends the sections before it.
    """
    titles = [_split(line.text) for line in lines]
    levels: dict[int, int] = {}
    headings = set[int]()
    behind = 0
    for bookmark in bookmarks:
        matches = [one for one in _find_matches(bookmark, titles) if one.first not in headings]
        match = _choose(matches, lines, bookmark.height)
        if match is None:
            first = _find_section(lines, behind, bookmark.height)
        else:
            first, behind = match
            headings.add(first)
            for line in lines[first + 1 : behind]:
                text = text.replace(f"\n{line.mark}", f" {line.mark}", 1)
        levels[first] = min(bookmark.level, levels.get(first, bookmark.level))
    for index, level in levels.items():
        marks = HEADING_MARKS if index in headings else SECTION_MARKS
        mark = lines[index].mark
        text = text.replace(mark, marks[level] + mark, 1)
    return text


def _find_matches(bookmark: Bookmark, titles: Sequence[tuple[str, str]]) -> Iterator[_Match]:
    """The lines with the words of a bookmark; the number may stand in one of both only."""
    wanted_number, wanted = _split(bookmark.title)
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
