"""What filters ask of points is true for exactly the points of what they find."""

from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.base.filters import All, MetadataCondition, Operator
from query.filters.facts import NO_FACTS, SLOTS, Facts, list_facts, order
from query.filters.language import parse_filter
from query.filters.points import (
    UNLABELLED,
    AllPoint,
    AnyPoint,
    Name,
    Named,
    NotPoint,
    Ordered,
    PointCondition,
    Stated,
    Versions,
    ask_points,
)
from services.query.tests.filters import DESCRIBED, EXPRESSIONS, Described, matches

DOCUMENT = "collections/a/documents/x"


def facts_of(**metadata) -> Facts:
    return list_facts(DOCUMENT, "", metadata)


def holds(one: Described, asked: PointCondition) -> bool:
    """Whether a condition is true for the points of a version."""
    facts = list_facts(one.document, one.title, one.metadata, one.created_at)
    match asked:
        case Named(field=Name.LABEL, names=names):
            return not names.isdisjoint(one.labels or (UNLABELLED,))
        case Named(field=field, names=names):
            return getattr(one, field.value) in names
        case Stated(facts=wanted):
            assert len({fact % SLOTS for fact in wanted}) == 1
            return not wanted.isdisjoint(facts.stated)
        case Ordered(ranges=ranges):
            assert 0 < len(ranges) <= 5
            assert all(0 <= low <= high < 2**53 for low, high in ranges)
            return any(low <= number <= high for low, high in ranges for number in facts.ordered)
        case Versions(lowest=lowest, highest=highest):
            return lowest <= one.version <= highest
        case NotPoint(part=part):
            return not holds(one, part)
        case AllPoint(parts=parts):
            return all(holds(one, part) for part in parts)
        case AnyPoint(parts=parts):
            return any(holds(one, part) for part in parts)
    raise AssertionError(asked)


@given(DESCRIBED, EXPRESSIONS)
def test_points_answer_as_the_filter(one, expression):
    assert holds(one, ask_points(expression)) == matches(one, expression)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
SIGNS = st.sampled_from([Operator.BELOW, Operator.AT_MOST, Operator.ABOVE, Operator.AT_LEAST])


@given(NUMBERS, SIGNS, NUMBERS)
@example(0.0, Operator.BELOW, -0.0)
@example(-5e-324, Operator.BELOW, 0)
@example(1.7976931348623157e308, Operator.ABOVE, 1.7976931348623155e308)
def test_numbers_are_compared_exactly(found, sign, value):
    one = Described(document=DOCUMENT, metadata={"n": found})
    expression = MetadataCondition("n", sign, value)
    assert holds(one, ask_points(expression)) == matches(one, expression)


MOMENTS = st.datetimes(timezones=st.timezones() | st.none()).map(
    lambda one: one.replace(tzinfo=None).isoformat() + "Z"
)


@given(MOMENTS, SIGNS | st.just(Operator.EQUALS), MOMENTS)
def test_times_are_compared_exactly(found, sign, value):
    one = Described(document=DOCUMENT, metadata={"t": found})
    expression = MetadataCondition("t", sign, datetime.fromisoformat(value))
    assert holds(one, ask_points(expression)) == matches(one, expression)


@given(NUMBERS, NUMBERS)
def test_the_order_of_numbers_is_kept(one, other):
    assert (order(one) < order(other)) == (one < other)


BOUNDS = st.builds(MetadataCondition, st.just("n"), SIGNS, st.integers(-3, 3))


@given(st.integers(-3, 3), st.lists(BOUNDS, min_size=2, max_size=4))
def test_a_span_is_the_numbers_between_its_ends(found, bounds):
    one = Described(document=DOCUMENT, metadata={"n": found})
    assert holds(one, ask_points(All(bounds))) == matches(one, All(bounds))


def test_a_span_of_time_is_one_comparison():
    expression = parse_filter(
        "metadata.t >= 2024-05-01T00:00:00Z AND metadata.t < 2024-06-01T00:00:00Z"
    )
    assert isinstance(ask_points(expression), Ordered)


def test_a_point_knows_few_numbers():
    facts = facts_of(author="Ada", year=1843, tags=["a", "b"], due="2024-05-01T00:00:00Z")
    assert (len(facts.stated), len(facts.ordered)) == (10, 6)
    assert facts.stated == tuple(sorted(facts.stated))
    assert all(0 <= fact < 2**63 for fact in facts.stated)


@pytest.mark.parametrize("key", ["year", "a key", "", "\x00"])
def test_the_facts_of_a_key_share_a_slot(key):
    own = set(facts_of(**{key: 1}).stated) | set(facts_of(**{key: ["b"]}).stated)
    slots = {fact % SLOTS for fact in own - set(facts_of().stated)}
    assert len(slots) == 1 or key == ""


def test_digests_differ_where_facts_do():
    digests = [
        NO_FACTS.digest,
        *(facts_of(**one).digest for one in ({}, {"a": 1}, {"a": "1"}, {"a": True}, {"b": 1})),
    ]
    assert digests[0] == 0
    assert len(set(digests)) == len(digests)
    assert facts_of(a=1, b=2).digest == facts_of(b=2, a=1).digest
