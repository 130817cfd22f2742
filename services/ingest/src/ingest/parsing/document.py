"""The result of parsing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ingest.chunking import Chunk
from ingest.lines import Lines
from ingest.notes import Note
from ingest.outline import NO_OUTLINE, Outline
from ingest.steps import Applied


class MediaType(StrEnum):
    """The accepted formats; others are refused."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    CSV = "text/csv"
    TSV = "text/tab-separated-values"
    JSON = "application/json"
    JSONL = "application/jsonl"
    XML = "application/xml"
    NOTEBOOK = "application/x-ipynb+json"
    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    XLS = "application/vnd.ms-excel"
    ODT = "application/vnd.oasis.opendocument.text"
    ODS = "application/vnd.oasis.opendocument.spreadsheet"
    ODP = "application/vnd.oasis.opendocument.presentation"
    RTF = "application/rtf"
    EPUB = "application/epub+zip"
    EML = "message/rfc822"
    MSG = "application/vnd.ms-outlook"
    MHTML = "multipart/related"
    PNG = "image/png"
    JPEG = "image/jpeg"
    TIFF = "image/tiff"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageStart:
    """A page that has text: its number from 1, and the offset of its first character."""

    number: int
    start_char: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    r"""Clean text of one document.

    `text` is NFC, has `\n` line ends, no control, bidi-override or invisible characters, and is
    never empty. `title` is one line, empty if the document has none. `pages` ascends by
    `start_char` and is empty if the format has no pages. `outline` is empty if the format does not
    tell headings and tables, `lines` if it does not tell where they stand on a page. `applied` are
    the steps that changed it. `signature` is that of the text, if it was asked for.
    """

    title: str
    text: str
    pages: tuple[PageStart, ...]
    media_type: MediaType
    outline: Outline = NO_OUTLINE
    lines: Lines = field(default_factory=Lines)
    notes: tuple[Note, ...] = ()
    applied: tuple[Applied, ...] = ()
    signature: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutDocument:
    """A parsed document and its chunks, which make up its text; at least one, in order."""

    title: str
    pages: Sequence[PageStart]
    media_type: MediaType
    notes: Sequence[Note]
    applied: Sequence[Applied]
    chunks: Sequence[Chunk]
    signature: bytes = b""

    @property
    def text(self) -> str:
        """The whole text, as in `ParsedDocument`; slow for a large document."""
        return "".join(one.gap + one.text for one in self.chunks)
