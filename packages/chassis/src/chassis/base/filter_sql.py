"""Conditions on metadata as conditions of a statement; values are always parameters."""

from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from chassis.base.filters import MetadataCondition, Operator


def compare_metadata(one: MetadataCondition, column: str, values: dict[str, Any]) -> str:
    """The condition on a column with metadata, never NULL; adds its parameters to `values`.

    It compares as jsonb, where values of different types differ and numbers are exact. The schema
    has a function `read_time`: the time that a text is in RFC 3339, NULL if it is none.
    """
    found = f"({column} -> %({add_value(values, one.key)})s::text)"
    operator = Operator.EQUALS if one.operator is Operator.DIFFERS else one.operator
    if operator is Operator.PRESENT:
        return f"{found} IS NOT NULL"
    if isinstance(one.value, datetime):
        value = f"%({add_value(values, one.value)})s"
        time = f"read_time({found} #>> '{{}}')"
        true = f"jsonb_typeof({found}) = 'string' AND {time} {operator} {value}"
    elif operator is Operator.HAS:
        true = f"{found} @> %({add_value(values, Jsonb(one.value))})s"
    else:
        value = f"%({add_value(values, Jsonb(one.value))})s"
        true = f"jsonb_typeof({found}) = jsonb_typeof({value}) AND {found} {operator} {value}"
    # Without the key, the condition would be NULL.
    known = f"coalesce({true}, false)"
    return f"NOT {known}" if one.operator is Operator.DIFFERS else known


def add_value(values: dict[str, Any], value: object) -> str:
    """Adds a parameter; returns its name."""
    name = f"filter_{len(values)}"
    values[name] = value
    return name


def sign(operator: Operator) -> str:
    """An operator that compares, as SQL writes it."""
    return "<>" if operator is Operator.DIFFERS else operator.value
