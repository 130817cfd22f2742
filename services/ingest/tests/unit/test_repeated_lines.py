"""Which lines at the edges of pages are headers and footers."""

from collections.abc import Callable

import pytest

from ingest.outline import Heading
from ingest.parsing.outline_marks import (
    HEADING_MARKS,
    SECTION_MARKS,
    TABLE_MARK,
    mark_line,
    strip_marks,
    take_marks,
)
from ingest.parsing.steps.pages import Pages
from ingest.parsing.steps.repeated_lines import run

BODY = "{w} begins.\nThe middle of {w}.\n\nHere {w} ends."


def write(
    number: int, *, pages: int = 6, body: str = "", header: str = "", footer: str = ""
) -> list[str]:
    """Pages with a text of their own: `{n}` is the number of the page, `{w}` a word of it."""
    page = "\n".join(filter(None, (header, body or BODY, footer)))
    numbers = range(number, number + pages)
    return [
        page.replace("{n}", str(one)).replace("{w}", f"{chr(65 + one)}omega") for one in numbers
    ]


def strip(texts: list[str]) -> tuple[list[str], dict[str, int]]:
    done = run(Pages("", texts))
    assert done is not None
    return done[0].texts, dict(done[1])


@pytest.mark.parametrize(
    ("header", "footer"),
    [
        ("ACME Annual Report", ""),
        ("", "Confidential"),
        ("ACME Annual Report", "Page {n} of 6"),
        ("", "{n}"),
        ("", "- {n} -"),
        ("ACME 2024\n{n}", "www.acme.example\n© 2024"),
        ("Report 2024, page {n}", "\nDraft"),
    ],
)
def test_lines_that_repeat_are_taken_out(header: str, footer: str):
    texts, counts = strip(write(17, header=header, footer=footer))
    assert texts == write(17)
    lines = {"header lines": header, "footer lines": footer}
    assert counts == {
        kind: 6 * len(text.strip().split("\n")) for kind, text in lines.items() if text
    }


def test_headers_of_left_and_right_pages_differ():
    left, right = write(1, pages=10, header="ACME"), write(1, pages=10, header="The year 2024")
    pages = [(left if number % 2 else right)[number] for number in range(10)]
    assert strip(pages)[0] == write(1, pages=10)


def test_pages_without_text_and_without_a_header_do_not_count():
    pages = ["", *write(2, header="ACME"), "", "A page of its own.\nWithout a header."]
    assert strip(pages)[0] == ["", *write(2), "", "A page of its own.\nWithout a header."]


@pytest.mark.parametrize(
    "pages",
    [
        write(1, pages=3, header="ACME"),
        [""] * 9 + write(1, pages=3, header="ACME"),
        write(1, pages=1),
    ],
)
def test_a_document_with_few_pages_keeps_all(pages: list[str]):
    assert run(Pages("", pages)) is None


TABLE = ["4711", "12", "990", "3", "58", "7"]


@pytest.mark.parametrize(
    "vary",
    [
        # Each chapter has its own line.
        lambda number: f"Chapter {'ABCDEF'[number]}",
        # Numbers that do not count the pages are those of a table or of captions.
        lambda number: TABLE[number],
        lambda number: f"Figure {TABLE[number]}",
        # Half of the pages are not most of them.
        lambda number: "ACME" if number in (0, 1, 4) else f"Line {'ABCDEF'[number]}",
    ],
)
def test_lines_that_do_not_repeat_stay(vary: Callable[[int], str]):
    for place in ("header", "footer"):
        pages = [write(number, pages=1, **{place: vary(number)})[0] for number in range(6)]
        assert strip(pages) == (pages, {})


def test_a_line_inside_the_text_stays_wherever_it_repeats():
    body = "{w} first.\nSecond {w}.\nThe same line.\nThird {w}.\nLast {w}."
    pages = [write(number * 7, pages=1, body=body)[0] for number in (3, 1, 8, 2, 9, 4)]
    assert strip(pages) == (pages, {})


def test_a_page_of_nothing_else_keeps_its_lines():
    pages = [*write(1, header="ACME\nInternal"), "ACME\nInternal"]
    assert strip(pages)[0] == [*write(1), "ACME\nInternal"]


H1, H2, S1, S2 = HEADING_MARKS[1], HEADING_MARKS[2], SECTION_MARKS[1], SECTION_MARKS[2]


@pytest.mark.parametrize(
    ("header", "before_text", "expected"),
    [
        (f"{S1}{mark_line(0)}ACME", mark_line(1), [(1, "")]),
        (f"{H1}ACME", "", [(1, "")]),
        (f"{S2}ACME\n\n{H1}Internal", "", [(1, "")]),
        (f"{H2}ACME\n{S2}Internal", f"{TABLE_MARK}{mark_line(1)}", [(2, "")]),
        # The line has a mark of its own: one place has one.
        (f"{S1}ACME", H1, [(1, "Comega begins.")]),
        (f"{S1}ACME", f"{mark_line(1)}{H2}", [(1, "Comega begins.")]),
        (f"{S2}ACME", S1, [(1, "")]),
        (f"{S1}ACME", S2, [(1, "")]),
        (f"{TABLE_MARK}{mark_line(0)}ACME", mark_line(1), []),
    ],
)
def test_a_section_that_begins_with_a_header_begins_with_the_text(
    header: str, before_text: str, expected: list[tuple[int, str]]
):
    pages = write(0, header=strip_marks(header))
    pages[2] = f"{header}\n{before_text}{write(2, pages=1)[0]}"
    texts, _ = strip(pages)
    marked = [take_marks(text) for text in texts]
    assert [one.text for one in marked] == write(0)
    assert marked[2].outline.headings == [Heading(0, level, text) for level, text in expected]
    assert not any(one.outline.headings for number, one in enumerate(marked) if number != 2)


def test_a_section_that_begins_with_a_footer_begins_on_the_next_page():
    pages = [text.replace("Draft", f"{S1}Draft") for text in write(0, footer="Draft")]
    pages.insert(3, "")
    marked = [take_marks(text) for text in strip(pages)[0]]
    # Nothing follows the footer of the last page, and no page comes before the first.
    assert [list(one.outline.headings) for one in marked] == [
        [Heading(0, 1, "")] if number not in (0, 3) else [] for number in range(7)
    ]
    assert [one.text for one in marked if one.text] == write(0)


def test_it_does_nothing_the_second_time():
    once, _ = strip(write(1, header="ACME", footer="{n}"))
    assert strip(once) == (once, {})
