"""The pieces of a version: what a parsed document is stored and embedded as."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.notes import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A chunk as it is stored; `page` is the page on which it begins, 0 for a format without pages.

    `page_breaks` are the pages that begin inside it: the offset in the document's cleaned text, and
    the number of the page. `gap` is the white space before it, from the end of the chunk before.
    `headings` are those it stands under, outermost first; `table_header` is the header row of the
    table that it continues. `lines` are where its lines stand on their pages, see `aquifer.lines`.
    """

    chunk_id: uuid.UUID
    ordinal: int
    batch: int
    gap: str
    text: str
    start: int
    end: int
    page: int
    page_breaks: Sequence[tuple[int, int]] = ()
    headings: Sequence[str] = ()
    table_header: str = ""
    lines: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The result of parsing and cutting a version; at least one piece, and a signature or none."""

    title: str
    media_type: str
    notes: Sequence[Note] = ()
    pieces: Sequence[Piece]
    signature: bytes = b""

    @property
    def batch_count(self) -> int:
        """Number of batches, which are numbered from 0 in the order of the pieces."""
        return self.pieces[-1].batch + 1
