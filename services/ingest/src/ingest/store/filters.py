"""Filters of a list as conditions of a statement; values are always parameters."""

from collections.abc import Mapping
from typing import Any, Final

from psycopg.types.json import Jsonb

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
        return f"v.notes @> %({add_value(values, Jsonb([[one.value]]))})s"
    name = add_value(values, one.value.value if isinstance(one.value, State) else one.value)
    column = _COLUMNS[one.field]
    if one.operator is Operator.HAS:
        return _contains(column, name)
    return f"{column} {sign(one.operator)} %({name})s"


def _compare_metadata(one: MetadataCondition, values: dict[str, Any]) -> str:
    """HAS also finds a text that contains the text."""
    true = compare_metadata(one, "v.metadata", values)
    if one.operator is not Operator.HAS or not isinstance(one.value, str):
        return true
    found = f"(v.metadata -> %({add_value(values, one.key)})s::text)"
    contains = _contains(f"({found} #>> '{{}}')", add_value(values, one.value))
    return f"({true} OR coalesce(jsonb_typeof({found}) = 'string' AND {contains}, false))"


def _contains(column: str, name: str) -> str:
    """Whether a text contains another; the same letters in every database, whatever its locale."""
    folded = f'lower(%({name})s::text COLLATE "C")'
    return f'position({folded} IN lower({column} COLLATE "C")) > 0'
