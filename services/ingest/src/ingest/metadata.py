"""The metadata that producers give to their documents: which values it may have."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from aquifer.structs import JsonObject, JsonValue, to_struct
from chassis.base.errors import FieldViolation, InvalidInputError

PAIRS_MAX: Final = 32
KEY_MAX_CHARS: Final = 64
TEXT_MAX_CHARS: Final = 512
LIST_MAX: Final = 64
# Goes with every passage of an answer: a hundred of them must fit into one message.
MAX_BYTES: Final = 16 * 1024

_KEYS: Final = f"keys have 1 to {KEY_MAX_CHARS} characters, no NUL"
_VALUES: Final = (
    f"a string of up to {TEXT_MAX_CHARS} characters without NUL, a finite number, true or false,"
    f" or a list of at most {LIST_MAX} of these"
)


def check_metadata(metadata: JsonObject) -> None:
    """Check keys, values and size.

    Raises:
        InvalidInputError: METADATA_RANGE; its violations name the keys.
    """
    if violations := list(_find_violations(metadata)):
        detail = f"metadata is out of range: {violations[0].description}"
        raise InvalidInputError("METADATA_RANGE", detail, fields=violations)


def is_same(one: JsonObject, other: JsonObject) -> bool:
    """Whether both have the same pairs: `True` is not 1, and "2020" is not 2020."""
    return to_struct(one) == to_struct(other)


def _find_violations(metadata: JsonObject) -> Iterator[FieldViolation]:
    if len(metadata) > PAIRS_MAX:
        yield FieldViolation("metadata", f"at most {PAIRS_MAX} pairs")
        return
    fits = True
    for key, value in metadata.items():
        if not _is_text(key, KEY_MAX_CHARS) or not key:
            fits = False
            yield FieldViolation("metadata", _KEYS)
        elif not _is_value(value):
            fits = False
            yield FieldViolation(f"metadata.{key}", _VALUES)
    if fits and to_struct(metadata).ByteSize() > MAX_BYTES:
        yield FieldViolation("metadata", f"at most {MAX_BYTES} bytes as google.protobuf.Struct")


def _is_value(value: JsonValue) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value) <= LIST_MAX and all(map(_is_scalar, value))
    return _is_scalar(value)


def _is_scalar(value: JsonValue) -> bool:
    if isinstance(value, str):
        return _is_text(value, TEXT_MAX_CHARS)
    return isinstance(value, int | float) and math.isfinite(value)


def _is_text(text: str, limit: int) -> bool:
    return len(text) <= limit and "\x00" not in text
