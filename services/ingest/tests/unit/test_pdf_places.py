"""Rectangles of lines: what pdfium finds in each is the text that the line has."""

import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquifer.lines import STEPS_PER_POINT, Line, unpack
from ingest.chunking import ChunkSettings
from ingest.parsing.document import CutDocument, MediaType
from ingest.parsing.jail import child
from ingest.parsing.jail.reply import Reply
from ingest.parsing.jail.task import Task

from .test_read_pdf import form, letters_font, show, write_pdf

SHARED = Path(__file__).resolve().parents[5] / "shared/data"
FILES = [
    *("cases/reading/pdf/columns-across", "cases/reading/pdf/hyphen-space"),
    *("cases/reading/pdf/rot90", "cases/reading/pdf/rot-mixed", "cases/reading/pdf/softhyphen"),
    *("cases/reading/pdf/super", "cases/reading/pdf/three-pages", "cases/reading/pdf/xobject"),
    "parser-files-a/files/markitdown__RECEIPT-2024-TXN-98765_retail_purchase",
    "parser-files-a/files/markitdown__REPAIR-2022-INV-001_multipage",
    "parser-files-a/files/markitdown__SPARSE-2024-INV-1234_borderless_table",
    "parser-files-a/files/markitdown__movie-theater-booking-2024",
    "parser-files-a/files/markitdown__test",
    "parser-files-a/files/pdfminer__zen_of_python_corrupted",
    "parser-files-a/files/pypdf__Seige_of_Vicksburg_Sample_OCR",
    "parser-files-a/files/pypdf__crazyones",
    "parser-files-a/files/sample-files__026-latex-multicolumn__multicolumn",
]
# Above and below this part of a rectangle a letter of a neighbouring line may reach into it.
UPPER, LOWER = 0.3, 0.35
SMALL = ChunkSettings(target_chars=50, max_chars=60)


def cut(data: bytes, sizes: ChunkSettings = SMALL) -> CutDocument:
    """The document as the child reads it and the parent checks it."""
    task = Task(charset="", target_chars=sizes.target_chars, max_chars=sizes.max_chars, cpu_s=10)
    reply = Reply(MediaType.PDF, sizes)
    frames = child.build_reply(MediaType.PDF, task, data, 1 << 26)
    [document] = filter(None, [reply.add(frame[4:]) for frame in frames])
    return document


def list_lines(document: CutDocument) -> Iterator[tuple[int, str, Line]]:
    """Page, text and place of each line of each chunk."""
    for one in document.chunks:
        for line in unpack(one.lines):
            start = one.start + line.start
            number = bisect_right(document.pages, start, key=lambda page: page.start_char)
            yield document.pages[number - 1].number, one.text[line.start : line.end], line


def read_back(page: pypdfium2.PdfPage, line: Line) -> str:
    """What stands in the middle of a rectangle; whether it is wide or high tells how text runs."""
    left, top, right, bottom = (side / STEPS_PER_POINT for side in line[2:])
    if right - left >= bottom - top:
        top, bottom = top + UPPER * (bottom - top), bottom - LOWER * (bottom - top)
    else:
        left, right = left + LOWER * (right - left), right - LOWER * (right - left)
    x, y, width, height = *page.get_bbox()[:2], *page.get_size()
    match page.get_rotation():
        case 0:
            box = (left, height - bottom, right, height - top)
        case 90:
            box = (top, left, bottom, right)
        case 180:
            box = (width - right, top, width - left, bottom)
        case _:
            box = (height - bottom, width - right, height - top, width - left)
    shifted = (box[0] + x, box[1] + y, box[2] + x, box[3] + y)
    return page.get_textpage().get_text_bounded(*shifted)


def count_letters(text: str) -> Counter[str]:
    return Counter(sign for sign in unicodedata.normalize("NFKC", text) if sign.isalnum())


def check_places(data: bytes, document: CutDocument) -> int:
    """Checks all lines; a chunk may begin and end inside of its line, so a line may have more."""
    pdf = pypdfium2.PdfDocument(data)
    checked = 0
    for number, text, line in list_lines(document):
        found, wanted = count_letters(read_back(pdf[number - 1], line)), count_letters(text)
        assert not wanted - found, (number, text, line)
        checked += 1
    return checked


def find_coverage(document: CutDocument) -> float:
    """How much of the text stands in lines with a place."""
    signs = sum(len("".join(one.text.split())) for one in document.chunks)
    placed = sum(len("".join(text.split())) for _, text, _ in list_lines(document))
    return placed / signs


TREES = ["oak", "birch", "rowan", "larch-tree", "elm"]
WORDS = st.lists(st.sampled_from(TREES), min_size=3, max_size=9)


@given(
    left=st.lists(WORDS, min_size=1, max_size=8),
    right=st.lists(WORDS, max_size=8),
    rotation=st.sampled_from([0, 90, 180, 270]),
    crop=st.sampled_from(["", "/CropBox [20 30 590 760]", "/CropBox [-50 -50 900 900]"]),
    media=st.sampled_from(["0 0 612 792", "-100 -200 640 800"]),
    size=st.integers(6, 14),
)
@settings(max_examples=60, deadline=None)
def test_a_rectangle_has_the_text_of_its_line(left, right, rotation, crop, media, size):
    lines = [(60, 740 - 18 * row, " ".join(words)) for row, words in enumerate(left)]
    lines += [(320, 740 - 18 * row, " ".join(words)) for row, words in enumerate(right)]
    data = write_pdf(show(*lines, size=size / 2), page=f"/Rotate {rotation} {crop}")
    data = data.replace(b"[0 0 612 792]", f"[{media}]".encode())
    document = cut(data)
    assert check_places(data, document) >= len(left)
    assert find_coverage(document) == 1.0


def test_the_corner_of_a_page_is_the_one_that_is_shown():
    sides = {}
    for rotation in (0, 90, 180, 270):
        page = f"/CropBox [50 60 562 752] /Rotate {rotation}"
        [[_, _, line]] = list_lines(cut(write_pdf(show((150, 652, "Level")), page=page)))
        sides[rotation] = [round(side / STEPS_PER_POINT) for side in line[2:]]
    # Letters of 12 points reach 10 points above their baseline, which is 100 points below the crop
    # box's upper edge, and 2 points below it.
    left, top, right, bottom = sides[0]
    assert (left, top, bottom) == (100, 90, 102)
    width, height = 512, 692
    assert sides[90] == [height - bottom, left, height - top, right]
    assert sides[180] == [width - right, height - bottom, width - left, height - top]
    assert sides[270] == [top, width - right, bottom, width - left]


@pytest.mark.parametrize("file", FILES)
def test_rectangles_hold_in_files_of_others(file):
    path = SHARED / f"{file}.pdf"
    if not path.exists():
        path = None
    data = path.read_bytes() if path else write_pdf(show((72, 700, "Own sample instead.")))
    document = cut(data, ChunkSettings())
    assert check_places(data, document)
    assert find_coverage(document) == 1.0


def test_a_word_that_was_broken_belongs_to_both_lines():
    data = write_pdf(show((72, 700, "The har-"), (72, 686, "bour is closed.")))
    [first, second] = list_lines(cut(data))
    assert (first[1], second[1]) == ("The har", "bour is closed.")
    assert first[2].top < second[2].top


def test_lines_from_right_to_left_have_their_places():
    letters = "שלום "
    content = "BT /F1 12 Tf 1 0 0 1 90 700 Tm <0004> Tj 1 0 0 1 97 700 Tm <0003> Tj ET"
    [[_, text, line]] = list_lines(cut(write_pdf(content, **letters_font(letters))))
    assert text == "ום"
    assert line.left == 90 * STEPS_PER_POINT
    assert line.right > 97 * STEPS_PER_POINT


def test_signs_that_are_replaced_or_dropped_move_nothing():
    content = "BT /F1 12 Tf 72 700 Td <00010002> Tj 0 -20 Td <00030001> Tj ET"
    data = write_pdf(content, **letters_font("a\ufb01\u200b"))
    lines = list(list_lines(cut(data)))
    assert [text for _, text, _ in lines] == ["afi", "a"]


def test_form_values_and_notes_have_the_places_of_their_fields():
    data = form(
        "/FT /Tx /T (a) /V (Ada Winter) /Rect [150 696 300 712]",
        content=show((72, 700, "Name:")),
    )
    [[_, text, line]] = list_lines(cut(data))
    assert text == "Name: Ada Winter"
    assert line.right == 300 * STEPS_PER_POINT


def test_other_formats_have_no_lines():
    task = Task(charset="", target_chars=50, max_chars=60, cpu_s=10)
    reply = Reply(MediaType.HTML, SMALL)
    frames = child.build_reply(MediaType.HTML, task, b"<p>Some words.", 1 << 20)
    [document] = filter(None, [reply.add(frame[4:]) for frame in frames])
    assert [one.lines for one in document.chunks] == [b""]
