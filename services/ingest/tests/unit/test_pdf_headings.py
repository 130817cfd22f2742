"""Headings of PDF come from its bookmarks, and only where a line has their words."""

import pytest

from ingest.chunking import ChunkSettings, chunk
from ingest.parsing.document import MediaType, ParsedDocument
from ingest.parsing.jail.assemble import assemble
from ingest.parsing.pdf.read_pdf import read

from .test_read_pdf import show, write_pdf

LIMIT = 1 << 20
BODY = [f"Body text number {n} goes on." for n in range(3)]


def parse(*lines: str, bookmarks: list[str], step: int = 30) -> ParsedDocument:
    """A page of lines below each other; bookmarks are numbered from 11 in a file."""
    content = show(*((72, 700 - step * row, line) for row, line in enumerate(lines)))
    objects = ["<< /Type /Outlines /First 11 0 R >>", *(f"<< {one} >>" for one in bookmarks)]
    data = write_pdf(content, catalog="/Outlines 10 0 R", objects=objects)
    return assemble(read(data, LIMIT), MediaType.PDF)


def to(height: int | str, title: str, links: str = "") -> str:
    return f"/Title ({title}) /Dest [3 0 R /XYZ 0 {height} 0] {links}"


def list_headings(document: ParsedDocument) -> list[tuple[int, str]]:
    return [(one.level, one.text) for one in document.outline.headings]


def test_bookmarks_are_headings_with_their_levels():
    document = parse(
        *("Report", BODY[0], "1 Catch", BODY[1], "1.1 Herring", BODY[2]),
        bookmarks=[
            to(712, "Report", "/First 12 0 R"),
            to(652, "Catch", "/First 13 0 R"),
            to(592, "1.1 Herring"),
        ],
    )
    assert list_headings(document) == [(1, "Report"), (2, "1 Catch"), (3, "1.1 Herring")]
    last = document.outline.locate(document.text.index(BODY[2]))
    assert last.headings == ("Report", "1 Catch", "1.1 Herring")
    pieces = chunk(document, ChunkSettings(target_chars=50, max_chars=60))
    assert [one.text.split("\n")[0] for one in pieces] == ["Report", "1 Catch", "1.1 Herring"]


def test_a_heading_of_two_lines_is_one():
    document = parse(
        *("The catch of herring in the", "years of the great storms", BODY[0]),
        bookmarks=[to(712, "The catch of herring in the years of the great storms")],
        step=14,
    )
    title = "The catch of herring in the years of the great storms"
    assert list_headings(document) == [(1, title)]
    assert document.text.startswith(f"{title}\n")


@pytest.mark.parametrize(
    ("height", "place"), [(712, 0), (652, 1), ("null", None)], ids=["first", "second", "unknown"]
)
def test_of_equal_lines_the_one_near_the_destination_is_the_heading(height, place):
    document = parse("Catch", BODY[0], "Catch", BODY[1], bookmarks=[to(height, "Catch")])
    places = [document.text.index("Catch"), document.text.rindex("Catch")]
    expected = [] if place is None else [places[place]]
    assert [one.start for one in document.outline.headings if one.text] == expected


@pytest.mark.parametrize("title", ["Catches", "2 Catch", "Body text", "", "..."])
def test_a_bookmark_without_its_words_is_no_heading_but_ends_the_section_before(title):
    document = parse(
        *("Report", BODY[0], "1 Catch", BODY[1]),
        bookmarks=[to(712, "Report", "/Next 12 0 R"), to(652, title)],
    )
    assert list_headings(document) == [(1, "Report"), (1, "")]
    assert document.outline.locate(document.text.index(BODY[0])).headings == ("Report",)
    assert document.outline.locate(document.text.index(BODY[1])).headings == ()


def test_bookmarks_in_a_circle_end():
    document = parse("Report", bookmarks=[to(712, "Report", "/First 11 0 R /Next 11 0 R")])
    assert list_headings(document) == [(1, "Report")]


def test_deep_and_broken_bookmarks_are_left_out():
    deep = [to(712, f"Level {n}", f"/First {11 + n} 0 R") for n in range(1, 8)]
    lines = [f"Level {n}" for n in range(1, 8)]
    document = parse(*lines, bookmarks=[*deep, "/Title (Level 8) /Dest [99 0 R /Fit]"])
    assert [level for level, _ in list_headings(document)] == [1, 2, 3, 4, 5, 6]
