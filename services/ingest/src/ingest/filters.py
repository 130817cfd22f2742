"""Filters of ListDocuments: expressions over the fields of a document."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ingest.domain import State


class Field(StrEnum):
    """What can be compared, named as in the contract."""

    STATE = "state"
    REASON = "reason"
    TITLE = "title"
    MEDIA_TYPE = "media_type"
    FILE_NAME = "file_name"
    SIZE_BYTES = "size_bytes"
    CREATE_TIME = "create_time"
    UPDATE_TIME = "update_time"
    NOTES = "notes"


class Operator(StrEnum):
    """How it is compared; HAS: the text contains the value, whatever the case of A to Z.

    Notes are compared by HAS alone: one of them has the code.
    """

    AT_MOST = "<="
    AT_LEAST = ">="
    DIFFERS = "!="
    EQUALS = "="
    BELOW = "<"
    ABOVE = ">"
    HAS = ":"


MetadataValue = str | bool | int | float | datetime


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison; the value is of the kind of its field, a time is aware."""

    field: Field
    operator: Operator
    value: str | int | datetime


@dataclass(frozen=True, slots=True)
class MetadataCondition:
    """A comparison of the value that the metadata has for a key.

    It is false if there is none, or one of another kind; only DIFFERS is true then, being the
    opposite of EQUALS. HAS is true for a list with this value, for an equal value, and for a text
    that contains the text. A text in RFC 3339 is compared as a time with times.
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


def names_deleted(expression: Expression) -> bool:
    """Whether a condition is about the state DELETED."""
    match expression:
        case Condition(field=field, value=value):
            return field is Field.STATE and value == State.DELETED
        case MetadataCondition():
            return False
        case Not(part=part):
            return names_deleted(part)
        case All(parts=parts) | AnyOf(parts=parts):
            return any(map(names_deleted, parts))
