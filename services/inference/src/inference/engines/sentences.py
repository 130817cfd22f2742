"""Splits text into sentences with exact offsets, and into words and word stems."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A full stop with closing quotes or brackets, a full stop between spaces (old abstracts), an
# ideographic full stop, a blank line, or a line break before a list item.
_BOUNDARY = re.compile(
    r"""(?<=\S)[.!?]+["'\u201d\u2019)\]]*(?=\s) | (?<=\s)[.!?](?=\s) | [\u3002\uff01\uff1f]
      | \n\s*\n | \n(?=\s*(?:[-*\u2022\u2013]|\d{1,3}[.)])\s)""",
    re.VERBOSE,
)
_ABBREVIATION = re.compile(
    r"""(?:^|[\s("\u201c])
        (?: [A-Z] | (?:[A-Za-z]\.)+[A-Za-z] | Mr | Mrs | Ms | Dr | Prof | St | Sr | Jr | vs | Nos?
          | Figs? | Eqs? | Refs? | Vol | pp | cf | approx | Inc | Ltd | Co | Corp | Gen | Col | Lt
          | Capt | Sgt | Gov | Sen | Rep | Rev | Hon | Mt | al | etc )$""",
    re.VERBOSE,
)
_ABBREVIATION_MAX_CHARS = 12
_WORD = re.compile(r"\w+")
_SUFFIX = re.compile(r"(?<=\w{3})(?:ies|ing|ed|es|s|y)$")
_STEM_CHARS = 6

# A longer sentence (a table, code, a list without full stops) is split at white space.
SENTENCE_MAX_CHARS = 600
_FRAGMENT_MAX_WORDS = 3
_FRAGMENT_MAX_CHARS = 24

# More short lines in a row than this are text, not headings.
_HEADINGS_MAX = 3
_HEADING_MAX_CHARS = 80
_NO_HEADING = re.compile(
    r"[-*\u2022\u2013]\s | \d{1,3}[.)]\s | .*(?:\| | [.!?:;,\u3002\uff01\uff1f]$)",
    re.VERBOSE | re.DOTALL,
)
_BLANK_LINE = re.compile(r"[^\S\n]*\n\s*\n")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sentence:
    """`text[start:end]`, and the span of the headings above it (empty if there are none)."""

    start: int
    end: int
    heading: Span = (0, 0)


def sentences(text: str) -> list[Sentence]:
    """Every sentence in reading order, without surrounding white space.

    A heading is not a sentence but the context of the sentences below it. A question or a fragment
    is joined with the next sentence, because alone it answers nothing.
    """
    found: list[Sentence] = []
    lines: list[Span] = []
    heading = (0, 0)
    carried: int | None = None
    for start, end in _pieces(text):
        if carried is None and _is_heading(text, start, end):
            lines.append((start, end))
            continue
        first = start if carried is None else carried
        if _is_lead_in(text[start:end]) and end - first < SENTENCE_MAX_CHARS:
            carried = first
            continue
        if len(lines) > _HEADINGS_MAX:
            found += [Sentence(*line) for line in lines]
        elif lines:
            heading = (lines[0][0], lines[-1][1])
        found.append(Sentence(first, end, heading))
        lines, carried = [], None
    found += [Sentence(*line) for line in lines]
    if carried is not None:
        found.append(Sentence(carried, len(text.rstrip())))
    return found


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def stem(word: str) -> str:
    """The approximate stem of a word: without plural and tense endings, at most six characters."""
    return _SUFFIX.sub("", word)[:_STEM_CHARS]


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in _BOUNDARY.finditer(text):
        if not _is_inner_stop(text, match):
            yield from _cut(text, start, match.end())
            start = match.end()
    yield from _cut(text, start, len(text))


def _is_inner_stop(text: str, match: re.Match[str]) -> bool:
    """True if a full stop belongs to an abbreviation or is followed by a lower-case letter."""
    stop = match.start()
    if match.group() != "." or text[stop - 1 : stop].isspace():
        return False
    before = text[max(0, stop - _ABBREVIATION_MAX_CHARS) : stop]
    return bool(_ABBREVIATION.search(before)) or text[match.end() + 1 : match.end() + 2].islower()


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > SENTENCE_MAX_CHARS:
        at = max(text.rfind(white, start, start + SENTENCE_MAX_CHARS) for white in "\n ")
        at = at if at > start else start + SENTENCE_MAX_CHARS
        yield from _trim(text, start, at)
        start = at
    yield from _trim(text, start, end)


def _trim(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    piece = text[start:end]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _is_heading(text: str, start: int, end: int) -> bool:
    """True if a piece is a short line above a blank line, without a full stop."""
    return (
        end - start <= _HEADING_MAX_CHARS
        and _NO_HEADING.match(text, start, end) is None
        and _BLANK_LINE.match(text, end) is not None
    )


def _is_lead_in(piece: str) -> bool:
    short = len(piece) <= _FRAGMENT_MAX_CHARS and len(words(piece)) <= _FRAGMENT_MAX_WORDS
    return short or piece.endswith(("?", "\uff1f"))
