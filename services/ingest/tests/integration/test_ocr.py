"""OCR in its jailed child, with tesseract's language data from the test requirements."""

import sys
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from chassis.base.errors import FailedPreconditionError, InvalidInputError
from ingest.notes import NoteCode
from ingest.parsing.document import MediaType
from ingest.parsing.jail.jailed import OCR_LIMITS
from ingest.parsing.ocr.data import OcrData
from ingest.parsing.parser import Parser, ParserLimits
from testkit.pdf import lines, pdf

DATA = OcrData(str(Path(sys.prefix, "share/tessdata")), "eng")
FIRST = ("The pump of well seventeen was replaced", "in August, after the water level had fallen.")
DOT = Image.new("1", (8, 8))
SECOND = ("A second observation well was drilled", "beside the river in the spring of that year.")


@pytest.fixture
def parser() -> Parser:
    """Not entered, as that of the other tests of formats."""
    return Parser(ParserLimits(), DATA.check())


def draw(*texts: str, size: int = 44) -> Image.Image:
    picture = Image.new("L", (1240, 420), 255)
    font = ImageFont.load_default(size)
    for number, text in enumerate(texts):
        ImageDraw.Draw(picture).text((80, 100 + 90 * number), text, 0, font)
    return picture


def pack(picture: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    packed = BytesIO()
    picture.save(packed, kind, **settings)
    return packed.getvalue()


def scan(picture: Image.Image) -> bytes:
    """A page of a PDF that is a picture."""
    body = zlib.compress(picture.tobytes())
    head = f"/W {picture.width} /H {picture.height} /CS /G /BPC 8 /F /Fl".encode()
    return pdf(b"q 460 0 0 156 70 500 cm BI " + head + b" ID " + body + b" EI Q")


async def read(parser: Parser, data: bytes, file_name: str = ""):
    return await parser(data, media_type="", file_name=file_name)


async def find_refusal(parser: Parser, data: bytes, file_name: str = "") -> InvalidInputError:
    with pytest.raises(InvalidInputError) as refused:
        await read(parser, data, file_name)
    return refused.value


@pytest.mark.parametrize(
    ("kind", "media_type", "settings"),
    [
        ("PNG", MediaType.PNG, {}),
        ("JPEG", MediaType.JPEG, {"quality": 70}),
        ("TIFF", MediaType.TIFF, {"compression": "tiff_lzw"}),
    ],
)
async def test_a_picture_is_read_and_says_so(parser, kind, media_type, settings):
    document = await read(parser, pack(draw(*FIRST), kind, **settings))
    assert document.media_type == media_type
    assert document.text.split() == " ".join(FIRST).split()
    (note,) = document.notes
    assert note.code is NoteCode.TEXT_RECOGNISED
    assert note.detail.startswith("text of 1 page by OCR (eng), confidence 0.9")


async def test_chunks_of_a_tiff_have_their_page(parser):
    pages = [draw(*FIRST), Image.new("L", (1240, 420), 255), draw(*SECOND)]
    data = pack(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    document = await read(parser, data)
    assert [(page.number, page.start_char > 0) for page in document.pages] == [
        (1, False),
        (3, True),
    ]
    assert document.chunks[0].page == 1
    assert {note.code for note in document.notes} == {
        NoteCode.TEXT_RECOGNISED,
        NoteCode.PAGES_WITHOUT_TEXT,
    }


@pytest.mark.parametrize("turn", [90, 180, 270])
async def test_a_turned_picture_is_read(parser, turn):
    document = await read(parser, pack(draw(*FIRST).rotate(turn, expand=True)))
    assert document.text.split() == " ".join(FIRST).split()


async def test_a_scanned_pdf_is_read_with_its_pages(parser):
    document = await read(parser, scan(draw(*FIRST)))
    assert document.media_type == MediaType.PDF
    assert document.text.split() == " ".join(FIRST).split()
    assert [page.number for page in document.pages] == [1]
    assert document.chunks[0].page == 1


async def test_a_pdf_with_a_text_layer_needs_no_ocr(parser):
    document = await read(parser, pdf(lines(b"text layer")))
    assert (document.text, document.notes) == ("text layer", ())


async def test_what_is_not_certain_is_refused(parser):
    drawing = Image.new("L", (1240, 420), 255)
    for place in range(0, 1200, 40):
        ImageDraw.Draw(drawing).ellipse((place, place // 4, place + 90, place // 4 + 70), outline=0)
    refused = await find_refusal(parser, pack(drawing))
    assert refused.reason in ("OCR_UNCERTAIN", "NO_TEXT")


async def test_an_empty_picture_has_no_text(parser):
    assert (await find_refusal(parser, pack(draw()))).reason == "NO_TEXT"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pack(draw(*FIRST))[:2000], "DOCUMENT_DAMAGED"),
        (b"\x89PNG\r\n\x1a\n\x00\x00 broken", "DOCUMENT_DAMAGED"),
        (pack(draw(*FIRST), "JPEG")[:300], "DOCUMENT_DAMAGED"),
        (pack(Image.new("1", (20_000, 20_000))), "DOCUMENT_TOO_LARGE"),
        (pack(DOT, "TIFF", save_all=True, append_images=[DOT] * 200), "DOCUMENT_TOO_LARGE"),
    ],
    ids=["cut PNG", "no PNG", "cut JPEG", "bomb", "many pages"],
)
async def test_a_picture_made_to_break_it_is_refused(parser, data, reason):
    assert (await find_refusal(parser, data)).reason == reason


async def test_without_ocr_pictures_and_scans_are_refused():
    async with Parser(ParserLimits()) as parser:
        for data in (pack(draw(*FIRST)), pack(draw(*FIRST), "JPEG"), scan(draw(*FIRST))):
            assert (await find_refusal(parser, data)).reason == "NEEDS_OCR"


async def test_time_and_memory_are_bounded():
    # The engine does not always end with the signal for a lack of memory.
    for limits, reasons in (
        ({"cpu_s": 1, "cpu_base_s": 1}, {"PARSER_TIME_LIMIT"}),
        ({"memory_bytes": 128 << 20}, {"PARSER_MEMORY_LIMIT", "PARSER_CRASHED"}),
    ):
        tight = ParserLimits(**({"children": 1} | limits))
        async with Parser(ParserLimits(), DATA, tight) as parser:
            pages = [draw(*FIRST)] * 20
            data = pack(pages[0], "TIFF", save_all=True, append_images=pages[1:])
            assert (await find_refusal(parser, data)).reason in reasons
    assert OCR_LIMITS.cpu_s == 300


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (OcrData("/nowhere", "eng"), "OCR_DATA_MISSING"),
        (DATA._replace(languages="eng+xyz"), "OCR_DATA_MISSING"),
        (DATA._replace(languages="../eng"), "OCR_LANGUAGES_INVALID"),
        (DATA._replace(languages="eng;deu"), "OCR_LANGUAGES_INVALID"),
    ],
)
def test_missing_language_data_stops_the_start(data, reason):
    with pytest.raises(FailedPreconditionError) as refused:
        data.check()
    assert refused.value.reason == reason
