"""Parses JSON into values that keep what is written: every digit of a number, and repeated keys."""

import json
import re
import sys
from collections.abc import Iterator
from typing import TypeAlias

from ingest.parsing.failure import ParseFailure, RefusalError

# An object is a tuple of its keys and values in order, a number the text that stands for it.
Scalar: TypeAlias = str | bool | None
Value: TypeAlias = "Scalar | list[Value] | tuple[tuple[str, Value], ...]"

DEPTH_MAX = 200

_BLANKS = re.compile(r"[ \t\n\r\ufeff\x1e]*")
# Equal numbers share one string, so that an array of zeros does not fill the memory.
_DECODER = json.JSONDecoder(
    object_pairs_hook=tuple,
    parse_float=sys.intern,
    parse_int=sys.intern,
    parse_constant=sys.intern,
    strict=False,
)


def parse_values(text: str) -> Iterator[Value]:
    """Parses the values that stand one after another, each of them at most `DEPTH_MAX` deep.

    Raises:
        JSONDecodeError: the text is no JSON.
        RefusalError: `DOCUMENT_DAMAGED` if it is nested too deeply.
    """
    position = _skip_blanks(text, 0)
    while position < len(text):
        try:
            value, end = _DECODER.raw_decode(text, position)
        except RecursionError as error:
            raise depth_error() from error
        yield value
        position = _skip_blanks(text, end)


def depth_error() -> RefusalError:
    return RefusalError(
        ParseFailure.DOCUMENT_DAMAGED, f"JSON: values are nested more than {DEPTH_MAX} levels deep"
    )


def syntax_error(error: json.JSONDecodeError) -> RefusalError:
    return RefusalError(
        ParseFailure.DOCUMENT_DAMAGED,
        f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}; correct it, or"
        " send it as text/plain",
    )


def _skip_blanks(text: str, position: int) -> int:
    return _BLANKS.match(text, position).end()  # type: ignore[union-attr]  # it matches anywhere
