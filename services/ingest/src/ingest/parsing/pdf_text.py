"""Takes the characters of a PDF page from pdfium, as words with their places."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import atan2, cos, degrees, hypot, radians, sin
from typing import NamedTuple

from ingest.parsing import pdfium
from ingest.parsing.pdfium import Box

RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
EAST_ASIAN = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
# Letters that the library places at the end of a line, instead of a hyphen.
HYPHEN_MARKS = "\x02\ufffe"
BULLET = "\uf0b7"
# A page with more unreadable signs than this share has a text layer of glyph numbers.
NOISE_SHARE_MAX = 0.3
TURN_STEP = 5

_WORD = re.compile(r"[^\s\xa0]+")
_UNREADABLE = re.compile("[\0-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd\uffff\U000f0000-\U0010ffff]")
_ALEF_BEFORE_LAM = re.compile("[\u0622\u0623\u0625\u0627]\u0644")


@dataclass(slots=True)
class Word:
    """Characters side by side, in the coordinates of their own direction.

    `start` and `end` are places on the baseline, `base` is its height, and `line` the height of the
    baseline that the word belongs to: that of its neighbour for a raised or lowered word. `first`
    and `last` are positions in the order of the file, and `is_apart` tells of a blank before.
    """

    text: str
    start: float
    end: float
    base: float
    size: float
    first: int
    last: int
    is_apart: bool
    line: float = 0.0


class Style(NamedTuple):
    """What all characters of a text object share."""

    turn: int
    size: float
    font: int


@dataclass(slots=True)
class PageText:
    """The words of a page by the direction they run in, in degrees against the page's own."""

    words: dict[int, list[Word]]
    rotation: int
    unreadable: int
    is_noise: bool


def read_words(page: int, text: int, hidden: set[int], count: int) -> PageText:
    """Reads all characters of a page, without text of hidden objects and beyond its edges."""
    return _WordReader(page, text, hidden, pdfium.read_characters(text, count)).read()


def turn(x: float, y: float, angle: int) -> tuple[float, float]:
    """A place in coordinates whose first axis has this angle."""
    if angle == 0:
        return x, y
    cosine, sine = cos(radians(angle)), sin(radians(angle))
    return x * cosine + y * sine, y * cosine - x * sine


class _WordReader:
    def __init__(self, page: int, text: int, hidden: set[int], characters: str) -> None:
        self._text = text
        self._hidden = hidden
        self._characters = characters
        self._edges = pdfium.find_page_box(page)
        self._rotation = 90 * pdfium.find_rotation(page)
        self._objects = [pdfium.find_object(text, index) for index in range(len(characters))]
        self._styles = dict[int, Style]()
        self._unmapped = dict[tuple[int, str], bool]()
        self._is_placed_singly = RIGHT_TO_LEFT.search(characters) is not None
        self._seen = self._unreadable = 0

    def read(self) -> PageText:
        words = dict[int, list[Word]]()
        for first, end in self._find_runs():
            owner = self._objects[first] or 0
            if owner in self._hidden:
                continue
            style = self._find_style(owner, first)
            boxes = self._find_boxes(first, end)
            if self._is_beyond_edges(boxes):
                continue
            shown = self._find_readable(first, end, style.font)
            if not shown:
                continue
            angle, word = self._place(shown, first, end, style, boxes)
            words.setdefault(angle, []).append(word)
        is_noise = self._unreadable > NOISE_SHARE_MAX * self._seen
        return PageText(words, self._rotation, self._unreadable, is_noise)

    def _find_runs(self) -> Iterator[tuple[int, int]]:
        """Yields start and end of characters of one object; on pages with text from right to left
        the characters that share a place, blanks too, as only their places tell their order."""
        if self._is_placed_singly:
            yield from self._find_single_runs()
            return
        objects = self._objects
        for word in _WORD.finditer(self._characters):
            first, end = word.span()
            for index in range(first + 1, end):
                if objects[index] != objects[first]:
                    yield first, index
                    first = index
            yield first, end

    def _find_single_runs(self) -> Iterator[tuple[int, int]]:
        first, count = 0, len(self._characters)
        while first < count:
            if pdfium.is_generated(self._text, first) == 1:
                first += 1
                continue
            end, place = first + 1, pdfium.find_box(self._text, first)
            while (
                end < count
                and self._objects[end] == self._objects[first]
                and pdfium.is_generated(self._text, end) != 1
                and pdfium.find_box(self._text, end) == place
            ):
                end += 1
            yield first, end
            first = end

    def _find_style(self, owner: int, index: int) -> Style:
        style = self._styles.get(owner)
        if style is None:
            a, b, c, d = pdfium.find_matrix(self._text, index)
            angle = TURN_STEP * round(degrees(atan2(b, a)) / TURN_STEP) % 360
            size = pdfium.find_font_size(self._text, index) * hypot(c, d)
            font = pdfium.find_font(owner) if owner else 0
            style = self._styles[owner] = Style(angle, size or 1.0, font or 0)
        return style

    def _find_boxes(self, first: int, end: int) -> tuple[Box, Box]:
        start = pdfium.find_box(self._text, first)
        return start, start if end == first + 1 else pdfium.find_box(self._text, end - 1)

    def _is_beyond_edges(self, boxes: Iterable[Box]) -> bool:
        edges = self._edges
        return all(
            box.right <= edges.left
            or box.left >= edges.right
            or box.top <= edges.bottom
            or box.bottom >= edges.top
            for box in boxes
        )

    def _find_readable(self, first: int, end: int, font: int) -> str:
        """The characters without those that are only numbers of glyphs."""
        shown = self._characters[first:end]
        self._seen += end - first
        unmapped = [
            index
            for index, character in enumerate(shown, first)
            if self._is_unmapped(index, character, font)
        ]
        if unmapped or _UNREADABLE.search(shown):
            shown = "".join(
                "\u2022" if character == BULLET else character
                for index, character in enumerate(shown, first)
                if index not in unmapped
                and (character in HYPHEN_MARKS + BULLET or not _UNREADABLE.match(character))
            )
            self._unreadable += end - first - len(shown)
        return shown

    def _is_unmapped(self, index: int, character: str, font: int) -> bool:
        key = font, character
        known = self._unmapped.get(key)
        if known is None:
            known = self._unmapped[key] = pdfium.is_unmapped(self._text, index) == 1
        return known

    def _place(
        self, shown: str, first: int, end: int, style: Style, boxes: tuple[Box, Box]
    ) -> tuple[int, Word]:
        angle = style.turn
        if end - first > 1 and EAST_ASIAN.match(shown) and _stands_below(*boxes):
            angle = (angle - 90) % 360
        start, _ = _find_extent(boxes[0], angle)
        _, stop = _find_extent(boxes[1], angle)
        _, base = turn(*pdfium.find_origin(self._text, first), angle)
        if self._is_placed_singly and _ALEF_BEFORE_LAM.fullmatch(shown):
            # The library turns the two letters of this ligature around.
            shown = shown[::-1]
        before = self._characters[first - 1 : first]
        word = Word(
            *(shown, start, max(start, stop), base, style.size, first, end - 1),
            is_apart=before.isspace(),
            line=base,
        )
        return angle, word


def _stands_below(first: Box, last: Box) -> bool:
    return last.top < first.top and last.left < first.right and last.right > first.left


def _find_extent(box: Box, angle: int) -> tuple[float, float]:
    """Start and end of a box in a direction."""
    if angle == 0:
        return box.left, box.right
    corners = [turn(x, y, angle)[0] for x in (box.left, box.right) for y in (box.bottom, box.top)]
    return min(corners), max(corners)


def is_mark(character: str) -> bool:
    """Whether a character is drawn over another."""
    return unicodedata.combining(character[:1] or " ") > 0
