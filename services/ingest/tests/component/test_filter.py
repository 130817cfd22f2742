"""What a filter finds in the database: the same as the same conditions applied one by one."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from chassis.base.errors import InvalidInputError
from chassis.base.filter_values import read_time
from chassis.base.filters import MetadataCondition, Operator
from ingest.domain import State
from ingest.filter_parser import parse_filter
from ingest.usecases.rows import PageQuery
from services.ingest.tests.conftest import NAME, TENANT, Rig

FOLDER = "collections/reports/documents/"


async def find(rig: Rig, text: str, *, state: State | None = None, tenant: str = TENANT) -> str:
    """The last parts of the names that a filter finds."""
    query = PageQuery(collection="", state=state, where=parse_filter(text), after="", limit=100)
    views = await rig.wired.rpc.list_page.run(tenant, query)
    return " ".join(view.entry.name.rpartition("/")[2] for view in views)


@pytest.fixture
async def filled(rig: Rig) -> Rig:
    """An indexed, a failed, an accepted and a deleted document."""
    a, b, c, d = (f"{FOLDER}{letter}" for letter in "abcd")
    await rig.upload(b"Water finds its way.", name=a, title="Water 100%", file_name="w.TXT")
    await rig.prepare(name=a)
    await rig.searchable(name=a)
    await rig.upload(b"# From the text\n\nMore.", name=b, file_name="notes_1.md")
    await rig.prepare(name=b)
    await rig.reject(name=b)
    await rig.upload(b"x" * 100, name=c, title="rain and WATER")
    await rig.index_version(name=d)
    await rig.delete(d)
    return rig


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "a b c d"),
        ("state = INDEXED", "a"),
        ("state != INDEXED", "b c d"),
        ("state = FAILED OR state = ACCEPTED", "b c"),
        ("reason = TOO_BAD", "b"),
        ('reason != ""', "b"),
        ("title:water", "a c"),
        ('title:"100%"', "a"),
        ('title = "Water 100%"', "a"),
        ('title = "water 100%"', ""),
        ('title:"from the"', "b"),
        ('title = ""', "d"),
        ("media_type = text/markdown", "b"),
        ('media_type = ""', "c"),
        ("media_type:TEXT/", "a b d"),
        ("file_name:.txt", "a"),
        # `_` and `%` are letters like others.
        ("file_name:notes_1", "b"),
        ("file_name:notes%", ""),
        ("size_bytes = 100", "c"),
        ("size_bytes < 100 AND NOT state = FAILED", "a d"),
        ("size_bytes >= 20 AND size_bytes <= 20", "a d"),
        ("(state = FAILED OR title:water) AND size_bytes > 20", "b c"),
        ("NOT (state = FAILED OR title:water)", "d"),
        ("create_time > 2020-01-01T00:00:00Z", "a b c d"),
        ("update_time < 2020-01-01T00:00:00Z", ""),
        ("""title = "x' OR '1'='1\"""", ""),
        ('title = "%(tenant)s"', ""),
    ],
)
async def test_a_filter_finds_what_it_says(filled: Rig, text: str, found: str):
    assert await find(filled, text) == found


async def test_notes_are_found_by_their_code(filled: Rig):
    stored = [["PII_MASKING", "version 1: 1 EMAIL"], ["NEAR_DUPLICATES", "version 1: text"]]
    filled.rows.execute(
        "UPDATE versions SET notes = %s WHERE document = %s", [json.dumps(stored), f"{FOLDER}b"]
    )
    assert await find(filled, "notes:NEAR_DUPLICATES") == "b"
    assert await find(filled, "notes:PII_MASKING AND state = FAILED") == "b"
    assert await find(filled, "NOT notes:NEAR_DUPLICATES") == "a c d"
    assert await find(filled, "notes:REPEATED_LINES") == ""


async def test_times_are_compared_exactly(filled: Rig):
    time = filled.version(name=f"{FOLDER}a")["updated_at"]
    stamp = time.isoformat()
    assert await find(filled, f"update_time = {stamp}") == "a"
    assert "a" not in await find(filled, f"update_time > {stamp}")
    before = (time - timedelta(microseconds=1)).isoformat()
    assert "a" in await find(filled, f"update_time > {before}")


async def test_deleted_documents_are_shown_to_who_names_them(filled: Rig):
    await filled.report_purged(name=f"{FOLDER}d")
    assert await find(filled, "") == "a b c"
    assert await find(filled, "state != FAILED") == "a c"
    assert await find(filled, "state = DELETED") == "d"
    assert await find(filled, "state = DELETED OR state = FAILED") == "b d"
    assert await find(filled, "state != FAILED", state=State.DELETED) == "d"


async def test_a_state_and_a_filter_hold_both(filled: Rig):
    assert await find(filled, "title:water", state=State.ACCEPTED) == "c"
    assert await find(filled, "state = FAILED", state=State.ACCEPTED) == ""


async def test_a_filter_finds_nothing_of_another_tenant(filled: Rig):
    await filled.upload(name=NAME, tenant="globex")
    assert await find(filled, "size_bytes > 0", tenant="globex") == "q3"
    assert "q3" not in await find(filled, "state = ACCEPTED OR NOT state = ACCEPTED")


async def test_a_filter_is_about_the_newest_version(rig: Rig):
    await rig.index_version()
    await rig.upload(b"Another text.")
    assert await find(rig, "state = INDEXED") == ""
    assert await find(rig, "state = ACCEPTED") == "q3"


TIME = "2024-05-01T00:00:00Z"
SAME_TIME = "2024-05-01T02:00:00.000+02:00"
VALUES: Sequence[Any] = (
    *(
        "a",
        "A b",
        "ab",
        "",
        "2020",
        "true",
        "null",
        "Ärger",
        "a'b",
        'q"q',
        "back\\slash",
        "%s",
        "*",
    ),
    *(2020, 2020.5, -1, 0, 0.1, 2**53, 1e300, 1e-300, True, False),
    *([], ["a"], ["a", 2020, True], [TIME], [2020.5], ["A b", "2020"]),
    *(TIME, SAME_TIME, "2024-04-30T23:59:59.999999Z", "0001-01-01T00:00:00Z"),
    *("2024-02-31T00:00:00Z", "2024-05-01", "2024-05-01T00:00:00", "0000-01-01T00:00:00Z"),
    *("2024-05-01T24:00:00Z", "2024-05-01T00:00:60Z", "2024-05-01T00:00:00+16:00"),
)
LITERALS = (
    *(
        "a",
        '"a"',
        "ab",
        '"A B"',
        '""',
        '"2020"',
        "2020",
        "2020.0",
        "2020.5",
        "2.0205e3",
        "-1",
        "-0",
    ),
    *("0.1", "9007199254740992", "1e300", "1e-300", "true", "false", '"true"', '"null"', "Ärger"),
    *(TIME, f'"{TIME}"', SAME_TIME, "2024-04-30T23:59:59.999999Z", '"2024-02-31T00:00:00Z"'),
    *("007", '"a\'b"', '"q\\"q"', '"back\\\\slash"', '"%s"', '"\' OR true --"', "2024-05-01"),
)
COMPARED = {
    Operator.EQUALS: lambda one, other: one == other,
    Operator.BELOW: lambda one, other: one < other,
    Operator.AT_MOST: lambda one, other: one <= other,
    Operator.ABOVE: lambda one, other: one > other,
    Operator.AT_LEAST: lambda one, other: one >= other,
}


def is_equal(one: Any, other: Any) -> bool:
    """Whether two values are of one kind and equal: `True` is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def holds(condition: MetadataCondition, metadata: dict[str, Any]) -> bool:
    """The meaning of a condition."""
    if condition.operator is Operator.DIFFERS:
        same = MetadataCondition(condition.key, Operator.EQUALS, condition.value)
        return not holds(same, metadata)
    if condition.key not in metadata:
        return False
    found, wanted = metadata[condition.key], condition.value
    if condition.operator is Operator.HAS:
        if isinstance(found, list):
            return any(is_equal(one, wanted) for one in found)
        if isinstance(found, str) and isinstance(wanted, str):
            return fold(wanted) in fold(found)
        return is_equal(found, wanted)
    if isinstance(wanted, datetime):
        found = read_time(found) if isinstance(found, str) else None
        return found is not None and COMPARED[condition.operator](found, wanted)
    if isinstance(wanted, bool) or isinstance(found, bool) or isinstance(wanted, str):
        return condition.operator is Operator.EQUALS and is_equal(found, wanted)
    return isinstance(found, int | float) and COMPARED[condition.operator](found, wanted)


def fold(text: str) -> str:
    """With small letters for A to Z."""
    return "".join(sign.lower() if sign.isascii() else sign for sign in text)


async def test_metadata_is_compared_as_it_is_meant(rig: Rig):
    stored = {f"{FOLDER}d{place}": {"k": value} for place, value in enumerate(VALUES)}
    stored[f"{FOLDER}none"] = {}
    for name, metadata in stored.items():
        await rig.upload(name.encode(), name=name, metadata=metadata)
    compared = 0
    for literal in LITERALS:
        for operator in Operator:
            text = f"metadata.k {operator} {literal}"
            try:
                condition = parse_filter(text)
            except InvalidInputError:
                continue
            assert isinstance(condition, MetadataCondition)
            expected = {name for name, one in stored.items() if holds(condition, one)}
            query = PageQuery(collection="", state=None, where=condition, after="", limit=100)
            views = await rig.wired.rpc.list_page.run(TENANT, query)
            assert {view.entry.name for view in views} == expected, text
            compared += 1
    assert compared > 4 * len(LITERALS)


KEYS = (
    "due date",
    "a.b",
    'q"q',
    "back\\slash",
    "%(tenant)s",
    "'; DROP TABLE documents; --",
    "Ä",
    "-",
)


@pytest.mark.parametrize("key", KEYS)
async def test_any_key_can_be_named(rig: Rig, key: str):
    await rig.upload(name=f"{FOLDER}a", metadata={key: 1, "k": 2})
    await rig.upload(name=f"{FOLDER}b", metadata={"k": 1})
    named = f"metadata.{json.dumps(key, ensure_ascii=False)}"
    assert await find(rig, f"{named} = 1") == "a"
    assert await find(rig, f"{named} != 1 AND metadata.k <= 2") == "b"
    assert await find(rig, f"NOT ({named}:1 OR state = FAILED)") == "b"
