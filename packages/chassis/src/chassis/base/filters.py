"""Filters: expressions over the fields of a document and the values of its metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Operator(StrEnum):
    """How a field is compared with a value; PRESENT needs none and is written `:*`."""

    AT_MOST = "<="
    AT_LEAST = ">="
    DIFFERS = "!="
    EQUALS = "="
    BELOW = "<"
    ABOVE = ">"
    PRESENT = ":*"
    HAS = ":"


MetadataValue = str | bool | int | float | datetime


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a field; the value is of the kind of the field, a time is aware."""

    field: str
    operator: Operator
    value: str | int | datetime


@dataclass(frozen=True, slots=True)
class MetadataCondition:
    """A comparison of the value that the metadata has for a key.

    It is false if there is none, or one of another kind; only DIFFERS is true then, being the
    opposite of EQUALS. HAS is true for a list with this value, and for an equal value. PRESENT is
    true for any value; its own is "". A text in RFC 3339 is compared as a time with times.
    """

    key: str
    operator: Operator
    value: MetadataValue


@dataclass(frozen=True, slots=True)
class Not:
    """True if the part is false."""

    part: "Expression"


@dataclass(frozen=True, slots=True)
class All:
    """True if every part is true."""

    parts: Sequence["Expression"]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True if one part is true."""

    parts: Sequence["Expression"]


Expression = Condition | MetadataCondition | Not | All | AnyOf
