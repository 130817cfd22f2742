"""What a filter asks of points: an expression that engines answer from a few indexed fields.

It is true for exactly the points whose document the filter is true for, as they describe it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, assert_never

from chassis.base.filters import (
    All,
    AnyOf,
    Condition,
    Expression,
    MetadataCondition,
    Not,
    Operator,
)
from query.domain import VERSION_MAX
from query.filters.facts import (
    CREATE_TIME,
    LIVE_TIME,
    SLOTS,
    SUPERSEDE_TIME,
    Range,
    cover,
    name_values,
    order,
    state_document,
    state_element,
    state_presence,
    state_title,
    state_value,
)
from query.filters.language import Field

# What a store keeps as the label of a point without labels; no label has this form.
UNLABELLED: Final = "*"

CLOCKS_DIFFER: Final = timedelta(minutes=1)

_INFINITY: Final = float("inf")
_ORDER: Final = (Operator.BELOW, Operator.AT_MOST, Operator.ABOVE, Operator.AT_LEAST)


class Name(Enum):
    """A field of a point that holds names: resource names, or the labels."""

    COLLECTION = "collection"
    DOCUMENT = "document"
    LABEL = "labels"


@dataclass(frozen=True, slots=True)
class Named:
    """The point has one of these names in the field."""

    field: Name
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Stated:
    """The point has one of these facts, which are of one slot."""

    facts: frozenset[int]


@dataclass(frozen=True, slots=True)
class Ordered:
    """The point has a number in one of these ranges, both ends included; there is at least one."""

    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Versions:
    """The point is of a version in `lowest`..`highest`."""

    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class NotPoint:
    """The part is not true for the point."""

    part: "PointCondition"


@dataclass(frozen=True, slots=True)
class AllPoint:
    """Every part is true for the point."""

    parts: tuple["PointCondition", ...]


@dataclass(frozen=True, slots=True)
class AnyPoint:
    """A part is true for the point."""

    parts: tuple["PointCondition", ...]


PointCondition = Named | Stated | Ordered | Versions | NotPoint | AllPoint | AnyPoint


def ask_points(expression: Expression) -> PointCondition:
    """What a filter asks of points."""
    match expression:
        case Not(part=part):
            return NotPoint(ask_points(part))
        case All(parts=parts):
            return _join_all(parts)
        case AnyOf(parts=parts):
            return _join([ask_points(part) for part in parts])
        case Condition(operator=Operator.DIFFERS) | MetadataCondition(operator=Operator.DIFFERS):
            return NotPoint(ask_points(replace(expression, operator=Operator.EQUALS)))
        case Condition() | MetadataCondition():
            return _compare(expression)
    assert_never(expression)


def ask_history(as_of: datetime) -> PointCondition:
    """What a search asks of points whose version may have been live at a time.

    Which was live is decided in Postgres; this leaves out nearly all others. Points of superseded
    versions know from when to when they were live, those of a live one when it was accepted, which
    another clock may have told.
    """
    # In numbers, because the time itself may be the last one that there is.
    accepted = order(as_of) + CLOCKS_DIFFER // timedelta(microseconds=1) + 1
    return NotPoint(
        Ordered(
            (
                *cover(CREATE_TIME, accepted, 2**64 - 1),
                *cover(LIVE_TIME, order(as_of) + 1, 2**64 - 1),
                *cover(SUPERSEDE_TIME, 0, order(as_of)),
            )
        )
    )


def _compare(one: Condition | MetadataCondition) -> PointCondition:
    if found := _find_range(one):
        name, between = found
        return Ordered(cover(name, *between))
    return _ask_field(one) if isinstance(one, Condition) else _ask_metadata(one)


def _join_all(parts: Sequence[Expression]) -> PointCondition:
    """All parts are true; comparisons of one name by order, such as a time span, are one."""
    ranges: dict[str, list[Range]] = {}
    joined: list[PointCondition] = []
    for part in parts:
        if isinstance(part, Condition | MetadataCondition) and (found := _find_range(part)):
            name, between = found
            ranges.setdefault(name, []).append(between)
        else:
            joined.append(ask_points(part))
    for name, several in ranges.items():
        lowest, highest = max(low for low, _ in several), min(high for _, high in several)
        # A span that ends before it begins has no range; its two ends are never true together.
        spans = [(lowest, highest)] if lowest <= highest else several
        joined += [Ordered(cover(name, *one)) for one in spans]
    return joined[0] if len(joined) == 1 else AllPoint(tuple(joined))


def _join(parts: Sequence[PointCondition]) -> PointCondition:
    """One of the parts is true; names of one field, and facts of one slot, are one look-up."""
    names: dict[Name, frozenset[str]] = {}
    facts: dict[int, frozenset[int]] = {}
    others: list[PointCondition] = []
    for part in parts:
        match part:
            case Named(field=field, names=more):
                names[field] = names.get(field, frozenset()) | more
            case Stated(facts=more_facts):
                slot = min(more_facts) % SLOTS
                facts[slot] = facts.get(slot, frozenset()) | more_facts
            case _:
                others.append(part)
    joined = [Named(field, every) for field, every in names.items()]
    joined_facts = [Stated(every) for every in facts.values()]
    every_part = (*joined, *joined_facts, *others)
    return every_part[0] if len(every_part) == 1 else AnyPoint(every_part)


def _ask_field(one: Condition) -> PointCondition:
    operator, value = one.operator, one.value
    if isinstance(value, int):
        return Versions(*_bound(operator, value, 0, VERSION_MAX))
    assert isinstance(value, str), "only versions and times are no texts"
    asked: PointCondition
    match Field(one.field):
        case Field.COLLECTION:
            asked = Named(Name.COLLECTION, frozenset({value}))
        case Field.DOCUMENT if "/" in value:
            asked = Named(Name.DOCUMENT, frozenset({value}))
        case Field.DOCUMENT:
            asked = _state(state_document(value))
        case Field.LABELS if operator is Operator.PRESENT:
            asked = NotPoint(Named(Name.LABEL, frozenset({UNLABELLED})))
        case Field.LABELS:
            asked = Named(Name.LABEL, frozenset({value}))
        case Field.TITLE if value or operator is Operator.PRESENT:
            asked = _state(state_title(value))
        case Field.TITLE:
            asked = NotPoint(_state(state_title()))
        case Field.VERSION | Field.CREATE_TIME:
            raise AssertionError(value)
    return asked


def _ask_metadata(one: MetadataCondition) -> PointCondition:
    key, operator, value = one.key, one.operator, one.value
    if operator is Operator.PRESENT:
        return _state(state_presence(key))
    assert not isinstance(value, datetime), "times are compared by order alone"
    stated = state_value(key, value)
    return _state(stated, state_element(key, value)) if operator is Operator.HAS else _state(stated)


def _find_range(one: Condition | MetadataCondition) -> tuple[str, Range] | None:
    """The name and the range, as of `order`, of the values that a comparison finds.

    None if it is no comparison by order; that of times always is.
    """
    key = one.key if isinstance(one, MetadataCondition) else None
    if isinstance(one.value, datetime) and one.operator is not Operator.DIFFERS:
        name = CREATE_TIME if key is None else name_values(key, datetime)
        return name, _bound(one.operator, order(one.value), 0, 2**64 - 1)
    if key is None or one.operator not in _ORDER or isinstance(one.value, str | datetime):
        return None
    least, most = order(-_INFINITY), order(_INFINITY)
    return name_values(key, float), _bound(one.operator, order(one.value), least, most)


def _state(*facts: int) -> Stated:
    return Stated(frozenset(facts))


def _bound(operator: Operator, value: int, least: int, most: int) -> Range:
    """The lowest and the highest value for which a comparison is true."""
    match operator:
        case Operator.BELOW:
            return least, value - 1
        case Operator.AT_MOST:
            return least, value
        case Operator.ABOVE:
            return value + 1, most
        case Operator.AT_LEAST:
            return value, most
    return value, value
