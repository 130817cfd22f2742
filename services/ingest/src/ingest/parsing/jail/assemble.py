"""Assembles the text of a reader into one clean text with its pages."""

from chassis.base.errors import InvalidInputError
from ingest.notes import Note, NoteCode, render_count
from ingest.outline import Heading, Outline, Table
from ingest.parsing.document import MediaType, PageStart, ParsedDocument
from ingest.parsing.failure import ParseFailure
from ingest.parsing.outline_marks import take_outline
from ingest.parsing.reading import Reading
from ingest.parsing.text.clean import clean, clean_title

PAGED = (MediaType.PDF, MediaType.TIFF)
SENTENCE_ENDS = (".", "!", "?", ":", "\u3002", "\uff01", "\uff1f", "\u2026", '"', "\u201d", ")")


def assemble(reading: Reading, media_type: MediaType) -> ParsedDocument:
    """Joins the pages, without those that have no text.

    Raises:
        InvalidInputError: `NO_TEXT`.
    """
    text, pages = "", []
    headings: list[Heading] = []
    tables: list[Table] = []
    for number, raw in enumerate(reading.texts, 1):
        page = clean(raw, is_marked=reading.is_marked)
        if not page:
            continue
        if text:
            # A sentence that runs over the page end stays one sentence.
            text += "\n" if page[0].islower() and not text.endswith(SENTENCE_ENDS) else "\n\n"
        pages.append(PageStart(number=number, start_char=len(text)))
        if reading.is_marked:
            page, outline = take_outline(page, len(text))
            headings += outline.headings
            tables += outline.tables
        text += page
    if not text:
        raise InvalidInputError(
            ParseFailure.NO_TEXT, "no text found; if this is a scan, run OCR first"
        )
    notes = reading.notes
    if empty := len(reading.texts) - len(pages):
        of_all = f"{empty:,} of {render_count(len(reading.texts), 'page')} without readable text"
        notes += (Note(NoteCode.PAGES_WITHOUT_TEXT, f"{of_all}; they may be scans"),)
    return ParsedDocument(
        title=clean_title(reading.title),
        text=text,
        pages=tuple(pages) if media_type in PAGED else (),
        media_type=media_type,
        outline=Outline(headings, tables),
        notes=notes,
    )
