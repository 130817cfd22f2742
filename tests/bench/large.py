"""The memory that large documents need: the peak of each service above its rest."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path

from aquifer.ingest.v1.ingest_service_pb2 import GetDocumentRequest
from aquifer.services import NAMES
from aquifer_cli.client import open_client
from aquifer_cli.sources import find_files
from aquifer_cli.upload import send
from testkit.pdf import lines, pdf
from tests.bench import processes
from tests.bench.ceiling import SETTINGS
from tests.bench.corpus import Corpus, generate
from tests.bench.figures import Aim, Figure, Row
from tests.bench.running_stack import RunningStack, make_folder, run_stack

NAME = "large"
TITLE = "peak memory of large documents: null embedder, everything else as it is"
COLLECTION = "large"
LINE_CHARS = 90
LINES = 40
GROWTH_MIB = 64


def measure(text_bytes: int, pages: int) -> Figure:
    """A text and a PDF, one after the other, each followed until it is searchable."""
    corpus = generate(400)
    with make_folder() as folder, run_stack(folder, SETTINGS) as running:
        rows = asyncio.run(_measure(running, corpus, folder, text_bytes, pages))
    return Figure(name=NAME, title=TITLE, rows=rows)


async def _measure(
    running: RunningStack, corpus: Corpus, folder: Path, text_bytes: int, pages: int
) -> list[Row]:
    words = " ".join(json.loads(line)["text"] for line in corpus.lines)
    small, text, book = folder / "small.txt", folder / "large.txt", folder / "large.pdf"
    small.write_text(words[:2_000])
    text.write_text((words * (text_bytes // len(words) + 1))[:text_bytes])
    book.write_bytes(pdf(*(_page(words, number) for number in range(pages))))
    await _upload(running, small)
    about = [f"text of {text_bytes >> 20} MiB", f"PDF of {pages:,} pages"]
    rest = {each: processes.reset_peak(pid) for each, pid in _services(running).items()}
    return [
        row
        for name, file in zip(about, (text, book), strict=True)
        for row in await _follow(running, name, file, rest)
    ]


def _services(running: RunningStack) -> Mapping[str, int]:
    return {each: pid for each, pid in processes.of(running.stack).items() if each in NAMES}


def _page(words: str, number: int) -> bytes:
    """A page of text that no other page has; the words contain no brackets."""
    start = number * LINES * LINE_CHARS % (len(words) - LINES * LINE_CHARS)
    plain = words.encode("ascii", "ignore")
    for sign in (b"(", b")", b"\\"):
        plain = plain.replace(sign, b" ")
    return lines(*(plain[start + n * LINE_CHARS :][:LINE_CHARS] for n in range(LINES)))


async def _follow(
    running: RunningStack, name: str, file: Path, rest: Mapping[str, float]
) -> list[Row]:
    """Uploads a file; the peak of each service above its rest, children not counted."""
    pids = _services(running)
    for pid in pids.values():
        processes.reset_peak(pid)
    started = time.perf_counter()
    chunks = await _upload(running, file)
    took_s = time.perf_counter() - started
    return [
        Row(
            name=f"{name}: sent to searchable",
            value=took_s,
            unit="s",
            note=f"{chunks:,} chunks",
        ),
        *(
            Row(
                name=f"{name}: growth of {each}",
                value=processes.read_peak(pid) - rest[each],
                unit="MiB",
                aim=Aim(sense="<=", limit=GROWTH_MIB),
                note=f"peak above {rest[each]:.0f} MiB",
            )
            for each, pid in pids.items()
        ),
    ]


async def _upload(running: RunningStack, file: Path) -> int:
    """Uploads a file and waits until it is searchable; returns its number of chunks."""
    async with open_client(running.endpoints) as client:
        items = find_files([file], COLLECTION)
        [outcome] = await send(client, items, wait=True, on_done=lambda _: None)
        assert outcome.state == "INDEXED", outcome
        document = await client.call(
            client.ingest.GetDocument, GetDocumentRequest(name=outcome.document)
        )
    return int(document.chunk_count)
