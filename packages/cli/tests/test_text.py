"""`aquifer text` reads all parts of one version and prints them unchanged."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from aquifer_cli import text
from aquifer_cli.errors import CommandError

from .loopback import TEXT_CHARS, Ingest, name, serving

WORDS = "\tWater finds\n\n its \u6f22\u5b57 way \U0001f4a7 e\u0301 and \u2026 more of it\u00a0."

# The encoding is not that of the text.
ENVIRONMENT = {"AQUIFER_API_KEY": "right", "PYTHONIOENCODING": "cp437"}


def request(document="0", pages=(0, 0), characters=(0, 0), version=0):
    return text.make_request(document, "c", pages, characters, version)


async def read(ingest, **part):
    async with serving(ingest) as (client, _):
        return [each async for each in text.read(client, request(**part))]


async def test_all_parts_are_read_and_are_of_one_version():
    ingest = Ingest(contents={name(0): WORDS.encode()})
    parts = await read(ingest)
    assert "".join(part.text for part in parts) == WORDS
    assert {part.version for part in parts} == {1}
    starts = range(0, len(WORDS), TEXT_CHARS)
    assert [asked.start for asked in ingest.text_requests] == list(starts)
    assert [asked.version for asked in ingest.text_requests] == [0] + [1] * (len(starts) - 1)


async def test_pages_and_ranges_are_asked_for_in_each_call():
    ingest = Ingest(contents={name(0): WORDS.encode()})
    parts = await read(ingest, characters=(5, 27), version=4)
    assert "".join(part.text for part in parts) == WORDS[5:27]
    assert {(one.version, one.end) for one in ingest.text_requests} == {(4, 27)}
    ingest.text_requests.clear()
    await read(ingest, pages=(2, 3))
    assert {(one.first_page, one.last_page) for one in ingest.text_requests} == {(2, 3)}


async def test_an_unknown_document_is_told_with_a_way_out():
    with pytest.raises(CommandError) as refusal:
        await read(Ingest())
    assert refusal.value.reason == "DOCUMENT_UNKNOWN"
    assert "aquifer documents" in refusal.value.hint


@pytest.mark.parametrize("options", [[], ["--range", "3:40"], ["--json"]])
async def test_the_command_writes_the_text_as_it_is(options):
    ingest = Ingest(contents={name(0): WORDS.encode()})
    async with serving(ingest) as (client, _):
        addresses = {
            f"AQUIFER_{service.upper()}_ADDRESS": address
            for service, address in client.endpoints.services.items()
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aquifer_cli", "text", name(0), *options),
            # Not the encoding of the text.
            env={
                **os.environ,
                **addresses,
                "AQUIFER_API_KEY": "right",
                "PYTHONIOENCODING": "cp437",
            },
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate()
    if options == ["--json"]:
        shown = "".join(json.loads(line)["text"] for line in out.decode().splitlines())
    else:
        shown = out.decode()
    assert (process.returncode, shown) == (0, WORDS[3:40] if "--range" in options else WORDS)
