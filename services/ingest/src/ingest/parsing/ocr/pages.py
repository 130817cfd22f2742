"""Recognises the pages of a document, and says how certain its text is."""

from typing import Final

from PIL.Image import Image

from ingest.notes import Note, NoteCode, render_count
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.ocr.data import OcrData
from ingest.parsing.ocr.engine import recognise
from ingest.parsing.reading import check_length

PAGES_MAX: Final = 200
# A page of A4 with 600 points an inch has 35 millions.
PIXELS_MAX: Final = 40_000_000


class PageRecogniser:
    """Reads one page after another; what is not certain is left out, and counted."""

    def __init__(self, data: OcrData, limit_chars: int) -> None:
        self._data = data
        self._limit_chars = limit_chars
        self._size_chars = 0
        self._certain: list[float] = []
        self._uncertain: list[float] = []

    def read(self, picture: Image) -> str:
        """The text of a page; empty if there is none, or none that is certain.

        Raises:
            RefusalError: `DOCUMENT_DAMAGED` or `PARSER_OUTPUT_LIMIT`.
        """
        found = recognise(picture, self._data)
        if not found.text.strip():
            return ""
        if not found.is_certain:
            self._uncertain.append(found.confidence)
            return ""
        self._certain.append(found.confidence)
        self._size_chars += len(found.text)
        check_length(self._size_chars, self._limit_chars)
        return found.text

    def check_certain(self) -> None:
        """Refuse a document of which no page is certain, unless none has text."""
        if not self._certain and self._uncertain:
            raise RefusalError(
                ParseFailure.OCR_UNCERTAIN,
                f"OCR is certain of no page, at best {max(self._uncertain):.2f} of 1; scan it"
                " again, straight and with 300 points an inch",
            )

    def describe(self) -> tuple[Note, ...]:
        """A note on the recognised text; none if there is none."""
        if not self._certain:
            return ()
        mean = sum(self._certain) / len(self._certain)
        detail = (
            f"text of {render_count(len(self._certain), 'page')} by OCR ({self._data.languages}),"
            f" confidence {mean:.2f} of 1, at least {min(self._certain):.2f}"
        )
        if self._uncertain:
            detail += f"; {render_count(len(self._uncertain), 'page')} left out as not certain"
        return (Note(NoteCode.TEXT_RECOGNISED, detail),)


def check_pages(count: int) -> None:
    """Refuse a document with more pages for OCR than `PAGES_MAX`."""
    if count > PAGES_MAX:
        raise RefusalError(
            ParseFailure.DOCUMENT_TOO_LARGE,
            f"{count} pages need OCR, which reads up to {PAGES_MAX}; split it",
        )
