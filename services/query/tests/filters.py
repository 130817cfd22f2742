"""What filters are compared with in tests: random ones, as text, and evaluated one by one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from chassis.base.filter_values import read_time
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


@dataclass(frozen=True)
class Described:
    """A live version with its document."""

    document: str
    version: int = 1
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()
    created_at: datetime | None = None

    @property
    def collection(self) -> str:
        return self.document.rpartition("/documents/")[0]


def matches(one: Described, expression: Expression) -> bool:
    """Whether an expression is true, by the words of the contract."""
    match expression:
        case Not(part=part):
            return not matches(one, part)
        case All(parts=parts):
            return all(matches(one, part) for part in parts)
        case AnyOf(parts=parts):
            return any(matches(one, part) for part in parts)
        case MetadataCondition(key=key, operator=operator, value=value):
            return _matches_metadata(one.metadata, key, operator, value)
        case Condition(field=name, operator=operator, value=value):
            return _matches_field(one, Field(name), operator, value)
    raise AssertionError(expression)


def _matches_field(one: Described, name: Field, operator: Operator, value: Any) -> bool:
    match name:
        case Field.LABELS:
            return bool(one.labels) if operator is Operator.PRESENT else value in one.labels
        case Field.CREATE_TIME if one.created_at is None:
            return operator is Operator.DIFFERS
        case Field.CREATE_TIME:
            return _compare(one.created_at, operator, value)
        case Field.TITLE if operator is Operator.PRESENT:
            return one.title != ""
        case Field.DOCUMENT if "/" not in value:
            return _compare(one.document.rpartition("/")[2], operator, value)
    return _compare(getattr(one, name), operator, value)


def _matches_metadata(
    metadata: Mapping[str, Any], key: str, operator: Operator, value: Any
) -> bool:
    if operator is Operator.DIFFERS:
        return not _matches_metadata(metadata, key, Operator.EQUALS, value)
    if key not in metadata:
        return False
    found = metadata[key]
    match operator:
        case Operator.PRESENT:
            return True
        case Operator.HAS:
            elements = found if isinstance(found, list) else [found]
            return any(_is_same(one, value) for one in elements)
    if isinstance(value, datetime):
        found = read_time(found) if isinstance(found, str) else None
        return found is not None and _compare(found, operator, value)
    if operator is Operator.EQUALS:
        return _is_same(found, value)
    number = isinstance(found, int | float) and not isinstance(found, bool)
    return number and _compare(found, operator, value)


def _is_same(found: Any, value: Any) -> bool:
    return isinstance(found, bool) == isinstance(value, bool) and found == value


def _compare(found: Any, operator: Operator, value: Any) -> bool:
    answers = {
        Operator.EQUALS: found == value,
        Operator.DIFFERS: found != value,
    }
    if operator in answers:
        return answers[operator]
    return {
        Operator.BELOW: lambda: found < value,
        Operator.AT_MOST: lambda: found <= value,
        Operator.ABOVE: lambda: found > value,
        Operator.AT_LEAST: lambda: found >= value,
    }[operator]()


def write(expression: Expression) -> str:
    """An expression as the text of a filter."""
    match expression:
        case Not(part=part):
            return f"NOT {_enclose(part)}"
        case All(parts=parts):
            return " AND ".join(map(_enclose, parts))
        case AnyOf(parts=parts):
            return " OR ".join(map(_enclose, parts))
        case MetadataCondition(key=key, operator=operator, value=value):
            return f"metadata.{_quote(key)}{operator}{_write_value(operator, value)}"
        case Condition(field=name, operator=operator, value=value):
            return f"{name} {operator}{_write_value(operator, value)}"
    raise AssertionError(expression)


def _enclose(part: Expression) -> str:
    return f"({write(part)})" if isinstance(part, All | AnyOf) else write(part)


def _write_value(operator: Operator, value: Any) -> str:
    if operator is Operator.PRESENT:
        return ""
    match value:
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat()
        case int() | float():
            return repr(value)
    return _quote(value)


def _quote(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


KEYS = ("year", "due", "tags", "due date", 'a"b\\', "x-1")
TIMES = (
    "2024-05-01T00:00:00Z",
    "2024-05-01T02:00:00+02:00",
    "2024-05-01T00:00:00.000001Z",
    "1969-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-15:59",
)
TEXTS = ("", "a", "A", "2020", "true", "null", "Ärger", "a'b", "%s", "\\", '"', "x y", "2024-13-01")
NUMBERS = (0, -1, 1, 2020, 2020.5, 0.1, 1e300, -1e300, 5e-324, -0.5, 2**53, -(2**53), 1e16)
SCALARS = st.one_of(
    st.sampled_from([*TIMES, *TEXTS, *NUMBERS, True, False]),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False).map(
        lambda one: int(one) if one.is_integer() and abs(one) <= 2**53 else one
    ),
)
METADATA = st.dictionaries(
    st.sampled_from(KEYS), SCALARS | st.lists(SCALARS, max_size=4), max_size=6
)
DOCUMENTS = st.sampled_from(
    [f"collections/{c}/documents/{d}" for c in ("a", "b") for d in ("x", "y")]
)
LABELS = st.sets(st.sampled_from(["hr", "eng", "law"])).map(lambda names: tuple(sorted(names)))
_TIME = st.sampled_from(TIMES).map(datetime.fromisoformat)
DESCRIBED = st.builds(
    Described,
    document=DOCUMENTS,
    version=st.integers(1, 9),
    title=st.sampled_from(TEXTS),
    metadata=METADATA,
    labels=LABELS,
    # Not in the first and last year: those of a version are within them in UTC.
    created_at=st.none() | st.sampled_from(TIMES[:4]).map(datetime.fromisoformat),
)

EQUALITY = st.sampled_from([Operator.EQUALS, Operator.DIFFERS])
ORDER = st.sampled_from([one for one in Operator if one not in (Operator.HAS, Operator.PRESENT)])


def _condition(key: str, operator: Operator, value: Any) -> MetadataCondition:
    return MetadataCondition(key, operator, "" if operator is Operator.PRESENT else value)


_KEY = st.sampled_from(KEYS)
_NUMBER = SCALARS.filter(lambda one: not isinstance(one, str | bool))
_TEXT = st.sampled_from(TEXTS)
CONDITIONS: st.SearchStrategy[Any] = st.one_of(
    st.builds(_condition, _KEY, EQUALITY, _TEXT | st.booleans()),
    st.builds(_condition, _KEY, ORDER, _NUMBER | _TIME),
    st.builds(_condition, _KEY, st.just(Operator.HAS), SCALARS),
    st.builds(_condition, _KEY, st.just(Operator.PRESENT), st.just("")),
    st.builds(Condition, st.just(Field.TITLE.value), EQUALITY, _TEXT),
    st.just(Condition(Field.TITLE.value, Operator.PRESENT, "")),
    st.builds(
        Condition,
        st.just(Field.DOCUMENT.value),
        EQUALITY,
        DOCUMENTS | st.sampled_from(["x", "y", "z"]),
    ),
    st.builds(
        Condition,
        st.just(Field.COLLECTION.value),
        EQUALITY,
        st.sampled_from(["collections/a", "collections/b", "collections/c"]),
    ),
    st.builds(Condition, st.just(Field.VERSION.value), ORDER, st.integers(0, 10)),
    st.builds(Condition, st.just(Field.CREATE_TIME.value), ORDER, _TIME),
    st.builds(
        Condition,
        st.just(Field.LABELS.value),
        st.just(Operator.HAS),
        st.sampled_from(["hr", "eng", "law"]),
    ),
    st.just(Condition(Field.LABELS.value, Operator.PRESENT, "")),
)
_PARTS = st.lists(CONDITIONS, min_size=2, max_size=4)
EXPRESSIONS: st.SearchStrategy[Any] = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, min_size=2, max_size=3)),
        st.builds(AnyOf, st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)
