"""The filter language: what it reads, and where and why it refuses the rest."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from chassis.base.errors import InvalidInputError
from chassis.base.filter_parser import DEPTH_MAX
from chassis.base.filters import All, AnyOf, Condition, MetadataCondition, Not, Operator
from ingest.domain import State
from ingest.filter_parser import CONDITIONS_MAX, FILTER_MAX_CHARS, parse_filter
from ingest.filters import Field, names_deleted

FAILED = Condition(Field.STATE, Operator.EQUALS, State.FAILED)
LARGE = Condition(Field.SIZE_BYTES, Operator.ABOVE, 10)
WATER = Condition(Field.TITLE, Operator.HAS, "water")
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("", None),
        (" \t\n", None),
        ("state = FAILED", FAILED),
        ("state=FAILED", FAILED),
        ('  state  =  "FAILED"  ', FAILED),
        ("(state = FAILED)", FAILED),
        ("NOT state = FAILED", Not(FAILED)),
        ("-state = FAILED", Not(FAILED)),
        ("NOT NOT state = FAILED", Not(Not(FAILED))),
        ("state = FAILED AND size_bytes > 10", All([FAILED, LARGE])),
        ("state = FAILED OR size_bytes>10 OR title:water", AnyOf([FAILED, LARGE, WATER])),
        (
            "state = FAILED AND (size_bytes > 10 OR title:water)",
            All([FAILED, AnyOf([LARGE, WATER])]),
        ),
        ("NOT (state = FAILED OR title:water)", Not(AnyOf([FAILED, WATER]))),
        ('title:"water"', WATER),
        ('title = "a \\"b\\" \\\\ c"', Condition(Field.TITLE, Operator.EQUALS, 'a "b" \\ c')),
        ('title = ""', Condition(Field.TITLE, Operator.EQUALS, "")),
        ('title = "AND (x"', Condition(Field.TITLE, Operator.EQUALS, "AND (x")),
        ("title:Übung", Condition(Field.TITLE, Operator.HAS, "Übung")),
        ('reason != ""', Condition(Field.REASON, Operator.DIFFERS, "")),
        ("media_type = text/html", Condition(Field.MEDIA_TYPE, Operator.EQUALS, "text/html")),
        ("file_name : .pdf", Condition(Field.FILE_NAME, Operator.HAS, ".pdf")),
        ("size_bytes <= -1", Condition(Field.SIZE_BYTES, Operator.AT_MOST, -1)),
        (
            f"size_bytes >= {(1 << 63) - 1}",
            Condition(Field.SIZE_BYTES, Operator.AT_LEAST, (1 << 63) - 1),
        ),
        (
            "create_time < 2026-01-01T00:00:00Z",
            Condition(Field.CREATE_TIME, Operator.BELOW, NEW_YEAR),
        ),
        (
            'update_time >= "2026-01-01T02:30:00.123456+02:30"',
            Condition(
                Field.UPDATE_TIME,
                Operator.AT_LEAST,
                datetime(
                    2026, 1, 1, 2, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2, minutes=30))
                ),
            ),
        ),
    ],
)
def test_a_filter_is_read(text, expression):
    assert parse_filter(text) == expression


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("state", 6, "compared by = !="),
        ("state =", 8, "one of ACCEPTED"),
        ("state = failed", 9, "one of ACCEPTED"),
        ("state = SOMETHING", 9, "one of ACCEPTED"),
        ("state : FAILED", 7, "compared by = !="),
        ("state < FAILED", 7, "compared by = !="),
        ("state == FAILED", 8, "one of ACCEPTED"),
        ("reason:TEXT", 7, "compared by = !="),
        ("notes = PII_MASKING", 7, "compared by :"),
        ("notes:pii_masking", 7, "ENCODING_DETECTED"),
        ("title > a", 7, "compared by = != :"),
        ('title = "open', 9, "double quotes"),
        ('title = "a\\nb"', 9, "inside of quotes"),
        ('title = "a"b"', 12, "expected AND, OR"),
        ('title = "*.pdf"', 9, "no wildcards"),
        ("title:*", 7, "no wildcards"),
        ('title = "\x00"', 9, "double quotes"),
        ("size_bytes = 1.5", 14, "whole number"),
        ("size_bytes > 1e3", 14, "whole number"),
        (f"size_bytes = {1 << 63}", 14, "whole number"),
        (f"size_bytes = {'9' * 500}", 14, "whole number"),
        ("size_bytes:1", 11, "compared by"),
        ("create_time > 2026-01-01", 15, "a time such as"),
        ("create_time > 2026-02-30T00:00:00Z", 15, "a time such as"),
        ("create_time > 2026-01-01T00:00:00", 15, "a time such as"),
        ("create_time > 2026-01-01T00:00:00.1234567Z", 15, "a time such as"),
        ("create_time > now", 15, "a time such as"),
        ("colour = red", 1, "expected a field: state, reason"),
        ("State = FAILED", 1, "expected a field"),
        ("water", 1, "expected a field"),
        ('"water"', 1, "expected a field"),
        ("AND state = FAILED", 1, "expected a field"),
        ("state = FAILED AND", 19, "expected a field"),
        ("state = FAILED and title:a", 16, "expected AND, OR"),
        ("state = FAILED title:a", 16, "expected AND, OR"),
        ("state = FAILED AND title:a OR title:b", 28, "separate parentheses"),
        ("title:a OR title:b AND state = FAILED", 20, "separate parentheses"),
        ("(state = FAILED", 16, "closing parenthesis"),
        ("state = FAILED)", 15, "the end of the filter"),
        ("()", 2, "expected a field"),
        ("NOT", 4, "expected a field"),
        ("state = FAILED; DROP TABLE documents", 9, "one of ACCEPTED"),
        (f"{'(' * (DEPTH_MAX + 1)}state = FAILED", DEPTH_MAX + 2, f"at most {DEPTH_MAX} paren"),
        ("NOT " * 200 + "state = FAILED", 4 * (DEPTH_MAX + 1) + 1, f"at most {DEPTH_MAX} paren"),
        ("x" * (FILTER_MAX_CHARS + 1), FILTER_MAX_CHARS + 1, "at most 1000 characters"),
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
    assert f"character {position}" in str(error)


def test_a_filter_has_a_bounded_number_of_conditions():
    def text(count: int) -> str:
        return " OR ".join(["size_bytes=1"] * count)

    expression = parse_filter(text(CONDITIONS_MAX))
    assert isinstance(expression, AnyOf)
    assert len(expression.parts) == CONDITIONS_MAX
    with pytest.raises(InvalidInputError, match="not valid"):
        parse_filter(text(CONDITIONS_MAX + 1))


def test_parentheses_up_to_the_limit_are_read():
    assert parse_filter("(" * DEPTH_MAX + "state = FAILED" + ")" * DEPTH_MAX) == FAILED


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("state = DELETED", True),
        ("NOT (title:a OR (size_bytes = 1 AND state != DELETED))", True),
        ("state = FAILED", False),
        ('title = "DELETED" OR reason = DELETED', False),
    ],
)
def test_a_filter_says_whether_it_names_deleted_documents(text, named):
    expression = parse_filter(text)
    assert expression is not None
    assert names_deleted(expression) is named


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("metadata.k = a", MetadataCondition("k", Operator.EQUALS, "a")),
        ('metadata."a.b" : "x y"', MetadataCondition("a.b", Operator.HAS, "x y")),
        ("metadata.due-date!=true", MetadataCondition("due-date", Operator.DIFFERS, value=True)),
        ("metadata.2020>=2.5e1", MetadataCondition("2020", Operator.AT_LEAST, 25)),
        ('metadata.k="25"', MetadataCondition("k", Operator.EQUALS, "25")),
        (
            'metadata.k < "2026-01-01T00:00:00Z"',
            MetadataCondition("k", Operator.BELOW, NEW_YEAR),
        ),
        ("metadata.k:2026-01-01", MetadataCondition("k", Operator.HAS, "2026-01-01")),
    ],
)
def test_metadata_is_read(text: str, condition: MetadataCondition):
    found = parse_filter(text)
    assert found == condition
    assert isinstance(found, MetadataCondition)
    assert type(found.value) is type(condition.value)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("metadata = 1", 1),
        ("metadata. = 1", 10),
        ("metadata.a.b = 1", 10),
        ('metadata."" = 1', 10),
        (f'metadata."{"k" * 65}" = 1', 10),
        ("metadata.k", 11),
        ("metadata.k =", 13),
        ("metadata.k = null", 14),
        ("metadata.k = 9007199254740993", 14),
        ("metadata.k = 1e999", 14),
        ("metadata.k = a*", 14),
        ("metadata.k:*", 12),
        ("metadata.k < a", 12),
        ("metadata.k >= true", 12),
        ('metadata.k = "a\x00"', 14),
        ("metadata.k IN (1, 2)", 12),
        ("metadata.k = (1)", 14),
        (" OR ".join(["metadata.k = 1"] * (CONDITIONS_MAX + 1)), 577),
    ],
)
def test_what_metadata_cannot_be_compared_by_is_refused_with_its_place(text: str, position: int):
    with pytest.raises(InvalidInputError) as refusal:
        parse_filter(text)
    assert refusal.value.reason == "FILTER_INVALID"
    assert refusal.value.facts["position"] == str(position)
    assert refusal.value.fields[0].description
