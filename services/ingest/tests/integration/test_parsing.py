"""Documents of each format through the real child processes, and the shared file collection."""

import asyncio
import json
import logging
import re
import sys
from io import BytesIO
from pathlib import Path

import pypdf
import pytest

from chassis.base.errors import InvalidInputError, UnavailableError
from ingest.parsing.document import MediaType, PageStart
from ingest.parsing.failure import ParseFailure
from ingest.parsing.parser import Parser, ParserLimits
from testkit.pdf import lines, pdf

COLLECTION = Path(__file__).parents[5] / "shared/data/parser-files-a"
# By file name, for those no media type table knows by a type of ours.
# Formats without a parser, and a page in Windows-1252 that declares nothing.
REFUSED = {
    "unstructured__simple.zip": ParseFailure.MEDIA_TYPE_UNSUPPORTED,
    "markitdown__random.bin": ParseFailure.TEXT_UNDECODABLE,
    "unstructured__fake-html-cp1252.html": ParseFailure.TEXT_UNDECODABLE,
    "own__bomb.docx": ParseFailure.PARSER_OUTPUT_LIMIT,
}
# The file holds no such words, in any case or spacing: the novel without its title page.
UNFULFILLABLE = {"unstructured__book-war-and-peace-1225p.txt": "War and Peace"}
REASONS = {
    "encrypted": ParseFailure.DOCUMENT_ENCRYPTED,
    "needs_ocr": ParseFailure.NEEDS_OCR,
    "empty": ParseFailure.EMPTY_DOCUMENT,
}


async def find_refusal(parser, data, **hints):
    with pytest.raises(InvalidInputError) as refusal:
        await parser(data, **({"media_type": "", "file_name": ""} | hints))
    return refusal.value.reason


async def test_plain_text_is_cleaned_and_kept(parser):
    document = await parser(
        "\ufeffOne\r\n\r\n\r\nzwei\x00 Übel".encode(), media_type="text/plain", file_name=""
    )
    assert (document.text, document.title, document.pages, document.media_type) == (
        "One\n\nzwei Übel",
        "",
        (),
        MediaType.TEXT,
    )


MARKDOWN = """---
title: "From the front matter"
---
# Install

Run **this** [command](http://example.com/path):

```sh
make   all
  --verbose
```

1. first
2. second
   - nested `code`

| Name | Size |
|------|------|
| oak  | 3 m  |

List<String> and <div align="center">inline HTML</div> &amp; entities, ~~gone~~.
"""


async def test_markdown_becomes_readable_lines(parser):
    document = await parser(MARKDOWN.encode(), media_type="", file_name="README.md")
    assert document.title == "From the front matter"
    assert document.media_type is MediaType.MARKDOWN
    assert document.text == (
        "From the front matter\n\nInstall\n\nRun this command:\n\nmake   all\n  --verbose\n\n"
        "1. first\n2. second\n  - nested code\n\nName | Size\noak | 3 m\n\n"
        "List<String> and\n\ninline HTML\n& entities, gone."
    )


HTML = """<!DOCTYPE html><html><head><title>Oaks &amp; elms</title><style>p {color: red}</style>
<script>var noise = "script";</script></head><body>
<nav><a href="/">Home</a></nav><div role="navigation">menu</div><header><h1>Oaks</h1></header>
<main><p>First   <b>para</b>graph<br>second line.</p><!-- comment -->
<ul><li>one<ul><li>inner</li></ul></li><li><p>two</p></li></ul>
<ol start="3"><li>three</li><li>four</li></ol>
<table><tr><th>Tree<th>Height</tr><tr><td>oak</td><td></td><td><p>30 m</p></td></tr></table>
<table><tr><td><p>Layout one.</p><p>Layout two.</p></td></tr></table>
<pre>  kept
    as is</pre><p hidden>behind a tab</p>Sorted<span style="Display: none">007</span>
<span class="icon" aria-hidden="true">menu</span>
<article><footer>Sources of the article</footer></article><noscript>enable it</noscript></main>
<footer>Imprint</footer><a hreflang="fr" href="/fr">Français</a></body></html>"""


async def test_html_becomes_readable_lines_without_noise(parser):
    document = await parser(HTML.encode(), media_type="text/html", file_name="")
    assert document.title == "Oaks & elms"
    assert document.text == (
        "Oaks & elms\n\nOaks\n\nFirst paragraph\nsecond line.\n\n- one\n  - inner\n- two\n\n"
        "3. three\n4. four\n\nTree | Height\noak | | 30 m\n\nLayout one.\n\nLayout two.\n\n"
        "  kept\n    as is\n\nbehind a tab\n\nSorted\n\nSources of the article\n\nFrançais"
    )


@pytest.mark.parametrize(
    ("markup", "media_type"),
    [
        ('<html><meta charset="windows-1251"><p>Съешь же ещё'.encode("cp1251"), "text/html"),
        ("<html><p>Съешь же ещё".encode("koi8_r"), "text/html; charset=koi8-r"),
        ("<html><p>Съешь же ещё".encode("utf-16"), ""),
        (b'<html><meta charset="latin-1"><p>' + "Съешь же ещё".encode(), ""),
    ],
)
async def test_html_is_read_in_the_encoding_it_has(parser, markup, media_type):
    assert (await parser(markup, media_type=media_type, file_name="")).text == "Съешь же ещё"


async def test_pdf_has_pages_and_a_title(parser):
    data = pdf(
        lines(b"The first page of two", b"runs over the"),
        b"",
        lines(b"edge. A hy-", b"phenated word, well-", b"known and well-known."),
        lines(b"Chapter Two"),
        title=b"A study of pages",
    )
    document = await parser(data, media_type="application/pdf", file_name="study.pdf")
    assert document.title == "A study of pages"
    assert document.text == (
        "The first page of two\nruns over the\nedge. A hyphenated word, well-known and well-known."
        "\n\nChapter Two"
    )
    starts = [document.text.index(text) for text in ("The", "edge", "Chapter")]
    [chunk] = document.chunks
    assert chunk.page == document.pages[0].number
    assert [PageStart(number=page, start_char=start) for start, page in chunk.page_breaks] == list(
        document.pages[1:]
    )
    assert document.pages == tuple(
        PageStart(number=number, start_char=start)
        for number, start in zip((1, 3, 4), starts, strict=True)
    )


@pytest.mark.parametrize("title", [b"Microsoft Word - draft3.doc", b"untitled", b"scan0001.pdf"])
async def test_title_that_names_a_tool_or_file_is_no_title(parser, title):
    document = await parser(pdf(lines(b"text"), title=title), media_type="", file_name="")
    assert document.title == ""


@pytest.mark.parametrize(
    ("cmap", "codec"), [(b"H", "jis"), (b"EUC-H", "euc_jp"), (b"KSCms-UHC-H", "cp949")]
)
async def test_pdf_text_in_the_old_east_asian_encodings(parser, cmap, codec):
    text = "東京" if codec != "cp949" else "서울"
    raw = text.encode("euc_jp" if codec == "jis" else codec)
    shown = bytes(byte & 0x7F for byte in raw) if codec == "jis" else raw
    font = (
        b"/Type0 /BaseFont /Any-Font /Encoding /%s /DescendantFonts [<< /Type /Font"
        b" /Subtype /CIDFontType0 /BaseFont /Any-Font >>]" % cmap
    )
    data = pdf(b"BT /F1 12 Tf 72 700 Td <%s> Tj ET" % shown.hex().encode(), font=font)
    assert (await parser(data, media_type="", file_name="")).text == text


def encrypted(**settings: object) -> bytes:
    writer = pypdf.PdfWriter(BytesIO(pdf(lines(b"locked away"))))
    writer.encrypt(**settings)
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
async def test_pdf_that_asks_for_a_password_is_refused_by_name(parser, algorithm):
    data = encrypted(user_password="secret", owner_password="owner", algorithm=algorithm)
    for password in ("secret", "owner"):
        document = await parser(data, media_type="", file_name="", password=password)
        assert document.text == "locked away"
    for wrong in ("Secret", "secret ", "\u00fc"):
        refusal = await find_refusal(parser, data, password=wrong)
        assert refusal == ParseFailure.PASSWORD_WRONG
    assert await find_refusal(parser, data) == ParseFailure.DOCUMENT_ENCRYPTED


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
async def test_pdf_that_only_forbids_printing_is_read(parser, algorithm):
    data = encrypted(user_password="", owner_password="owner", algorithm=algorithm)
    assert (await parser(data, media_type="", file_name="")).text == "locked away"


async def test_pdf_with_a_lost_object_table_is_repaired(parser):
    whole = pdf(lines(b"still readable"))
    assert (
        await parser(whole[: whole.index(b"startxref")], media_type="", file_name="")
    ).text == "still readable"


@pytest.mark.parametrize(
    ("data", "hints", "reason"),
    [
        (b"", {}, ParseFailure.EMPTY_DOCUMENT),
        (b" \n\t\r\n", {}, ParseFailure.NO_TEXT),
        (b"<html><script>only()</script></html>", {}, ParseFailure.NO_TEXT),
        (pdf(b"0 0 m 9 9 l S"), {}, ParseFailure.NEEDS_OCR),
        (b"%PDF-1.7 and then nothing", {}, ParseFailure.DOCUMENT_DAMAGED),
        (b"\x80\x81\xff\x00\x01" * 99, {"media_type": "text/plain"}, ParseFailure.TEXT_UNDECODABLE),
        (b"PK\x03\x04", {}, ParseFailure.MEDIA_TYPE_UNSUPPORTED),
        (b"a,b", {"media_type": "video/mp4"}, ParseFailure.MEDIA_TYPE_UNSUPPORTED),
        (pdf(b""), {"media_type": "text/html"}, ParseFailure.MEDIA_TYPE_MISMATCH),
    ],
)
async def test_refusal_says_why(parser, data, hints, reason):
    assert await find_refusal(parser, data, **hints) == reason


async def test_start_says_what_holds_the_children(caplog):
    with caplog.at_level(logging.INFO, "ingest.parsing.parser"):
        async with Parser(ParserLimits()) as parser:
            for _ in range(2):
                await parser(b"<html>again", media_type="", file_name="")
    [record] = [record for record in caplog.records if record.message == "parser.jailed"]
    assert {"resource_limits", "no_new_privileges", "dies_with_parent"} <= set(record.held)
    assert (record.levelno == logging.WARNING) == bool(record.missing)
    assert set(record.held).isdisjoint(record.missing)
    assert len([*record.held, *record.missing]) == 8


async def test_parser_that_can_not_start_a_child_says_so():
    with pytest.raises(UnavailableError) as failure:
        async with Parser(ParserLimits(memory_bytes=4 * 1024 * 1024)):
            pass
    assert failure.value.reason == "PARSER_UNAVAILABLE"


async def verdict(parser, entry) -> str:
    """Empty when the file behaved as the manifest says, else what it did."""
    path, check = COLLECTION / entry["file"], entry.get("check", {})
    expected = REFUSED.get(path.name, REASONS.get(check.get("behaviour", "text")))
    try:
        document = await parser(path.read_bytes(), media_type="", file_name=path.name)
    except InvalidInputError as refusal:
        if refusal.reason != expected:
            return f"{path.name}: {refusal.reason}"
        if "password" not in check:
            return ""
        document = await parser(
            path.read_bytes(), media_type="", file_name="", password=check["password"]
        )
        expected = None
    if expected:
        return f"{path.name}: text instead of {expected}"
    text = " ".join(document.text.split())
    required = set(check.get("must_contain", ())) - {UNFULFILLABLE.get(path.name)}
    missing = [string for string in required if string not in text]
    foreign = [string for string in check.get("must_not_contain", ()) if string in text]
    return f"{path.name}: without {missing}, with {foreign}" if missing or foreign else ""


async def test_shared_collection_behaves_as_its_manifest_says(parser, capsys):
    if not COLLECTION.is_dir():
        with capsys.disabled():
            sys.stderr.write("no shared file collection here: own samples only\n")
        assert (await parser(HTML.encode(), media_type="", file_name="own.html")).text
        return
    entries = json.loads((COLLECTION / "manifest.json").read_text())
    verdicts = await asyncio.gather(*(verdict(parser, entry) for entry in entries))
    assert [found for found in verdicts if found] == []


async def test_columns_are_read_one_after_the_other(parser):
    left = b"".join(b"1 0 0 1 72 %d Tm (left %d) Tj " % (700 - 14 * n, n) for n in range(3))
    right = b"".join(b"1 0 0 1 320 %d Tm (right %d) Tj " % (700 - 14 * n, n) for n in range(3))
    document = await parser(
        pdf(b"BT /F1 12 Tf " + left + right + b"ET"), media_type="", file_name=""
    )
    assert re.findall(r"\w+ \d", document.text) == [
        f"{side} {n}" for side in ("left", "right") for n in range(3)
    ]
