"""Assembles the text of a reader into one clean text with its pages."""

from collections.abc import Sequence

from chassis.base.errors import InvalidInputError
from ingest.lines import Lines
from ingest.notes import Note, NoteCode, render_count
from ingest.outline import Heading, Outline, Table
from ingest.parsing.document import MediaType, PageStart, ParsedDocument
from ingest.parsing.failure import ParseFailure
from ingest.parsing.outline_marks import MARKS, take_marks
from ingest.parsing.reading import Reading
from ingest.parsing.steps.apply import apply
from ingest.parsing.steps.pages import Pages
from ingest.parsing.text.clean import clean, clean_title
from ingest.steps import Step

PAGED = (MediaType.PDF, MediaType.TIFF)
SENTENCE_ENDS = (".", "!", "?", ":", "\u3002", "\uff01", "\uff1f", "\u2026", '"', "\u201d", ")")

_MARKS = "".join(MARKS)


def assemble(reading: Reading, media_type: MediaType, steps: Sequence[Step] = ()) -> ParsedDocument:
    """Cleans the pages, applies the steps and joins the pages that have text.

    Raises:
        InvalidInputError: `NO_TEXT`.
    """
    texts = [clean(raw, is_marked=reading.is_marked) for raw in reading.texts]
    cleaned, applied = apply(Pages(clean_title(reading.title), texts), steps)
    text, pages = "", []
    headings: list[Heading] = []
    tables: list[Table] = []
    lines = Lines()
    for number, page in enumerate(cleaned.texts, 1):
        if not page:
            continue
        if text:
            # A sentence that runs over the page end stays one sentence.
            goes_on = page.lstrip(_MARKS)[:1].islower() and not text.endswith(SENTENCE_ENDS)
            text += "\n" if goes_on else "\n\n"
        pages.append(PageStart(number=number, start_char=len(text)))
        if reading.is_marked:
            page, outline, marks = take_marks(page, len(text))  # noqa: PLW2901
            headings += outline.headings
            tables += outline.tables
            if marks:
                lines.add_page(page, len(text), marks, reading.boxes[number - 1])
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
        title=cleaned.title,
        text=text,
        pages=tuple(pages) if media_type in PAGED else (),
        media_type=media_type,
        outline=Outline(headings, tables),
        lines=lines,
        notes=notes,
        applied=applied,
    )
