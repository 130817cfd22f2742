"""Filters of searches as conditions of a statement; values are always parameters."""

from typing import Any, assert_never

from chassis.base.filter_sql import add_value, compare_metadata, sign
from chassis.base.filters import (
    All,
    AnyOf,
    Condition,
    Expression,
    MetadataCondition,
    Not,
    Operator,
)
from query.filters.language import Field


def condition(expression: Expression, values: dict[str, Any]) -> str:
    """The condition on a version, never NULL; adds its parameters to `values`.

    It is about the rows `passage` (document, version), `known` (collection, labels) and `described`
    (title, metadata, created_at).
    """
    match expression:
        case Condition():
            return _compare(expression, values)
        case MetadataCondition():
            return compare_metadata(expression, "described.metadata", values)
        case Not(part=part):
            return f"NOT ({condition(part, values)})"
        case All(parts=parts):
            return "(" + " AND ".join(condition(part, values) for part in parts) + ")"
        case AnyOf(parts=parts):
            return "(" + " OR ".join(condition(part, values) for part in parts) + ")"
    assert_never(expression)


def _compare(one: Condition, values: dict[str, Any]) -> str:
    present = one.operator is Operator.PRESENT
    value = "" if present else f"%({add_value(values, one.value)})s"
    compared: str
    match Field(one.field):
        case Field.LABELS:
            compared = "known.labels <> '{}'" if present else f"{value} = ANY(known.labels)"
        case Field.TITLE:
            compared = "described.title <> ''" if present else _sign(one, "described.title", value)
        case Field.CREATE_TIME if one.operator is Operator.DIFFERS:
            compared = f"described.created_at IS DISTINCT FROM {value}"
        case Field.CREATE_TIME:
            compared = f"coalesce({_sign(one, 'described.created_at', value)}, false)"
        case Field.COLLECTION:
            compared = _sign(one, "known.collection", value)
        case Field.VERSION:
            compared = _sign(one, "passage.version", value)
        case Field.DOCUMENT if "/" in str(one.value):
            compared = _sign(one, "passage.document", value)
        case Field.DOCUMENT:
            # The id is what follows the collection's name and `/documents/`, 11 characters.
            start = "length(known.collection) + 12"
            compared = _sign(one, f"substr(passage.document, {start})", value)
    return compared


def _sign(one: Condition, column: str, value: str) -> str:
    return f"{column} {sign(one.operator)} {value}"
