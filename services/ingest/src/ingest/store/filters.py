"""Filters of a list as conditions of a statement; values are always parameters."""

from collections.abc import Mapping
from typing import Any, Final

from ingest.domain import State
from ingest.filters import All, AnyOf, Condition, Expression, Field, Not, Operator

_COLUMNS: Final[Mapping[Field, str]] = {
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
        case Not(part=part):
            return f"NOT ({condition(part, values)})"
        case All(parts=parts):
            return "(" + " AND ".join(condition(part, values) for part in parts) + ")"
        case AnyOf(parts=parts):
            return "(" + " OR ".join(condition(part, values) for part in parts) + ")"


def _compare(one: Condition, values: dict[str, Any]) -> str:
    name = f"filter_{len(values)}"
    values[name] = one.value.value if isinstance(one.value, State) else one.value
    column = _COLUMNS[one.field]
    if one.operator is Operator.HAS:
        # The same letters in every database, whatever its locale.
        folded = f'lower(%({name})s::text COLLATE "C")'
        return f'position({folded} IN lower({column} COLLATE "C")) > 0'
    sign = "<>" if one.operator is Operator.DIFFERS else one.operator.value
    return f"{column} {sign} %({name})s"
