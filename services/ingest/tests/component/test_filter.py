"""What a filter finds in the database: the same as the same conditions applied one by one."""

from datetime import timedelta

import pytest

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
