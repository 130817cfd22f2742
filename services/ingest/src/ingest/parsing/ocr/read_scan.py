"""Reads PDF, and by OCR its pages without readable text; runs in the child."""

from math import sqrt
from typing import Final

from PIL import Image

from ingest.parsing.ocr import engine
from ingest.parsing.ocr.data import OcrData
from ingest.parsing.ocr.pages import PIXELS_MAX, PageRecogniser, check_pages
from ingest.parsing.pdf import pdfium
from ingest.parsing.pdf.read_pdf import open_document, open_page, read_texts
from ingest.parsing.reading import Reading

THREADS_MAX = engine.THREADS_MAX
POINTS_PER_INCH: Final = 300
# The unit of PDF.
UNITS_PER_INCH: Final = 72


def read(data: bytes, limit_chars: int, ocr: OcrData, password: str = "") -> Reading:
    """Reads the text of every page, from its text layer where that is readable.

    Raises:
        RefusalError: as `read_pdf.read`; `DOCUMENT_TOO_LARGE` or `OCR_UNCERTAIN`.
    """
    with open_document(data, password) as document:
        reading = read_texts(document, data, limit_chars, password)
        recogniser = PageRecogniser(ocr, limit_chars)
        without = [number for number, text in enumerate(reading.texts) if not text.strip()]
        check_pages(len(without))
        for number in without:
            if (picture := _render(document, number)) is not None:
                reading.texts[number] = recogniser.read(picture)
    if not any(text.strip() for text in reading.texts):
        recogniser.check_certain()
    return reading.add_notes(recogniser.describe())


def _render(document: int, number: int) -> Image.Image | None:
    """The page in grey; None for one that shows nothing."""
    with open_page(document, number) as page:
        if not pdfium.count_page_objects(page):
            return None
        width, height = pdfium.find_page_size(page)
        scale = POINTS_PER_INCH / UNITS_PER_INCH
        scale = min(scale, sqrt(PIXELS_MAX / max(1.0, width * height)))
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        return Image.frombytes("L", size, pdfium.render_grey(page, *size))
