"""Codes, numbers, paths and names of programs: as a whole, and in parts."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import regex  # type: ignore[import-untyped]

# Longer ones are found by their parts only.
WHOLE_MAX_CHARS: Final = 64
PARTS_MAX: Final = 64
# More changes between letters and digits are those of a random code, whose parts tell nothing.
CHANGES_MAX: Final = 2

# Between the segments of a path, an address or a key with its value.
_STRONG: Final = regex.compile(r"[/\\:@?&=|;—–…]+")
_PIECE: Final = regex.compile(r"[^\W_]+")
# `getHTTPResponse2` has the parts get, HTTP, Response and 2.
_PART: Final = regex.compile(r"\p{Lu}+(?!\p{Ll})|\p{Lu}?[\p{Ll}\p{Lo}\p{M}]+|[\p{L}\p{M}]+|\p{N}+")
_GROUPED: Final = regex.compile(r"\d{1,3}(?:([,.'’])\d{3})(?:\1\d{3})*")
_FRACTION: Final = regex.compile(r"(\d+),(\d+)")
_CURRENCY: Final = regex.compile(r"\p{Sc}")
_INITIALS: Final = regex.compile(r"\p{L}(?:\.\p{L})+")
# `PPR-9077`, `PPR_9077` and `PPR9077` are one; `3.5` and `35` are not.
_CONNECTOR: Final = regex.compile(r"(?<=\w)[-‐‑'’·]+(?=\w)|_+")


def list_wholes(text: str) -> Iterator[str]:
    """Writings of an identifier, folded: as it is, joined, and those of its segments."""
    yield from _list_forms(text)
    segments = [segment for segment in _STRONG.split(text) if segment]
    if len(segments) > 1:
        for segment in segments[:PARTS_MAX]:
            yield from _list_forms(segment)


def list_parts(text: str) -> Iterator[str]:
    """The words, numbers and short codes in an identifier, in order and as they are written."""
    for piece in _PIECE.findall(text)[:PARTS_MAX]:
        parts = _PART.findall(piece)
        changes = sum(one[0].isdigit() != two[0].isdigit() for one, two in pairwise(parts))
        if changes or len(parts) == 1:
            yield piece
        if len(parts) > 1 and changes <= CHANGES_MAX:
            yield from parts


def _list_forms(text: str) -> Iterator[str]:
    whole = _CURRENCY.sub("", text.casefold()).rstrip(".,")
    if grouped := _GROUPED.search(whole):
        whole = whole.replace(grouped[1], "")
    elif _INITIALS.fullmatch(whole):
        whole = whole.replace(".", "")
    whole = _FRACTION.sub(r"\1.\2", _CONNECTOR.sub("", whole))
    if 1 < len(whole) <= WHOLE_MAX_CHARS:
        yield whole
