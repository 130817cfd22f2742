"""Cuts clean text into chunks, the units that are embedded, found and quoted."""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import regex  # type: ignore[import-untyped]

from ingest.outline import TOP, Outline, Place

# Part of every chunk id: raise it whenever the same text and sizes may be cut differently.
ALGORITHM = 3

# How much shorter than ideal a chunk may be, as a share, to end at a better place.
HEADING_REACH, PARAGRAPH_REACH, SENTENCE_REACH, LINE_REACH, WORD_REACH = 0.5, 0.35, 0.3, 0.3, 0.5
HEADING_MAX_CHARS = 80
# Longer indentation than this part of a chunk is dropped, so that no chunk is blank.
INDENTATION_SHARE = 8

# Cuts fall before the indentation of a line, which belongs to its text.
_PARAGRAPH = re.compile(r"\n(?:[^\S\n]*\n)+")
# A full stop after an initial or abbreviation, or before a lower-case letter, ends no sentence.
_SENTENCE = re.compile(
    r"(?:(?<![ .\n][A-Za-z])(?<!\b(?:Dr|Mr|Ms|St|vs|al|cf|pp|No|Eq))(?<!\b(?:Mrs|Fig|etc|Eqs))\."
    r"|[!?\u2026])[\"')\]\u2019\u201d\u00bb]*+(?:[^\S\n]*+\n|[^\S\n]++)(?!\s*+[a-z])"
    r"|[\u3002\uff01\uff1f][\u300d\u300f\uff09]*+(?:[^\S\n]*+\n|[^\S\n]*+)"
)
_LINE = re.compile(r"\n")
_WORD = re.compile(r"[^\S\n]+")
_BLANKS = re.compile(r"\s*")
# Scripts without blanks between words, as ranges of a regular expression: a sign of them is about
# as many tokens as three letters.
DENSE = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\ua4cf"
    "\uf900-\ufaff\uff00-\uffef\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_DENSE = re.compile(f"[{DENSE}]+")
DENSE_WEIGHT = 3
# What readers see as one sign, such as a letter with its marks, a flag, or a family of emoji.
_SIGN = regex.compile(r"\X")
# Enough characters to see the whole of a sign that a cut would divide.
SIGN_MAX_CHARS = 64


class Page(Protocol):
    """A page of the text: its number and first character."""

    @property
    def number(self) -> int: ...
    @property
    def start_char(self) -> int: ...


class Document(Protocol):
    """Clean text, its pages, ascending; no pages if the format has none, and its outline."""

    @property
    def text(self) -> str: ...
    @property
    def pages(self) -> Sequence[Page]: ...
    @property
    def outline(self) -> Outline: ...


class PageBreak(NamedTuple):
    """The character offset at which a page begins, and its number."""

    start: int
    page: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSettings:
    """Sizes in characters.

    Lengths vary around `target_chars`; a text of up to `max_chars` stays whole. With the defaults a
    chunk of English text has roughly 250 tokens, within the 512 that the embedding model reads.
    Text in a script without blanks between words gets chunks of a third of these sizes, since its
    signs are more tokens.
    """

    target_chars: int = 1_000
    max_chars: int = 1_200

    def __post_init__(self) -> None:
        if not 0 < self.target_chars <= self.max_chars:
            message = f"0 < target_chars <= max_chars, not {self.target_chars}, {self.max_chars}"
            raise ValueError(message)

    @property
    def key(self) -> str:
        """Stable name of these settings, part of every chunk id."""
        return f"c{ALGORITHM}-{self.target_chars}-{self.max_chars}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """`text == document.text[start:end]`, without white space around it except indentation.

    `gap` is the white space before it, from the end of the chunk before. `ordinal` counts from 0,
    `page` is the page the chunk begins on, `page_breaks` are further pages that begin inside it.
    `place` is what it stands under. `lines` are the places of its lines, see `aquifer.lines`.
    """

    ordinal: int
    gap: str
    text: str
    start: int
    end: int
    page: int | None
    page_breaks: tuple[PageBreak, ...] = ()
    place: Place = TOP
    lines: bytes = b""


def chunk(document: Document, settings: ChunkSettings) -> Sequence[Chunk]:
    """Cut a document before headings or between paragraphs, or else sentences, lines or words.

    The chunks are in order and do not overlap; they and their gaps make up the whole text. Equal
    texts and settings give equal chunks. The time is linear in the length of the text.
    """
    chunks: list[Chunk] = []
    behind = 0
    for start, end in _find_spans(document.text, document.outline, settings):
        gap, text = document.text[behind:start], document.text[start:end]
        place = document.outline.locate(start)
        chunks.append(locate_chunk(len(chunks), gap, text, start, document.pages, place))
        behind = end
    return chunks


def locate_chunk(
    ordinal: int, gap: str, text: str, start: int, pages: Sequence[Page], place: Place
) -> Chunk:
    """Make a chunk and find its pages."""
    end = start + len(text)
    first = bisect_right(pages, start, key=lambda page: page.start_char)
    behind = bisect_left(pages, end, lo=first, key=lambda page: page.start_char)
    return Chunk(
        ordinal=ordinal,
        gap=gap,
        text=text,
        start=start,
        end=end,
        page=pages[first - 1].number if first else None,
        page_breaks=tuple(PageBreak(one.start_char, one.number) for one in pages[first:behind]),
        place=place,
    )


def _find_spans(text: str, outline: Outline, settings: ChunkSettings) -> Iterator[tuple[int, int]]:
    end, stop = 0, len(text.rstrip())
    while end < stop:
        start = _find_start(text, end, settings)
        end = _find_end(text, outline, start, stop, settings)
        yield start, start + len(text[start:end].rstrip())


def _find_start(text: str, end: int, settings: ChunkSettings) -> int:
    """Find the start of the chunk after a cut: its first line keeps its indentation, if short."""
    start: int = _BLANKS.match(text, end).end()  # type: ignore[union-attr]  # it matches anywhere
    line = text.rfind("\n", max(0, end - 1), start) + 1 or (0 if not end else start)
    return line if start - line <= settings.target_chars // INDENTATION_SHARE else start


def _find_end(text: str, outline: Outline, start: int, stop: int, settings: ChunkSettings) -> int:
    """Find the end of the chunk that begins at `start`, including the white space after it."""
    settings = _fit_sizes(text, start, settings)
    left = stop - start
    if left <= settings.max_chars:
        return stop
    # The rest is divided evenly, so that the last chunk is not much shorter than the others.
    ceiling = (settings.target_chars + settings.max_chars) // 2
    ideal = left / -(-left // ceiling)
    longest = start + settings.max_chars
    shortest = start + max(1, int(ideal * (1 - HEADING_REACH)))
    if heading := _find_heading(text, outline, shortest, longest):
        return heading
    for pattern, reach in (
        (_PARAGRAPH, PARAGRAPH_REACH),
        (_SENTENCE, SENTENCE_REACH),
        (_LINE, LINE_REACH),
        (_WORD, WORD_REACH),
    ):
        shortest = start + int(ideal * (1 - reach))
        cuts = [match.end() for match in pattern.finditer(text, shortest, longest)]
        if pattern is _PARAGRAPH:
            cuts = [cut for cut in cuts if not _is_after_heading(text, outline, start, cut)]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - start - ideal))
    return _find_last_sign(text, start, start + math.ceil(ideal))


def _fit_sizes(text: str, start: int, settings: ChunkSettings) -> ChunkSettings:
    """Make the sizes smaller for text whose signs are words or syllables, by their share."""
    beginning = text[start : start + settings.max_chars]
    if beginning.isascii() or not (dense := sum(map(len, _DENSE.findall(beginning)))):
        return settings
    weight = 1 + (DENSE_WEIGHT - 1) * dense / len(beginning)
    return ChunkSettings(
        target_chars=max(1, int(settings.target_chars / weight)),
        max_chars=max(1, int(settings.max_chars / weight)),
    )


def _find_heading(text: str, outline: Outline, shortest: int, longest: int) -> int:
    """Find the first of the highest headings that begin a line in a range; 0 if none does."""
    headings = [
        one
        for one in outline.find_headings(shortest, longest)
        if text[one.start - 1 : one.start] == "\n"
    ]
    return min(headings, key=lambda one: one.level).start if headings else 0


def _find_last_sign(text: str, start: int, longest: int) -> int:
    """Find the last place up to `longest` that is between two signs."""
    if text[longest - 1 : longest + 1].isascii():
        return longest  # no two of these characters are one sign
    end = start
    for sign in _SIGN.finditer(text, start, longest + SIGN_MAX_CHARS):
        if sign.end() > longest:
            break
        end = sign.end()
    return end if end > start else longest


def _is_after_heading(text: str, outline: Outline, start: int, cut: int) -> bool:
    """Whether a cut would follow a heading, or a short line without a full stop."""
    paragraph = text[max(start, cut - HEADING_MAX_CHARS - 8) : cut].rstrip()
    line = paragraph[paragraph.rfind("\n") + 1 :]
    end = max(start, cut - HEADING_MAX_CHARS - 8) + len(paragraph)
    if outline.find_headings(end - len(line), end):
        return True
    return len(line) <= HEADING_MAX_CHARS and not line.endswith((".", "!", "?", ":", ";", "|"))
