"""Converts PDF to text, page by page; runs in the child."""

import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from ingest.notes import Note, NoteCode, render_count
from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.pdf import pdfium
from ingest.parsing.pdf.annotations import (
    Overlay,
    draw_into_page,
    place_values,
    read_annotations,
)
from ingest.parsing.pdf.bookmarks import read_bookmarks
from ingest.parsing.pdf.boxes import LineBoxes
from ingest.parsing.pdf.headings import Announced, mark_headings
from ingest.parsing.pdf.hyphens import rejoin
from ingest.parsing.pdf.layers import Layers
from ingest.parsing.pdf.layout import join_rows
from ingest.parsing.pdf.lines import Cell, build_rows
from ingest.parsing.pdf.objects import prepare_objects
from ingest.parsing.pdf.pdfium import Box
from ingest.parsing.pdf.tags import read_tagged_headings
from ingest.parsing.pdf.text import PageText, read_words
from ingest.parsing.reading import Reading, check_length

# Titles that name a tool or a file, not the document.
_NO_TITLE = re.compile(
    r"\(?(?:untitled|anonymous|unspecified|title|document\d*)\)?|microsoft (?:word|powerpoint)\b.*"
    r"|\S*\.(?:pdf|docx?|pptx?|txt|rtf|indd|qxd|ps|dvi|tex)",
    re.IGNORECASE,
)
_SPACE_RUN = re.compile(r"(?<! ) {2,}+")


def read(data: bytes, limit_chars: int, password: str = "") -> Reading:
    """Read the text of every page as it is read on paper; pages of images give empty strings.

    Raises:
        RefusalError: `DOCUMENT_ENCRYPTED`, `PASSWORD_WRONG`, `DOCUMENT_DAMAGED`, `NEEDS_OCR` or
            `PARSER_OUTPUT_LIMIT`. A page that cannot be loaded fails the document, so that it is
            never indexed in part.
    """
    with open_document(data, password) as document:
        reading = read_texts(document, data, limit_chars, password)
    if not any(text.strip() for text in reading.texts):
        raise RefusalError(ParseFailure.NEEDS_OCR, "PDF: no page has readable text; run OCR first")
    return reading


def read_texts(document: int, data: bytes, limit_chars: int, password: str) -> Reading:
    """The readable text of every page of an open document, which may be none."""
    with _open_forms(document) as forms:
        pages = _PageReader(document, forms, Layers(data, password), limit_chars)
        texts = rejoin([pages.read(number) for number in range(pdfium.count_pages(document))])
    return Reading(
        _read_title(document),
        texts,
        _note_unreadable(pages.unreadable),
        is_marked=True,
        boxes=pages.boxes,
    )


def _note_unreadable(signs: int) -> tuple[Note, ...]:
    if not signs:
        return ()
    detail = f"{render_count(signs, 'sign')} left out, because their fonts do not tell the letters"
    return (Note(NoteCode.SIGNS_LEFT_OUT, detail),)


@contextmanager
def open_document(data: bytes, password: str) -> Iterator[int]:
    """The handle of a document.

    Raises:
        RefusalError: `DOCUMENT_ENCRYPTED`, `PASSWORD_WRONG` or `DOCUMENT_DAMAGED`.
    """
    document = pdfium.load_document(data, len(data), password.encode() or None)
    if not document:
        raise _describe_error(pdfium.find_error(), has_password=password != "")
    try:
        yield document
    finally:
        pdfium.close_document(document)


def _describe_error(code: int, *, has_password: bool) -> RefusalError:
    if code == pdfium.PASSWORD_ERROR and has_password:
        return RefusalError(
            ParseFailure.PASSWORD_WRONG,
            "PDF: the password does not open it; upload again with the right one",
        )
    if code == pdfium.PASSWORD_ERROR:
        return RefusalError(
            ParseFailure.DOCUMENT_ENCRYPTED,
            "PDF: needs a password; upload again with it, or remove it from the file",
        )
    if code == pdfium.ENCRYPTION_ERROR:
        return RefusalError(
            ParseFailure.DOCUMENT_ENCRYPTED,
            "PDF: encrypted in a way that cannot be opened; remove that and upload again",
        )
    return RefusalError(ParseFailure.DOCUMENT_DAMAGED, f"PDF: cannot be opened, error {code}")


@contextmanager
def _open_forms(document: int) -> Iterator[int]:
    """The handle of the document's form fields, 0 if it has none."""
    if not pdfium.find_form_type(document):
        yield 0
        return
    forms, _settings = pdfium.open_forms(document)
    try:
        yield forms
    finally:
        pdfium.close_forms(forms)


@contextmanager
def open_page(document: int, number: int) -> Iterator[int]:
    """The handle of a page, numbered from 0."""
    page = _load_page(document, number)
    try:
        yield page
    finally:
        pdfium.close_page(page)


def _load_page(document: int, number: int) -> int:
    page: int | None = pdfium.load_page(document, number)
    if not page:
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED, f"PDF: page {number + 1} cannot be loaded"
        )
    return page


class _PageReader:
    def __init__(self, document: int, forms: int, layers: Layers, limit_chars: int) -> None:
        self._document = document
        self._forms = forms
        self._layers = layers
        self._limit_chars = limit_chars
        self._bookmarks = read_bookmarks(document)
        self._size_chars = 0
        self.unreadable = 0
        self.boxes: list[array[int]] = []

    def read(self, number: int) -> str:
        page = _load_page(self._document, number)
        try:
            overlay = read_annotations(page, self._forms)
            if overlay.drawn and draw_into_page(page, overlay.drawn):
                pdfium.close_page(page)
                page = 0
                page = _load_page(self._document, number)
            found, tagged = self._read_words(page, number)
            lines = LineBoxes(pdfium.find_page_box(page), found.rotation % 360)
            text = _compose(found, overlay, lines)
            self.boxes.append(lines.sides)
            text = self._mark_headings(number, text, lines, tagged)
            return _SPACE_RUN.sub(" ", text)
        finally:
            if page:
                pdfium.close_page(page)

    def _mark_headings(
        self, number: int, text: str, lines: LineBoxes, tagged: Sequence[Announced]
    ) -> str:
        """Mark the headings that the tags of the page tell; without any, those of its bookmarks."""
        bookmarks = self._bookmarks.pop(number, [])
        if lines.lines:
            return mark_headings(text, lines.lines, tagged or bookmarks)
        # The sections of a page without text begin with the next page.
        self._bookmarks.setdefault(number + 1, [])[:0] = [
            bookmark._replace(height=None) for bookmark in bookmarks
        ]
        return text

    def _read_words(self, page: int, number: int) -> tuple[PageText, Sequence[Announced]]:
        hidden = prepare_objects(page, partial(self._layers.is_hidden, number))
        text = pdfium.load_text(page)
        if not text:
            raise RefusalError(
                ParseFailure.DOCUMENT_DAMAGED, f"PDF: page {number + 1} cannot be read"
            )
        try:
            count = max(0, pdfium.count_characters(text))
            self._size_chars += count
            check_length(self._size_chars, self._limit_chars)
            found = read_words(page, text, hidden, count)
            tagged = read_tagged_headings(page, text, hidden)
        finally:
            pdfium.close_text(text)
        self.unreadable += found.unreadable
        return found, tagged


def _compose(found: PageText, overlay: Overlay, lines: LineBoxes) -> str:
    """Text that runs as the page does comes first, then text of other directions, then notes."""
    words = {} if found.is_noise else found.words
    upright = found.rotation % 360
    if overlay.values:
        beside = words.get(upright, [])
        words[upright] = beside + place_values(overlay.values, upright, beside)
    angles = sorted(words, key=lambda angle: (angle - upright) % 360)
    texts = [
        join_rows(build_rows(words[angle]), partial(_mark_cell, lines, angle)) for angle in angles
    ]
    notes = [_mark_note(lines, *note) for note in overlay.notes]
    return "\n\n".join(filter(None, [*texts, *notes]))


def _mark_cell(lines: LineBoxes, angle: int, cell: Cell) -> str:
    box = Box(cell.start, cell.bottom, cell.end, cell.top)
    return lines.mark(box.turn(-angle) if angle else box, cell.text)


def _mark_note(lines: LineBoxes, box: Box, note: str) -> str:
    """A note with one box for all its lines."""
    mark = lines.mark(box, note)
    return "\n".join(mark + line for line in note.split("\n"))


def _read_title(document: int) -> str:
    title = pdfium.read_metadata(document, "Title")
    return "" if _NO_TITLE.fullmatch(title.strip()) else title
