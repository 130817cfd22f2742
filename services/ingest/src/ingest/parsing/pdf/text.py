"""Takes the characters of a PDF page from pdfium, as words with their places."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from math import atan2, degrees, hypot
from typing import NamedTuple

from ingest.parsing.pdf import pdfium
from ingest.parsing.pdf.pdfium import turn

RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
EAST_ASIAN = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
# Letters that the library places at the end of a line, instead of a hyphen.
HYPHEN_MARKS = "\x02\ufffe"
BULLET, BLANKS = "\uf0b7", " \r\n\t"
# A larger gap between words, in shares of their size, may be one between columns.
WIDE_GAP = 0.8
# How far letters reach from their baseline, in shares of their size.
ASCENT, DESCENT = 0.8, 0.2
# Width of the last character of a slanting word, in shares of the height of its box.
SLANTING_WIDTH = 0.3
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


class _WordReader:
    def __init__(self, page: int, text: int, hidden: set[int], characters: str) -> None:
        self._hidden = hidden
        self._characters = characters
        self._text = text
        self._edges = pdfium.find_page_box(page)
        self._rotation = 90 * pdfium.find_rotation(page)
        self._styles = dict[int, Style]()
        self._signs = dict[int, tuple[set[str], set[str]]]()
        self._words = dict[int, list[Word]]()
        self._seen = self._unreadable = 0

    def read(self) -> PageText:
        is_turned = RIGHT_TO_LEFT.search(self._characters) is not None
        for first, end, owner in self._find_places() if is_turned else self._find_runs():
            if owner in self._hidden:
                continue
            style = self._find_style(owner, first)
            lift = 0.0
            if EAST_ASIAN.match(self._characters, first) and self._runs_down(first, end):
                style = style._replace(turn=(style.turn - 90) % 360)
                # Upright signs below each other stand beside the line, not on it.
                lift = DESCENT * style.size
            unreadable = self._find_unreadable(first, end, style.font)
            words = self._words.setdefault(style.turn, [])
            if is_turned:
                self._add_sign(words, first, end, style, unreadable)
            else:
                self._add_words(words, first, end, style, lift, unreadable)
        is_noise = self._unreadable > NOISE_SHARE_MAX * self._seen
        found = {angle: words for angle, words in self._words.items() if words}
        return PageText(found, self._rotation, self._unreadable, is_noise)

    def _find_runs(self) -> Iterator[tuple[int, int, int]]:
        """Yields start and end of the characters of one object, and the object."""
        spans = [word.span() for word in _WORD.finditer(self._characters)]
        number, first = 0, spans[0][0] if spans else 0
        while number < len(spans):
            owner = pdfium.find_object(self._text, first) or 0
            last = self._find_last_word(spans, number, owner)
            start, end = spans[last]
            if pdfium.find_object(self._text, end - 1) == owner:
                yield first, end, owner
                number = last + 1
                first = spans[number][0] if number < len(spans) else 0
                continue
            stop = max(first, start) + 1
            while pdfium.find_object(self._text, stop) == owner:
                stop += 1
            yield first, stop, owner
            number, first = last, stop

    def _find_last_word(self, spans: list[tuple[int, int]], number: int, owner: int) -> int:
        """The last of the words that begin in an object; those of one stand together."""
        step, count = 1, len(spans)
        while step:
            wanted = number + step
            if wanted < count and pdfium.find_object(self._text, spans[wanted][0]) == owner:
                number, step = wanted, 2 * step
            else:
                step //= 2
        return number

    def _find_places(self) -> Iterator[tuple[int, int, int]]:
        """Yields start and end of the characters that share a place, blanks too, and their object.

        Only their places tell the order of characters on pages with text from right to left.
        """
        first, count = 0, len(self._characters)
        while first < count:
            if pdfium.is_generated(self._text, first) == 1:
                first += 1
                continue
            owner = pdfium.find_object(self._text, first) or 0
            end, place = first + 1, pdfium.find_box(self._text, first)
            while (
                end < count
                and pdfium.find_object(self._text, end) == owner
                and pdfium.is_generated(self._text, end) != 1
                and pdfium.find_box(self._text, end) == place
            ):
                end += 1
            yield first, end, owner
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

    def _runs_down(self, first: int, end: int) -> bool:
        if end == first + 1:
            return False
        upper, lower = pdfium.find_box(self._text, first), pdfium.find_box(self._text, end - 1)
        is_below = lower.top < upper.top
        return is_below and lower.left < upper.right and lower.right > upper.left

    def _find_unreadable(self, first: int, end: int, font: int) -> set[str]:
        """The signs among some characters that are only numbers of glyphs."""
        readable, unreadable = self._signs.setdefault(font, (set(), set()))
        signs = set(self._characters[first:end])
        for sign in signs - readable - unreadable:
            index = self._characters.index(sign, first)
            is_number = pdfium.is_unmapped(self._text, index) == 1 or (
                sign not in HYPHEN_MARKS + BULLET + BLANKS and _UNREADABLE.match(sign)
            )
            (unreadable if is_number else readable).add(sign)
        return signs & unreadable

    def _add_words(
        self,
        words: list[Word],
        first: int,
        end: int,
        style: Style,
        lift: float,
        unreadable: set[str],
    ) -> None:
        """Adds the words of an object, those with usual gaps together."""
        text, characters = self._text, self._characters
        angle, size = style.turn, style.size
        base = turn(*pdfium.find_origin(text, first), angle)[1] + lift
        is_plain = angle == 0 and not unreadable and self._is_inside(first, end)
        phrase: Word | None = None
        for found in _WORD.finditer(characters, first, end):
            begin, stop = found.span()
            if is_plain:
                shown = found[0]
                start, limit = pdfium.find_sides(text, begin, stop - 1)
                self._seen += stop - begin
            else:
                shown = self._clean(found[0], unreadable)
                extent = self._find_extent(begin, stop, angle)
                if not shown or extent is None:
                    continue
                start, limit = extent
            if phrase and begin == phrase.last + 2 and 0 <= start - phrase.end <= WIDE_GAP * size:
                phrase.text += " " + shown
                phrase.end, phrase.last = limit, stop - 1
            else:
                is_apart = characters[begin - 1 : begin].isspace()
                phrase = Word(
                    shown, start, limit, base, size, begin, stop - 1, is_apart=is_apart, line=base
                )
                words.append(phrase)

    def _is_inside(self, first: int, end: int) -> bool:
        """Whether no character of an object is beyond the page's edges, nor a bullet sign."""
        left, bottom, right, top = self._edges
        begin, last = pdfium.find_box(self._text, first), pdfium.find_box(self._text, end - 1)
        return (
            left < begin.left < last.right < right
            and bottom < begin.bottom < begin.top < top
            and BULLET not in self._characters[first:end]
        )

    def _add_sign(
        self, words: list[Word], first: int, end: int, style: Style, unreadable: set[str]
    ) -> None:
        extent = self._find_extent(first, end, style.turn)
        shown = self._clean(self._characters[first:end], unreadable)
        if not shown or extent is None:
            return
        if _ALEF_BEFORE_LAM.fullmatch(shown):
            # The library turns the two letters of this ligature around.
            shown = shown[::-1]
        _, base = turn(*pdfium.find_origin(self._text, first), style.turn)
        words.append(
            Word(shown, *extent, base, style.size, first, end - 1, is_apart=False, line=base)
        )

    def _find_extent(self, first: int, end: int, angle: int) -> tuple[float, float] | None:
        """Start and end of characters in a direction, None if they lie beyond the page's edges."""
        left, bottom, right, top = self._edges
        begin = pdfium.find_box(self._text, first)
        last = begin if end == first + 1 else pdfium.find_box(self._text, end - 1)
        if max(begin[2], last[2]) <= left or min(begin[0], last[0]) >= right:
            return None
        if max(begin[3], last[3]) <= bottom or min(begin[1], last[1]) >= top:
            return None
        if angle == 0:
            return begin[0], max(begin[0], last[2])
        if angle % 90:
            # The box around a slanting character reaches over its neighbours.
            start, limit = (self._find_slanting(index, angle) for index in (first, end - 1))
            return start, limit + SLANTING_WIDTH * (last.top - last.bottom)
        start = begin.turn(angle).left
        return start, max(start, last.turn(angle).right)

    def _find_slanting(self, index: int, angle: int) -> float:
        return turn(*pdfium.find_origin(self._text, index), angle)[0]

    def _clean(self, shown: str, unreadable: set[str]) -> str:
        self._seen += len(shown)
        if unreadable:
            kept = "".join(sign for sign in shown if sign not in unreadable)
            self._unreadable += len(shown) - len(kept)
            shown = kept
        return shown.replace(BULLET, "\u2022") if BULLET in shown else shown


def is_mark(character: str) -> bool:
    """Whether a character is drawn over another."""
    return unicodedata.combining(character[:1] or " ") > 0
