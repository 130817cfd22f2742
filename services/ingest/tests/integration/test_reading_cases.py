"""Small files that many systems read wrongly, read by the jailed parser.

They lie outside the project, in `../shared/data/cases` beside it; without them only own samples are
read, and the test says so. `pytest -s` prints the score.
"""

import asyncio
import json
import re
import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chassis.base.errors import InvalidInputError
from ingest.parsing.document import CutDocument

CASES = Path(__file__).resolve().parents[5] / "shared/data/cases"
ZERO_WIDTH_JOINER = "\u200d"


def fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def find_faults(case: dict[str, Any], document: CutDocument) -> Iterator[str]:
    if case.get("must_be_refused"):
        yield "not refused"
    if case.get("title", document.title) != document.title:
        yield f"title {document.title!r}"
    for quote, page in case.get("page_of", {}).items():
        if find_page(document, quote) != page:
            yield f"{quote!r} on page {find_page(document, quote)}"
    yield from find_faults_of_text(case, fold(document.text))
    yield from find_faults_of_passages(case, document)
    if case.get("cut_between_graphemes"):
        yield from find_cut_signs(document)


def find_faults_of_text(case: dict[str, Any], text: str) -> Iterator[str]:
    required = [[one] for one in case.get("must_contain", ())]
    for spellings in required + case.get("must_contain_any", []):
        if not any(fold(one) in text for one in spellings):
            yield f"with none of {spellings}"
    for unwanted in case.get("must_not_contain", ()):
        if fold(unwanted) in text:
            yield f"with {unwanted!r}"
    for counted, number in case.get("count", {}).items():
        if text.count(fold(counted)) != number:
            yield f"{text.count(fold(counted))} times {counted!r}"


def find_faults_of_passages(case: dict[str, Any], document: CutDocument) -> Iterator[str]:
    passages = [one.text for one in document.chunks]
    for key, texts in case.get("together", {}).items():
        for one in document.chunks:
            passage = f"{one.place.table_header}\n{one.text}"
            if re.search(rf"\b{re.escape(key)}\b", passage):
                missing = [one for one in texts if fold(one) not in fold(passage)]
                if missing:
                    yield f"the passage of {key!r} without {missing}"
    if pattern := case.get("passage_lines"):
        for line in (line for passage in passages for line in passage.split("\n")):
            if line.strip() and not re.search(pattern, line):
                yield f"line {line!r}"


def find_cut_signs(document: CutDocument) -> Iterator[str]:
    """Yields the ends of passages inside what readers see as one sign."""
    text = document.text
    for passage in document.chunks:
        for cut in (passage.start, passage.end):
            before, after = text[cut - 1 : cut], text[cut : cut + 1]
            if before == ZERO_WIDTH_JOINER or (after and is_joined(after)):
                yield f"a cut in {text[max(0, cut - 3) : cut + 3]!r}"


def is_joined(character: str) -> bool:
    return character == ZERO_WIDTH_JOINER or unicodedata.category(character) in ("Mn", "Me", "Mc")


def find_page(document: CutDocument, quote: str) -> int | None:
    pattern = r"\s+".join(map(re.escape, quote.split()))
    found = re.search(pattern, document.text)
    if found is None:
        return None
    number = bisect_right(document.pages, found.start(), key=lambda page: page.start_char)
    return document.pages[number - 1].number if number else None


async def judge(parser, case: dict[str, Any]) -> list[str]:
    path, declared = CASES / case["file"], case.get("upload", {})
    try:
        document = await parser(
            path.read_bytes(),
            media_type=declared.get("media_type", ""),
            file_name=declared.get("file_name", path.name),
        )
    except InvalidInputError as refusal:
        return [] if refusal.reason in case.get("or_refused_with", ()) else [refusal.reason]
    return list(find_faults(case, document))


async def test_every_case_is_read_right_or_refused(parser, capsys):
    if not CASES.is_dir():
        with capsys.disabled():
            sys.stderr.write("no shared reading cases here: own samples only\n")
        document = await parser(b"10<sup>19</sup>", media_type="text/html", file_name="")
        assert document.text == "10^19"
        return
    manifest = json.loads((CASES / "manifest.json").read_text())
    cases = [case for case in manifest if case["file"].startswith("reading/")]
    found = await asyncio.gather(*(judge(parser, case) for case in cases))
    faults = {case["file"]: seen for case, seen in zip(cases, found, strict=True) if seen}
    sys.stdout.write(f"{len(cases) - len(faults)} of {len(cases)} cases are right\n")
    assert not faults
