"""Headings and tables keep their places while a text is cleaned, and chunks tell what is above."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.base.errors import InvalidInputError
from ingest.chunking import ChunkSettings, chunk
from ingest.outline import TOP, Heading, Outline, Place, Table
from ingest.parsing.document import MediaType, ParsedDocument
from ingest.parsing.html.read_html import read as read_html
from ingest.parsing.jail.assemble import assemble
from ingest.parsing.markdown.read_markdown import read as read_markdown
from ingest.parsing.outline_marks import HEADING_MARKS, MARKS, TABLE_MARK, mark_line
from ingest.parsing.reading import Reading
from ingest.parsing.text.clean import clean, is_clean

LIMIT = 1 << 26
SMALL = ChunkSettings(target_chars=60, max_chars=80)


def parse(source: str, media_type: MediaType = MediaType.MARKDOWN) -> ParsedDocument:
    read = read_html if media_type is MediaType.HTML else read_markdown
    return assemble(read(source.encode(), LIMIT), media_type)


def list_headings(document: ParsedDocument) -> list[tuple[int, str]]:
    for one in document.outline.headings:
        assert document.text.startswith(one.text, one.start)
    return [(one.level, one.text) for one in document.outline.headings]


def test_headings_have_their_level_and_place():
    document = parse(
        "# Pump\u200b man\u00adual\n\nIntro.\n\n## Wear\n\nx\n\nParts\n=====\n\n###### Deep"
    )
    assert list_headings(document) == [(1, "Pump manual"), (2, "Wear"), (1, "Parts"), (6, "Deep")]
    assert is_clean(document.text)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<h2>Wear<br>and tear</h2><p>x", [(2, "Wear")]),
        ("<h2></h2><p>x</p><h3> \u200b </h3><p>y", []),
        ("<h2><img alt='Our wear'></h2><p>x", [(2, "Our wear")]),
        ("<table><tr><td><h2>In a cell</h2></td><td>b</td></tr></table>", []),
        ("<nav><h2>Menu</h2></nav><h1>&#xD801;Pump</h1>", [(1, "\ufffdPump")]),
        ("<ul><li><h3>Item</h3>text</ul>", [(3, "Item")]),
        ("<h1>e\u0301tude</h1>", [(1, "\u00e9tude")]),
    ],
)
def test_headings_of_a_page(page, expected):
    assert list_headings(parse(f"<p>Before.</p>{page}", MediaType.HTML)) == expected


@pytest.mark.parametrize(
    ("page", "header", "rows"),
    [
        ("<table><tr><th>Year<th>Catch<tr><td>1975<td>12</table>", "Year | Catch", "1975 | 12"),
        (
            "<table><thead><tr><th>Year<th>Catch</thead><tr><td>1<td>2<tr><td>3<td>4</table><p>x",
            "Year | Catch",
            "1 | 2\n3 | 4",
        ),
        ("<table><tr><th>Year<td>1975<tr><th>Catch<td>12</table>", "", ""),
        ("<table><tr><td>Year<td>Catch<tr><td>1975<td>12</table>", "", ""),
        ("<table><tr><th>Year<th>Catch</table>", "", ""),
        ("<table><tr><th><th><tr><td>1975<td>12</table>", "", ""),
    ],
)
def test_a_row_of_names_is_the_header_of_its_table(page, header, rows):
    document = parse(page, MediaType.HTML)
    found = [(one.header, document.text[one.start : one.end]) for one in document.outline.tables]
    assert found == ([(header, rows)] if header else [])


def test_a_chunk_tells_the_headings_above_it_but_not_its_own():
    words = "Some words that fill a chunk of this size entirely.\n\n"
    source = f"# A\n\n{words}## B\n\n{words}{words}### C\n\n{words}## D\n\n{words}# E\n\n{words}"
    document = parse(source)
    found = {}
    for one in chunk(document, SMALL):
        found.setdefault(one.text.split("\n")[0], one.place.headings)
    assert found == {
        "A": (),
        "B": ("A",),
        "Some words that fill a chunk of this size entirely.": ("A", "B"),
        "C": ("A", "B"),
        "D": ("A",),
        "E": (),
    }


def test_a_chunk_inside_a_table_tells_its_header():
    rows = "".join(f"| {year} | {year % 7} |\n" for year in range(1900, 1990))
    document = parse(f"## Fleet\n\n| Year | Catch |\n|---|---|\n{rows}\nThe end of the report.")
    chunks = list(chunk(document, SMALL))
    assert chunks[0].place == TOP
    assert {one.place for one in chunks[1:-1]} == {Place(("Fleet",), "Year | Catch")}
    assert chunks[-1].text.endswith("The end of the report.")


def test_the_context_is_no_part_of_the_text():
    document = parse("# Title\n\n" + "Words and words. " * 40)
    for one in chunk(document, SMALL):
        assert one.text == document.text[one.start : one.end]
        assert not MARKS & set(one.text)


def test_a_cut_comes_before_the_highest_heading_in_reach():
    line = "Twenty-four characters.\n\n"
    document = parse(f"# A\n\n{3 * line}## B\n\n{2 * line}### C\n\n{4 * line}")
    first, second, *_ = chunk(document, ChunkSettings(target_chars=140, max_chars=160))
    assert (first.text.split("\n")[0], second.text.split("\n")[0]) == ("A", "B")


def test_marks_in_other_texts_are_dropped():
    text = f"{HEADING_MARKS[1]}One\n{TABLE_MARK}two"
    assert clean(text) == "One\ntwo"
    document = assemble(Reading("", [text], 0), MediaType.TEXT)
    assert document.text == "One\ntwo"
    assert [*document.outline.headings, *document.outline.tables] == []


LINE_MARK = mark_line(0)


@given(
    st.lists(
        st.sampled_from(
            [
                *HEADING_MARKS.values(),
                TABLE_MARK,
                LINE_MARK,
                "\n",
                "\n\n",
                " ",
                "a",
                "e\u0301",
                "\u200b",
                "\u0301",
                "| b",
            ]
        ),
        max_size=60,
    ).map("".join)
)
def test_marks_change_nothing_else(text):
    unmarked = clean("".join(sign for sign in text if sign not in MARKS))
    try:
        reading = Reading("", [text], is_marked=True, boxes=[array("H", (4, 8, 40, 60))])
        document = assemble(reading, MediaType.HTML)
    except InvalidInputError:
        assert not unmarked
        return
    assert is_clean(document.text)
    assert document.text == unmarked or "\u0301" in text
    assert "\n\n\n" not in document.text
    for heading in document.outline.headings:
        assert document.text.startswith(heading.text, heading.start)
    for table in document.outline.tables:
        assert 0 < table.start < table.end <= len(document.text)


def test_the_path_of_many_headings_is_found_quickly():
    headings = [Heading(10 * n, 1 + n % 6, f"h{n}") for n in range(60_000)]
    outline = Outline(headings, [Table(5, 9, "x | y")])
    assert outline.locate(599_999).headings == tuple(f"h{n}" for n in range(59_994, 60_000))
    assert outline.locate(5) == Place(("h0",), "x | y")
    assert outline.locate(9).table_header == ""
