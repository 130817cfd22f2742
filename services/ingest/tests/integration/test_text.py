"""The text of a document is read back exactly, and offsets of chunks point into it."""

import uuid
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aquifer.ingest.v1.document_events_pb2 import Chunk, ChunksPrepared
from chassis.base.errors import UnavailableError
from ingest.domain import Verdict
from ingest.parsing.text.clean import clean
from ingest.usecases.documents.read_text import PART_MAX_CHARS, TextQuery
from services.ingest.tests.conftest import NAME, Rig, messages
from testkit.pdf import lines, pdf

from .doors import Client, Text, refusal

CODE = "if wet:\n\n\n    # why\n    flow( )\n\n\tend" * 40
PROSE = (
    "Water finds its way.  It always does!\n\n   Indented \t words. \U0001f4a7 e\u0301 \u6f22\n"
    * 30
)
ONE_LINE = "drop" + " " * 3_000 + "drop"


async def index(client: Client, content: bytes, *, name: str = NAME, **header: str) -> list[Chunk]:
    """A document all the way; its chunks, as they are sent to be embedded."""
    await client.rig.upload(content, name=name, **header)
    version = (await client.get(name)).version
    sent: Sequence[ChunksPrepared] = messages(await client.rig.prepare(version, name=name))
    await client.rig.searchable(version, name=name)
    return [chunk for event in sent for chunk in event.chunks]


def check_offsets(text: str, chunks: Sequence[Chunk]) -> None:
    assert chunks
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text


@pytest.mark.parametrize("text", [CODE, PROSE, ONE_LINE], ids=["code", "prose", "one line"])
async def test_the_text_is_whole_and_chunks_point_into_it(client: Client, text: str):
    chunks = await index(client, text.encode(), title="Water")
    [part] = await client.read_all()
    assert part.text == clean(text)
    check_offsets(part.text, chunks)
    assert part == Text(
        name=NAME,
        version=1,
        text=part.text,
        end=len(part.text),
        length=len(part.text),
        title="Water",
        media_type="text/plain",
    )


WORDS = st.sampled_from(
    ["flow", "e\u0301", "\U0001f4a7", "\u6f22\u5b57", ".", " ", "  ", "\n", "\n\n", "\t"]
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(WORDS, max_size=400).map("".join), st.randoms(use_true_random=False))
async def test_every_range_is_the_slice_of_the_whole(client: Client, words: str, choose: Random):
    text = f"begin {words} end"
    name = f"{NAME}-{uuid.uuid4().hex}"
    chunks = await index(client, text.encode(), name=name)
    whole = clean(text)
    check_offsets(whole, chunks)
    for _ in range(5):
        start, end = sorted(choose.sample(range(len(whole) + 1), 2))
        if end:
            part = await client.text(name, start=start, end=end)
            assert (part.text, part.start, part.end) == (whole[start:end], start, end)


async def test_a_long_text_comes_in_parts(client: Client):
    text = PROSE * 350
    chunks = await index(client, text.encode())
    parts = await client.read_all()
    assert [len(part.text) for part in parts[:-1]] == [PART_MAX_CHARS] * (len(parts) - 1)
    assert len(parts) > 2
    whole = "".join(part.text for part in parts)
    assert whole == clean(text)
    assert {part.length for part in parts} == {len(whole)}
    check_offsets(whole, chunks)
    [first, second] = await client.read_all(start=7, end=PART_MAX_CHARS + 8)
    assert first.text + second.text == whole[7 : PART_MAX_CHARS + 8]


PAGES = [
    [b"First page."] * 30,
    [b"Second page goes on over the end,", b"as this sentence"],
    [],
    [b"does until here."] * 30,
    [b"Fifth."],
    [],
]
FILE = pdf(*(lines(*page) for page in PAGES))


async def test_pages_are_read_one_by_one(client: Client):
    chunks = await index(client, FILE, file_name="a.pdf")
    [whole] = await client.read_all()
    check_offsets(whole.text, chunks)
    found = {}
    for number in (1, 2, 4, 5):
        [part] = await client.read_all(first_page=number)
        assert (part.page, list(part.page_breaks)) == (number, [])
        assert part.text.split() == b" ".join(PAGES[number - 1]).decode().split()
        found[number] = part
    assert "".join(part.text for part in found.values()) == whole.text
    assert [(one.start, one.page) for one in whole.page_breaks] == [
        (found[number].start, number) for number in (2, 4, 5)
    ]
    [some] = await client.read_all(first_page=2, last_page=4)
    assert some.text == found[2].text + found[4].text
    assert (some.page, [one.page for one in some.page_breaks]) == (2, [4])
    [rest] = await client.read_all(first_page=4, last_page=9)
    assert rest.text == found[4].text + found[5].text
    # A range knows its page, also where it begins in the white space behind one.
    for start in range(whole.length):
        page = max(number for number, part in found.items() if part.start <= start)
        assert (await client.text(start=start, end=start + 1)).page == page


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"start": -1}, "TEXT_RANGE"),
        ({"end": -1}, "TEXT_RANGE"),
        ({"start": 5, "end": 5}, "TEXT_RANGE"),
        ({"start": 5, "end": 4}, "TEXT_RANGE"),
        ({"start": 10_000}, "TEXT_RANGE"),
        ({"end": 10_000}, "TEXT_RANGE"),
        ({"first_page": 5, "start": 3}, "TEXT_RANGE"),
        ({"first_page": 1, "end": 1_000}, "TEXT_RANGE"),
        ({"first_page": 3}, "PAGE_RANGE"),
        ({"first_page": 6, "last_page": 9}, "PAGE_RANGE"),
        ({"first_page": 2, "last_page": 1}, "PAGE_RANGE"),
        ({"last_page": 1}, "PAGE_RANGE"),
        ({"first_page": -1}, "PAGE_RANGE"),
    ],
)
async def test_what_is_not_there_is_refused_with_what_is(client: Client, part, reason):
    await index(client, FILE, file_name="a.pdf")
    code, said, details = await refusal(client.text(**part))
    assert (code, said) == ("INVALID_ARGUMENT", reason)
    [violation] = details["BadRequest"].field_violations
    assert ("5" if reason == "PAGE_RANGE" else "characters") in violation.description


async def test_a_text_without_pages_has_none(client: Client):
    await index(client, PROSE.encode())
    assert (await refusal(client.text(first_page=1)))[:2] == ("INVALID_ARGUMENT", "PAGE_RANGE")
    assert (await refusal(client.text("q3")))[:2] == ("INVALID_ARGUMENT", "DOCUMENT_NAME")


async def test_the_live_version_is_read_while_the_next_is_on_its_way(client: Client):
    await client.rig.upload(b"One.")
    code, reason, _ = await refusal(client.text())
    assert (code, reason) == ("FAILED_PRECONDITION", "TEXT_PENDING")
    await client.rig.prepare()
    assert (await client.text()).text == "One."  # nothing is live yet: the newest
    await client.rig.searchable()
    await client.rig.upload(b"Two.")
    assert (await refusal(client.text(version=2)))[1] == "TEXT_PENDING"
    await client.rig.prepare(2)
    assert [(part.version, part.text) for part in await client.read_all()] == [(1, "One.")]
    assert (await client.text(version=2)).text == "Two."
    await client.rig.searchable(2)
    assert (await client.text()).text == "Two."
    code, reason, _ = await refusal(client.text(version=1))
    assert (code, reason) == ("FAILED_PRECONDITION", "TEXT_MISSING")
    for version in (-1, 3):
        code, reason, _ = await refusal(client.text(version=version))
        assert (code, reason) == ("NOT_FOUND", "VERSION_UNKNOWN")


async def test_a_failed_version_has_the_text_that_was_stored(client: Client):
    await client.rig.upload(b"   ")
    await client.rig.prepare()
    assert (await refusal(client.text()))[:2] == ("FAILED_PRECONDITION", "TEXT_MISSING")
    await client.rig.upload(b"Read, and not embedded.")
    await client.rig.prepare(2)
    async with client.rig.begin("acme") as work:
        verdict = Verdict(reason="BATCH_REJECTED", detail="")
        await work.documents.fail(await client.rig.known(2), verdict)
    assert (await client.text()).text == "Read, and not embedded."


@pytest.mark.parametrize("hide_is", ["acknowledged", "pending"])
async def test_a_deleted_document_has_no_text(client: Client, hide_is: str):
    await index(client, b"Nobody may read this again.")
    client.rig.siblings.query_is_away = hide_is == "pending"
    if hide_is == "pending":
        with pytest.raises(UnavailableError):
            await client.rig.delete()
    else:
        await client.rig.delete()
    code, reason, _ = await refusal(client.text())
    assert (code, reason) == ("FAILED_PRECONDITION", "TEXT_MISSING")
    await client.rig.upload(b"Again, with other words.")
    await client.rig.prepare(2)
    assert (await client.text()).text == "Again, with other words."
    assert (await refusal(client.text(version=1)))[1] == "TEXT_MISSING"
    await client.rig.report_purged()
    assert (await refusal(client.text(version=1)))[1] == "TEXT_MISSING"


async def test_only_its_tenant_reads_a_text(client: Client):
    await index(client, b"For acme only.")
    foreign = await refusal(client.text(who={"tenant": "globex"}))
    unknown = await refusal(client.text(f"{NAME}-none", who={"tenant": "globex"}))
    assert foreign == unknown
    assert foreign[:2] == ("NOT_FOUND", "DOCUMENT_UNKNOWN")
    for scope in ("documents.write", "search"):
        answer = await refusal(client.text(who={"scope": scope}))
        assert answer[:2] == ("PERMISSION_DENIED", "SCOPE_MISSING")


async def test_offsets_are_right_where_the_gaps_were_not_kept(client: Client):
    """As chunks are that were stored before gaps were."""
    chunks = await index(client, PROSE.encode())
    client.rig.rows.execute("UPDATE chunks SET gap = ''")
    [part] = await client.read_all()
    check_offsets(part.text, chunks)
    assert part.text.split() == clean(PROSE).split()
    assert part.length == len(clean(PROSE))


async def test_small_text_that_was_cut_at_once_is_read_back(quick: Rig):
    await quick.upload(PROSE.encode())
    part = await quick.wired.rpc.get_text.run("acme", NAME, TextQuery())
    assert part.text == clean(PROSE)
