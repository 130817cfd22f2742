"""Values of metadata in a filter: what a text stands for, and how it can be compared."""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from chassis.base.filters import MetadataValue, Operator

EXACT_MAX: Final = 2**53
_INTEGER: Final = re.compile(r"-?[0-9]+")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# As `read_time` of the database: all that it accepts and this does, both read alike.
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+-](0[0-9]|1[0-5]):[0-5][0-9])"
)
_COMPARISONS: Final = [operator for operator in Operator if operator is not Operator.PRESENT]
_EQUALITY: Final = (Operator.EQUALS, Operator.DIFFERS, Operator.HAS)


def read_value(text: str, operator: Operator, *, quoted: bool) -> MetadataValue:
    """The boolean, number, time or text that a text stands for; in quotes it is a time or a text.

    Raises:
        ValueError: no value of metadata is like that.
    """
    if not quoted and text in ("true", "false"):
        return text == "true"
    if not quoted and _NUMBER.fullmatch(text):
        return _read_number(text)
    if not quoted and text == "null":
        raise ValueError('no value is null; a text of these letters is "null"')
    if "\x00" in text:
        raise ValueError("no text contains NUL")
    # A part of a text, or an element of a list, is compared as it is written.
    if operator is not Operator.HAS and (time := read_time(text)):
        return time
    return text


def read_time(text: str) -> datetime | None:
    """The time that a text is in RFC 3339 with a zone; None if it is none."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def list_operators(value: MetadataValue) -> Sequence[Operator]:
    """How a value can be compared."""
    if isinstance(value, bool | str):
        return _EQUALITY
    if isinstance(value, datetime):
        return [operator for operator in _COMPARISONS if operator is not Operator.HAS]
    return _COMPARISONS


def name_kind(value: MetadataValue) -> str:
    """What a value is called in a message."""
    match value:
        case bool():
            return "true or false"
        case datetime():
            return "a time"
        case str():
            return "a text"
    return "a number"


def _read_number(text: str) -> int | float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("the number is too large")
    if _INTEGER.fullmatch(text) and abs(int(text)) > EXACT_MAX:
        raise ValueError("integers above 2^53 are not exact: compare a text, in double quotes")
    return int(number) if number.is_integer() and abs(number) <= EXACT_MAX else number
