"""Filters of ListDocuments: which fields they compare."""

from enum import StrEnum

from chassis.base.filters import All, AnyOf, Condition, Expression, MetadataCondition, Not
from ingest.domain import State


class Field(StrEnum):
    """What can be compared, named as in the contract.

    HAS: the text contains the value, whatever the case of A to Z. Notes are compared by HAS alone:
    one of them has the code.
    """

    STATE = "state"
    REASON = "reason"
    TITLE = "title"
    MEDIA_TYPE = "media_type"
    FILE_NAME = "file_name"
    SIZE_BYTES = "size_bytes"
    CREATE_TIME = "create_time"
    UPDATE_TIME = "update_time"
    NOTES = "notes"


def names_deleted(expression: Expression) -> bool:
    """Whether a condition is about the state DELETED."""
    match expression:
        case Condition(field=field, value=value):
            return field == Field.STATE and value == State.DELETED
        case MetadataCondition():
            return False
        case Not(part=part):
            return names_deleted(part)
        case All(parts=parts) | AnyOf(parts=parts):
            return any(map(names_deleted, parts))
