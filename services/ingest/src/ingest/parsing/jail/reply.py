"""The reply of a child: a document in frames that are small enough for the parent's event loop.

Text, pages, headings, tables and chunks come in order and in parts, then the notes with the steps,
and the title with the signature of the text; a failure may come at any time. A chunk is sent as its
offsets and, if they are known, its lines.
"""

import binascii
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from aquifer import lines
from chassis.base.errors import InvalidInputError
from ingest.chunking import Chunk, ChunkSettings, locate_chunk
from ingest.notes import Note, NoteCode
from ingest.outline import (
    HEADING_LEVELS,
    HEADING_MAX_CHARS,
    TABLE_HEADER_MAX_CHARS,
    Heading,
    Outline,
    Table,
)
from ingest.parsing.document import CutDocument, MediaType, PageStart, ParsedDocument
from ingest.parsing.failure import ParseFailure
from ingest.parsing.text.clean import clean_title, is_clean
from ingest.signature import NUMBERS
from ingest.steps import CHANGES_TEXT, KINDS_MAX, Applied, Step

# A frame is read within about a millisecond.
PART_CHARS = 32 * 1024
PART_ITEMS = 1024
# Headings, tables and chunks take longer each.
PLACED_ITEMS = 256
LINES = 1024
FRAME_MAX_BYTES = 1 << 20
# What a step may call the things it counts: no text of a document looks so but for words.
_KIND = re.compile("[A-Za-z_ ]{1,32}")


def build_frames(parsed: ParsedDocument, chunks: Sequence[Chunk]) -> Iterator[dict[str, Any]]:
    """Splits a document into frames."""
    for start in range(0, len(parsed.text), PART_CHARS):
        yield {"text": parsed.text[start : start + PART_CHARS]}
    pages = [(page.number, page.start_char) for page in parsed.pages]
    for start in range(0, len(pages), PART_ITEMS):
        yield {"pages": pages[start : start + PART_ITEMS]}
    for start in range(0, len(parsed.outline.headings), PLACED_ITEMS):
        yield {"headings": parsed.outline.headings[start : start + PLACED_ITEMS]}
    for start in range(0, len(parsed.outline.tables), PLACED_ITEMS):
        yield {"tables": parsed.outline.tables[start : start + PLACED_ITEMS]}
    for frame in _group_chunks(parsed, chunks):
        yield {"chunks": frame}
    if parsed.notes or parsed.applied:
        yield {"notes": parsed.notes, "applied": parsed.applied}
    signature = binascii.b2a_base64(parsed.signature, newline=False).decode()
    yield {"title": parsed.title, "signature": signature}


def _group_chunks(parsed: ParsedDocument, chunks: Sequence[Chunk]) -> Iterator[list[Any]]:
    group: list[Any] = []
    lines_count = 0
    for one in chunks:
        packed = parsed.lines.pack(one.start, one.end)
        lines_count += lines.count(packed)
        if group and (len(group) == PLACED_ITEMS or lines_count > LINES):
            yield group
            group, lines_count = [], lines.count(packed)
        group.append((one.start, one.end, *_encode(packed)))
    if group:
        yield group


def _encode(packed: bytes) -> Iterator[str]:
    if packed:
        yield binascii.b2a_base64(packed, newline=False).decode()


def failure_frame(failure: str, detail: str) -> dict[str, Any]:
    """The frame that reports why there is no document."""
    return {"failure": failure, "detail": detail}


class Reply:
    """Assembles the frames of a child, which are as untrusted as the document."""

    def __init__(
        self, media_type: MediaType, settings: ChunkSettings, steps: Sequence[Step] = ()
    ) -> None:
        self._media_type = media_type
        self._steps = steps
        self._max_chars = settings.max_chars
        self._parts: list[str] = []
        self._size_chars = 0
        self._forgotten = 0
        self._pages: list[PageStart] = []
        self._headings: list[Heading] = []
        self._tables: list[Table] = []
        self._outline: Outline | None = None
        self._chunks: list[Chunk] = []
        self._notes: list[Note] = []
        self._applied: list[Applied] = []

    def add(self, frame: bytes) -> CutDocument | None:
        """Add a frame; returns the document after the last one.

        Raises:
            InvalidInputError: the failure that the child reports, or `PARSER_CRASHED` for an
                invalid frame.
        """
        try:
            match json.loads(frame):
                case {"failure": str(failure), "detail": str(detail)}:
                    raise InvalidInputError(ParseFailure(failure), clean_title(detail))
                case {"text": str(text)} if self._is_next(text):
                    self._parts.append(text)
                    self._size_chars += len(text)
                case {"pages": [*pages]} if not self._chunks:
                    self._add_pages(pages)
                case {"headings": [*headings]} if self._outline is None:
                    self._add_headings(headings)
                case {"tables": [*tables]} if self._outline is None:
                    self._add_tables(tables)
                case {"chunks": [*bounds]}:
                    self._add_chunks(bounds)
                case {"notes": [*notes], "applied": [*applied]} if not self._has_notes():
                    self._add_notes(notes)
                    self._add_applied(applied)
                case {"title": str(title), "signature": str(signature)} if self._is_complete():
                    return self._build_document(title, self._read_signature(signature))
                case _:
                    raise _malformed_reply_error()
        except (ValueError, TypeError, RecursionError) as error:
            raise _malformed_reply_error() from error
        return None

    def _is_next(self, text: str) -> bool:
        """Whether a part may follow: all but the last have one size, which `_slice` relies on."""
        is_full = self._size_chars == len(self._parts) * PART_CHARS
        return is_full and 0 < len(text) <= PART_CHARS and not self._chunks and is_clean(text)

    def _has_notes(self) -> bool:
        return bool(self._notes or self._applied)

    def _is_complete(self) -> bool:
        return bool(self._chunks) and self._chunks[-1].end == self._size_chars

    def _slice(self, start: int, end: int) -> str:
        """A slice of the text, without joining all parts."""
        number, offset = divmod(start, PART_CHARS)
        return "".join(self._parts[number : end // PART_CHARS + 1])[offset : offset + end - start]

    def _forget_parts(self, start: int) -> None:
        """Free the parts that end before `start`, of which no further chunk is made."""
        while self._forgotten < start // PART_CHARS:
            self._parts[self._forgotten] = ""
            self._forgotten += 1

    def _add_pages(self, pages: Sequence[Any]) -> None:
        for number, start in pages:
            last = self._pages[-1] if self._pages else PageStart(number=0, start_char=0)
            if not (_is_int(number, start) and number > last.number and start >= last.start_char):
                raise _malformed_reply_error()
            self._pages.append(PageStart(number=number, start_char=start))

    def _add_headings(self, headings: Sequence[Any]) -> None:
        for start, level, text in headings:
            after = self._headings[-1].start if self._headings else -1
            fits = _is_int(start, level) and after < start < self._size_chars
            is_title = text == "" or _is_line(text, HEADING_MAX_CHARS)
            if not (fits and 0 < level <= HEADING_LEVELS and is_title):
                raise _malformed_reply_error()
            self._headings.append(Heading(start, level, text))

    def _add_tables(self, tables: Sequence[Any]) -> None:
        for start, end, header in tables:
            after = self._tables[-1].end if self._tables else 0
            fits = _is_int(start, end) and after <= start < end <= self._size_chars
            if not (fits and _is_line(header, TABLE_HEADER_MAX_CHARS)):
                raise _malformed_reply_error()
            self._tables.append(Table(start, end, header))

    def _add_chunks(self, bounds: Sequence[Any]) -> None:
        if self._outline is None:
            self._outline = Outline(self._headings, self._tables)
        for start, end, *encoded in bounds:
            last = self._chunks[-1].end if self._chunks else 0
            fits = _is_int(start, end) and last <= start < end <= self._size_chars
            if not fits or end - start > self._max_chars:
                raise _malformed_reply_error()
            gap, text = self._slice(last, start), self._slice(start, end)
            if text[-1].isspace() or (text[0].isspace() and not self._is_indented(start)):
                raise _malformed_reply_error()
            if gap.strip():
                raise _malformed_reply_error()
            ordinal = len(self._chunks)
            place = self._outline.locate(start)
            one = locate_chunk(ordinal, gap, text, start, self._pages, place)
            self._chunks.append(replace(one, lines=_decode(*encoded, text=text)))
            self._forget_parts(start)

    def _add_notes(self, notes: Sequence[Any]) -> None:
        if len(notes) > len(NoteCode):
            raise _malformed_reply_error()
        for code, detail in notes:
            self._notes.append(Note(NoteCode(code), clean_title(detail)))

    def _add_applied(self, applied: Sequence[Any]) -> None:
        for name, counts in applied:
            may_run = name in self._steps and name in CHANGES_TEXT
            is_new = name not in [one.step for one in self._applied]
            fits = may_run and is_new and isinstance(counts, dict) and len(counts) <= KINDS_MAX
            if not (fits and _is_int(*counts.values()) and all(map(_KIND.fullmatch, counts))):
                raise _malformed_reply_error()
            self._applied.append(Applied(Step(name), counts))

    def _read_signature(self, encoded: str) -> bytes:
        signature = binascii.a2b_base64(encoded, strict_mode=True)
        is_chosen = Step.NEAR_DUPLICATES in self._steps
        if signature and not (is_chosen and len(signature) == NUMBERS.size):
            raise _malformed_reply_error()
        return signature

    def _is_indented(self, start: int) -> bool:
        """Whether white space at a place is the indentation of a line."""
        begins_line = start == 0 or self._slice(start - 1, start) == "\n"
        return begins_line and self._slice(start, start + 1) != "\n"

    def _build_document(self, title: str, signature: bytes) -> CutDocument:
        return CutDocument(
            title=clean_title(title),
            pages=tuple(self._pages),
            media_type=self._media_type,
            notes=tuple(self._notes),
            applied=tuple(self._applied),
            chunks=self._chunks,
            signature=signature,
        )


def _decode(encoded: str = "", *, text: str) -> bytes:
    """The packed lines of a chunk; raises `TypeError` or `ValueError` for anything else."""
    packed = binascii.a2b_base64(encoded, strict_mode=True)
    if not lines.are_valid(packed, len(text)):
        raise _malformed_reply_error()
    return packed


def _is_int(*values: object) -> bool:
    return all(type(value) is int for value in values)


def _is_line(text: object, limit_chars: int) -> bool:
    if not isinstance(text, str) or not 0 < len(text) <= limit_chars:
        return False
    return is_clean(text) and "\n" not in text


def _malformed_reply_error() -> InvalidInputError:
    return InvalidInputError(ParseFailure.PARSER_CRASHED, "the parser's reply makes no sense")
