"""Filters of a list as conditions of a statement; values are always parameters."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from chassis.base.filters import (
    All,
    AnyOf,
    Condition,
    Expression,
    MetadataCondition,
    Not,
    Operator,
)
from ingest.domain import State
from ingest.filters import Field

_COLUMNS: Final[Mapping[str, str]] = {
    Field.STATE: "v.state",
    Field.REASON: "v.reason",
    Field.TITLE: "coalesce(nullif(v.title, ''), v.text_title)",
    Field.MEDIA_TYPE: "v.media_type",
    Field.FILE_NAME: "v.file_name",
    Field.SIZE_BYTES: "v.size_bytes",
    Field.CREATE_TIME: "v.accepted_at",
    Field.UPDATE_TIME: "v.updated_at",
}


def condition(expression: Expression | None, values: dict[str, Any]) -> str:
    """The condition on a version `v`; adds its parameters to `values`. No column is ever NULL."""
    match expression:
        case None:
            return "true"
        case Condition():
            return _compare(expression, values)
        case MetadataCondition():
            return _compare_metadata(expression, values)
        case Not(part=part):
            return f"NOT ({condition(part, values)})"
        case All(parts=parts):
            return "(" + " AND ".join(condition(part, values) for part in parts) + ")"
        case AnyOf(parts=parts):
            return "(" + " OR ".join(condition(part, values) for part in parts) + ")"


def _compare(one: Condition, values: dict[str, Any]) -> str:
    if one.field == Field.NOTES:
        return f"v.notes @> %({_add(values, Jsonb([[one.value]]))})s"
    name = _add(values, one.value.value if isinstance(one.value, State) else one.value)
    column = _COLUMNS[one.field]
    if one.operator is Operator.HAS:
        return _contains(column, name)
    return f"{column} {_sign(one.operator)} %({name})s"


def _compare_metadata(one: MetadataCondition, values: dict[str, Any]) -> str:
    """Compares as jsonb, where values of different types differ and numbers are exact."""
    found = f"(v.metadata -> %({_add(values, one.key)})s::text)"
    text = f"({found} #>> '{{}}')"
    operator = Operator.EQUALS if one.operator is Operator.DIFFERS else one.operator
    if isinstance(one.value, datetime):
        name = _add(values, one.value)
        true = (
            f"jsonb_typeof({found}) = 'string' AND read_time({text}) {_sign(operator)} %({name})s"
        )
    elif operator is Operator.HAS:
        true = f"{found} @> %({_add(values, Jsonb(one.value))})s"
        if isinstance(one.value, str):
            contains = _contains(text, _add(values, one.value))
            true = f"({true} OR jsonb_typeof({found}) = 'string' AND {contains})"
    else:
        value = f"%({_add(values, Jsonb(one.value))})s"
        true = (
            f"jsonb_typeof({found}) = jsonb_typeof({value}) AND {found} {_sign(operator)} {value}"
        )
    # Without the key, the condition would be NULL.
    known = f"coalesce({true}, false)"
    return f"NOT {known}" if one.operator is Operator.DIFFERS else known


def _contains(column: str, name: str) -> str:
    """Whether a text contains another; the same letters in every database, whatever its locale."""
    folded = f'lower(%({name})s::text COLLATE "C")'
    return f'position({folded} IN lower({column} COLLATE "C")) > 0'


def _sign(operator: Operator) -> str:
    return "<>" if operator is Operator.DIFFERS else operator.value


def _add(values: dict[str, Any], value: object) -> str:
    """Adds a parameter; returns its name."""
    name = f"filter_{len(values)}"
    values[name] = value
    return name
