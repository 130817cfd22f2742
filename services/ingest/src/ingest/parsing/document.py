"""What parsing yields."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ingest.chunking import Chunk


class MediaType(StrEnum):
    """The formats accepted; everything else is refused."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageStart:
    """A page that has text: its number from 1, and the offset of its first character."""

    number: int
    start_char: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    r"""Clean text of one document.

    `text` is NFC, has `\n` line ends, no control, bidi-override or invisible characters, and is
    never empty. `title` is one line, empty when the document names none. `pages` ascends by
    `start_char` and is empty when the format has no pages.
    """

    title: str
    text: str
    pages: tuple[PageStart, ...]
    media_type: MediaType


@dataclass(frozen=True, slots=True, kw_only=True)
class CutDocument:
    """A parsed document and its chunks; at least one, in order. `parts` make up its text."""

    title: str
    parts: Sequence[str]
    pages: Sequence[PageStart]
    media_type: MediaType
    chunks: Sequence[Chunk]

    @property
    def text(self) -> str:
        """The whole text, as of `ParsedDocument`; takes long for a large one."""
        return "".join(self.parts)
