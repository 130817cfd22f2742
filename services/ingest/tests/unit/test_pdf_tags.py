"""Headings of a tagged PDF are those of its structure, whatever its bookmarks say."""

import pytest

from ingest.parsing.document import MediaType, ParsedDocument
from ingest.parsing.jail.assemble import assemble
from ingest.parsing.pdf.read_pdf import read

from .test_read_pdf import show, write_pdf

LIMIT = 1 << 20


def parse(
    content: str, elements: list[str], *, root: str = "", catalog: str = ""
) -> ParsedDocument:
    """A page with marked contents; elements are numbered from 13, all below one element, 12."""
    kids = " ".join(f"{number} 0 R" for number in range(13, 13 + len(elements)))
    parents = " ".join(f"{number} 0 R" for number in range(13, 13 + len(elements)))
    objects = [
        f"<< /Type /StructTreeRoot /K [12 0 R] /ParentTree 11 0 R {root} >>",
        f"<< /Nums [0 [{parents}]] >>",
        f"<< /Type /StructElem /S /Document /P 10 0 R /K [{kids}] >>",
        *(f"<< /Type /StructElem /P 12 0 R /Pg 3 0 R {one} >>" for one in elements),
    ]
    data = write_pdf(
        content,
        page="/StructParents 0",
        catalog=f"/StructTreeRoot 10 0 R /MarkInfo << /Marked true >> {catalog}",
        objects=objects,
    )
    return assemble(read(data, LIMIT), MediaType.PDF)


def mark(number: int, *lines: tuple[int, int, str]) -> str:
    return f"/Span << /MCID {number} >> BDC {show(*lines)} EMC\n"


def list_headings(document: ParsedDocument) -> list[tuple[int, str]]:
    return [(one.level, one.text) for one in document.outline.headings]


CONTENT = (
    mark(0, (72, 700, "Report"))
    + mark(1, (72, 670, "Ships left the harbour."))
    + mark(2, (72, 640, "1.1 Herring"))
    + mark(3, (72, 610, "Herring"))
)


def test_headings_are_those_of_the_tags_with_their_levels():
    document = parse(CONTENT, ["/S /H1 /K 0", "/S /P /K 1", "/S /H2 /K 2", "/S /P /K 3"])
    assert list_headings(document) == [(1, "Report"), (2, "1.1 Herring")]
    assert document.outline.locate(document.text.rindex("Herring")).headings == (
        "Report",
        "1.1 Herring",
    )


def test_names_of_the_file_stand_for_the_types_that_it_maps_them_to():
    document = parse(
        CONTENT,
        ["/S /Chapter /K 0", "/S /Body /K 1", "/S /Section /K 2", "/S /Body /K 3"],
        root="/RoleMap << /Chapter /H1 /Section /H3 /Body /P >>",
    )
    assert list_headings(document) == [(1, "Report"), (3, "1.1 Herring")]


def test_a_heading_has_the_text_of_the_elements_inside_it():
    content = mark(0, (72, 700, "Catch of")) + mark(1, (135, 700, "herring"))
    content += mark(2, (72, 670, "Ships left the harbour."))
    document = parse(content, ["/S /H2 /K [0 14 0 R]", "/S /Em /P 13 0 R /K 1", "/S /P /K 2"])
    assert [one for _, one in list_headings(document)] == ["Catch of herring"]


def test_of_equal_lines_the_tagged_one_is_the_heading():
    content = mark(0, (72, 700, "Herring")) + mark(1, (72, 670, "Herring"))
    document = parse(content, ["/S /P /K 0", "/S /H1 /K 1"])
    (heading,) = document.outline.headings
    assert heading.start == document.text.rindex("Herring")


def test_tags_take_precedence_over_bookmarks_of_the_page():
    bookmark = "/Outlines << /First << /Title (Herring) /Dest [3 0 R /XYZ 0 622 0] >> >>"
    document = parse(
        CONTENT, ["/S /H1 /K 0", "/S /P /K 1", "/S /P /K 2", "/S /P /K 3"], catalog=bookmark
    )
    assert list_headings(document) == [(1, "Report")]


@pytest.mark.parametrize(
    "elements",
    [
        ["/S /H1 /K [0 13 0 R]"],
        ["/S /Sect /K [14 0 R]", "/S /H1 /K [13 0 R 0]"],
        [f"/S /Sect /K [{number} 0 R]" for number in range(14, 80)] + ["/S /H1 /K 0"],
        ["/S /H1 /K [" + "0 " * 30_000 + "]"],
    ],
    ids=["own child", "circle", "deep", "wide"],
)
def test_a_structure_made_to_break_readers_loses_no_text(elements: list[str]):
    document = parse(CONTENT, elements)
    assert " ".join(document.text.split()) == "Report Ships left the harbour. 1.1 Herring Herring"
