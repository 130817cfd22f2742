"""The lines of a text with their places on a page, packed into the bytes of `Chunk.lines`."""

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

# Coordinates are whole steps. Sixteen bits of quarter points reach farther than the 14,400 points
# that a PDF page may have.
STEPS_PER_POINT: Final = 4
COORDINATE_MAX: Final = 0xFFFF

_LINE: Final = struct.Struct("<6H")


class Line(NamedTuple):
    """Characters `start` to `end` of a text, and the rectangle around them, in steps.

    The origin is the upper left corner of the page as it is shown; `top` is less than `bottom`.
    """

    start: int
    end: int
    left: int
    top: int
    right: int
    bottom: int


def pack(lines: Iterable[Line]) -> bytes:
    return b"".join(_LINE.pack(*line) for line in lines)


def unpack(packed: bytes) -> Iterator[Line]:
    return map(Line._make, _LINE.iter_unpack(packed))


def count(packed: bytes) -> int:
    return len(packed) // _LINE.size


def are_valid(packed: bytes, text_length: int) -> bool:
    """Whether all lines are in order, inside of a text, and have rectangles with an area."""
    if len(packed) % _LINE.size:
        return False
    behind = 0
    for start, end, left, top, right, bottom in _LINE.iter_unpack(packed):
        if not (behind <= start < end <= text_length and left < right and top < bottom):
            return False
        behind = end
    return True
