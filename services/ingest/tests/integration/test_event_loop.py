"""No document holds the event loop, whatever it is made of."""

import asyncio
import gc
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from ingest.chunking import ChunkSettings
from ingest.collections import CollectionSettings
from ingest.cutting import SMALL_TEXT_BYTES, ParseAndCut, prepare_small_text
from ingest.domain import Object, Origin, State, Version
from ingest.parsing.parser import Parser, ParserLimits

MIB = 1024 * 1024
SIZE = 3 * MIB
GAP_S = 0.05
NOW = datetime(2026, 1, 1, tzinfo=UTC)

TEXTS = {
    "plain words": b"The quick brown fox jumps. ",
    "form feeds": b"One line of text.\f",
    "short paragraphs": b"a\f",
    "short lines": b"ab\n",
    "line separators": "line\u2028".encode(),
    "combining marks": ("a" + "\u0301" * 40).encode(),
    "conjoining letters": "\u1100\u1161\u11a8 ".encode(),
    "abbreviations": b"Dr. A. ",
    "closing quotes": b'."',
}


def fill(pattern, size):
    return pattern * (size // len(pattern))


LARGE = {
    "form feeds": ("text/plain", fill(TEXTS["form feeds"], SIZE)),
    "line separators": ("text/plain", fill(TEXTS["line separators"], SIZE)),
    "combining marks": ("text/plain", fill(TEXTS["combining marks"], SIZE)),
    "one accent late": ("text/plain", fill(b"word ", SIZE) + "e\u0301".encode()),
    "Shift-JIS": ("text/plain", fill("東京は日本の首都です。\n".encode("cp932"), SIZE)),
    "HTML entities": ("text/html", b"<html><p>" + fill(b"&eacute;&amp; ", SIZE)),
    "HTML in one line": ("text/html", b"<html><p>" + fill(b"word ", SIZE)),
    "Markdown": ("text/markdown", fill(b"A line of text.\n\n", MIB // 4)),
}


def version(media_type):
    return Version(
        tenant="acme",
        document="collections/c/documents/d",
        number=1,
        state=State.ACCEPTED,
        given_title="",
        file_name="",
        media_type_hint=media_type,
        metadata={},
        stored=Object(key="k", size_bytes=1, sha256="0" * 64),
        origin=Origin(),
        trace_id="",
        step_due_at=None,
        accepted_at=NOW,
        updated_at=NOW,
    )


@pytest.fixture(autouse=True)
def own_objects_only():
    """The collector does not look at what the test process holds beside: that takes long."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@asynccontextmanager
async def longest_gap():
    """The most processor time this process has used between two turns of its event loop.

    Of all threads together: one that holds the interpreter holds the loop as well.
    """
    gaps = [0.0]

    async def tick():
        while True:
            started = time.process_time()
            await asyncio.sleep(0.002)
            gaps.append(time.process_time() - started)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.05)
    try:
        yield gaps
        await asyncio.sleep(0.01)
    finally:
        ticking.cancel()


@pytest.mark.parametrize("kind", LARGE)
async def test_a_large_document_holds_the_loop_for_no_noticeable_time(kind):
    media_type, data = LARGE[kind]
    async with Parser(ParserLimits()) as parser:
        parse = ParseAndCut(parser, ChunkSettings())
        async with longest_gap() as gaps:
            prepared = await parse(version(media_type), data, CollectionSettings())
    assert len(prepared.pieces) > 100
    assert max(gaps) < GAP_S


@pytest.mark.parametrize("kind", TEXTS)
def test_small_text_is_cut_on_the_spot_within_that_time(kind):
    data = fill(TEXTS[kind], SMALL_TEXT_BYTES)
    took_s = []
    for _ in range(3):
        started = time.process_time()
        small = prepare_small_text(version("text/plain"), data, ChunkSettings())
        took_s.append(time.process_time() - started)
    assert min(took_s) < GAP_S
    # Of so many paragraphs each may be a heading.
    assert (small is None) is (kind == "short paragraphs")


async def test_small_text_needs_no_child_and_large_text_no_parser():
    async with Parser(ParserLimits(children=1)) as parser:
        parse = ParseAndCut(parser, ChunkSettings())
        async with parser._parsers.acquire("acme"), parser._parsers.acquire("globex"):
            await parse(version("text/plain"), b"Water finds its way.", CollectionSettings())
            await parse(
                version("text/plain"), fill(b"Water finds its way. ", MIB), CollectionSettings()
            )
            with pytest.raises(TimeoutError):
                html = parse(version("text/html"), b"<html><p>Water", CollectionSettings())
                await asyncio.wait_for(html, 0.5)


async def test_a_tenant_that_burns_parsers_waits_alone():
    markdown = b"[" * 60_000
    async with Parser(ParserLimits(children=1, cpu_base_s=4, cpu_mib_s=0)) as parser:

        async def parse(tenant, data):
            await parser(data, media_type="text/markdown", file_name="", tenant=tenant)
            return time.monotonic()

        burning = [asyncio.create_task(parse("burner", markdown)) for _ in range(3)]
        await asyncio.sleep(0.5)
        for _ in range(3):
            await parse("quiet", b"# Water\n\nfinds its way.")
        assert not any(task.done() for task in burning[1:])
        for task in burning:
            task.cancel()
        await asyncio.wait(burning)
