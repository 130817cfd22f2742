"""The filter of searches: what it reads, and where and why it refuses the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.base.errors import InvalidInputError
from chassis.base.filters import All, AnyOf, Condition, MetadataCondition, Not, Operator
from query.filters.language import CONDITIONS_MAX, FILTER_MAX_CHARS, parse_filter
from services.query.tests.filters import EXPRESSIONS, write

YEAR = MetadataCondition("year", Operator.AT_LEAST, 2020)
TAG = MetadataCondition("tags", Operator.HAS, "draft")


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("", None),
        (" \n", None),
        ("metadata.year >= 2020", YEAR),
        ("metadata.tags:draft", TAG),
        ("metadata.tags:*", MetadataCondition("tags", Operator.PRESENT, "")),
        ('metadata."due date":*', MetadataCondition("due date", Operator.PRESENT, "")),
        ('metadata.year = "2020"', MetadataCondition("year", Operator.EQUALS, "2020")),
        ("collection = a", Condition("collection", Operator.EQUALS, "collections/a")),
        ("collection=collections/a", Condition("collection", Operator.EQUALS, "collections/a")),
        ("document != pump", Condition("document", Operator.DIFFERS, "pump")),
        (
            'document = "collections/a/documents/b"',
            Condition("document", Operator.EQUALS, "collections/a/documents/b"),
        ),
        ("version < 3", Condition("version", Operator.BELOW, 3)),
        ("labels:hr", Condition("labels", Operator.HAS, "hr")),
        ("-labels:*", Not(Condition("labels", Operator.PRESENT, ""))),
        ("title:*", Condition("title", Operator.PRESENT, "")),
        ('title = "Pump manual"', Condition("title", Operator.EQUALS, "Pump manual")),
        (
            "metadata.year >= 2020 AND (metadata.tags:draft OR labels:hr)",
            All([YEAR, AnyOf([TAG, Condition("labels", Operator.HAS, "hr")])]),
        ),
    ],
)
def test_a_filter_is_read(text, expression):
    assert parse_filter(text) == expression


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        (
            "colour = red",
            1,
            "expected a field: collection, document, version, labels, title, c",
        ),
        ("update_time > 2024-01-01T00:00:00Z", 1, "expected a field"),
        ("create_time > 2024-01-01", 15, "a time such as 2026-01-31T12:00:00Z"),
        ("create_time > 2024-13-01T00:00:00Z", 15, "a time such as"),
        ("create_time:*", 12, "create_time can be compared by"),
        ("pump", 1, "expected a field"),
        ("metadata.year", 14, "metadata can be compared by"),
        ("metadata.a.b = 1", 10, "expected a key of 1 to 64"),
        ('metadata.name < "m"', 15, "a text can be compared by = != :"),
        ("metadata.done > true", 15, "true or false can be compared by"),
        ("metadata.due:2024-01-01T00:00:00Z AND", 38, "expected a field"),
        ("metadata.size = 9007199254740993", 17, "not exact"),
        ("metadata.a = b*", 14, "no wildcards; `field:*` asks"),
        ("metadata.a:b AND labels:x OR title:*", 27, "separate parentheses"),
        ("title:pump", 6, "title can be compared by = != :*"),
        ("labels = hr", 8, "labels can be compared by : :*"),
        ("labels:HR", 8, "expected a label: 'HR': use 1 to 63"),
        ("collection = a/b", 14, "the id or the name of a collection"),
        ('document = ""', 12, "the id or the name of a document"),
        ("document = documents/b", 12, "the id or the name of a document"),
        ("document < b", 10, "document can be compared by = !="),
        ("version = 1.5", 11, "a whole number"),
        (f"version = {2**63}", 11, "a whole number"),
        ("version:*", 8, "version can be compared by"),
        ("x" * (FILTER_MAX_CHARS + 1), FILTER_MAX_CHARS + 1, "at most 4000 characters"),
    ],
)
def test_what_it_cannot_express_is_refused_with_its_position(text, position, said):
    with pytest.raises(InvalidInputError) as refused:
        parse_filter(text)
    error = refused.value
    assert error.reason == "FILTER_INVALID"
    [violation] = error.fields
    assert (violation.field, error.facts["position"]) == ("filter", str(position))
    assert said in violation.description


def test_a_filter_has_a_bounded_number_of_conditions():
    expression = parse_filter(" OR ".join(["version=1"] * CONDITIONS_MAX))
    assert isinstance(expression, AnyOf)
    with pytest.raises(InvalidInputError):
        parse_filter(" OR ".join(["version=1"] * (CONDITIONS_MAX + 1)))


@given(EXPRESSIONS)
def test_what_is_written_is_read_as_the_same(expression):
    text = write(expression)
    try:
        read = parse_filter(text)
    except InvalidInputError as refusal:
        assert "at most 8 parentheses" in refusal.fields[0].description  # noqa: PT017
        return
    assert read == expression
    assert parse_filter(write(read)) == read


WORDS = st.sampled_from(
    [
        *"()-:*<>=!\"\\.,'\x00 ",
        *("AND", "OR", "NOT", "metadata.", "year", "title", "labels", "document", "version"),
        *("<=", ">=", "!=", ":*", "true", "null", "2020", "1e999", "-1", "2024-05-01T00:00:00Z"),
    ]
)


@given(st.text() | st.lists(WORDS, max_size=30).map("".join) | st.lists(WORDS).map(" ".join))
def test_any_text_is_read_or_refused(text):
    try:
        expression = parse_filter(text)
    except InvalidInputError as refusal:
        assert refusal.reason == "FILTER_INVALID"  # noqa: PT017
        return
    if expression is not None:
        assert parse_filter(write(expression)) == expression
