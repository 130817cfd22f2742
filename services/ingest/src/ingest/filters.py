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


class Operator(StrEnum):
    """How it is compared; HAS: the text contains the value, whatever the case of A to Z."""

    AT_MOST = "<="
    AT_LEAST = ">="
    DIFFERS = "!="
    EQUALS = "="
    BELOW = "<"
    ABOVE = ">"
    HAS = ":"


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison; the value is of the kind of its field, a time is aware."""

    field: Field
    operator: Operator
    value: str | int | datetime


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


Expression = Condition | Not | All | AnyOf


def names_deleted(expression: Expression) -> bool:
    """Whether a condition is about the state DELETED."""
    match expression:
        case Condition(field=field, value=value):
            return field is Field.STATE and value == State.DELETED
        case Not(part=part):
            return names_deleted(part)
        case All(parts=parts) | AnyOf(parts=parts):
            return any(map(names_deleted, parts))
