"""Parsing and cutting as one step: from the bytes of a version to its numbered pieces."""

import asyncio
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from typing_extensions import override

from chassis.base.errors import InvalidInputError
from ingest.chunking import Chunk, ChunkSettings, chunk
from ingest.collections import CollectionSettings
from ingest.domain import Draft, Version
from ingest.lanes import share_of
from ingest.notes import Note
from ingest.parsing.data import read_json, read_jsonl
from ingest.parsing.detect import detect
from ingest.parsing.document import MediaType
from ingest.parsing.failure import RefusalError
from ingest.parsing.jail.assemble import assemble
from ingest.parsing.parser import Parser
from ingest.parsing.reading import Reading
from ingest.parsing.steps.near_duplicates import sign
from ingest.parsing.text.decode import decode_unicode
from ingest.pieces import Piece, Prepared
from ingest.steps import CHANGES_TEXT, Step, name_steps
from ingest.traces import trace_steps
from ingest.usecases import ports

# Within these limits any plain text is cut in 15 ms of processor time, most in 4 ms, so a child
# process is not worth its cost. Paragraphs are limited because each is checked for a heading.
SMALL_TEXT_BYTES: Final = 64 * 1024
SMALL_TEXT_PARAGRAPHS: Final = 4_000
# JSON takes a few microseconds for each value or broken line, and repeats the paths of its values.
SMALL_JSON_BYTES: Final = 16 * 1024
SMALL_JSON_VALUES: Final = 2_000
SMALL_JSON_CHARS: Final = 2 * SMALL_TEXT_BYTES
# Pieces to make before other tasks may run: about a millisecond of work.
PIECES_AT_ONCE: Final = 250
BATCH_MAX_CHUNKS: Final = 32
BATCH_MAX_BYTES: Final = 128 * 1024
_IDS = uuid.UUID("0b7d4d1c-3a4e-4b7e-9d53-6f2f0f0c8e55")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(ports.Cut):
    """A document cut into chunks; equal for all versions with these bytes and settings."""

    title: str
    media_type: str
    notes: Sequence[Note]
    chunks: Sequence[Chunk]
    signature: bytes = b""
    settings: ChunkSettings
    steps: Sequence[Step] = ()

    @override
    def prepare(self, tenant: str, document: str, number: int, /) -> Prepared:
        """The pieces of one version, with the version's own ids."""
        return self.join(list(self.pieces(tenant, document, number)))

    def join(self, pieces: Sequence[Piece]) -> Prepared:
        """The result of preparing a version with these pieces of it."""
        return Prepared(
            title=self.title,
            media_type=self.media_type,
            notes=self.notes,
            pieces=pieces,
            signature=self.signature,
        )

    def sign(self) -> "Cut":
        """The same with the signature of its text."""
        text = "".join(f"{one.gap}{one.text}" for one in self.chunks)
        return replace(self, signature=sign(text))

    def pieces(self, tenant: str, document: str, number: int) -> Iterator[Piece]:
        """Yields the pieces in order."""
        batches = batch_numbers(map(_measure, self.chunks))
        settings = "+".join((self.settings.key, *name_steps(self.steps)))
        for one, batch in zip(self.chunks, batches, strict=True):
            yield Piece(
                chunk_id=chunk_id(tenant, document, number, one.ordinal, settings),
                ordinal=one.ordinal,
                batch=batch,
                gap=one.gap,
                text=one.text,
                start=one.start,
                end=one.end,
                page=one.page or 0,
                page_breaks=one.page_breaks,
                headings=one.place.headings,
                table_header=one.place.table_header,
                lines=one.lines,
            )


def chunk_id(tenant: str, document: str, version: int, ordinal: int, settings: str) -> uuid.UUID:
    """Derives the id of a chunk from its version and place; `settings` names how it was cut."""
    return uuid.uuid5(_IDS, "\x1f".join((tenant, document, str(version), str(ordinal), settings)))


def batch_numbers(sizes: Iterable[int]) -> Iterator[int]:
    """Yields the batch number of each chunk by its size in bytes.

    A batch has at most 32 chunks and 128 KiB.
    """
    batch = count = size = 0
    for length in sizes:
        if count == BATCH_MAX_CHUNKS or (count and size + length > BATCH_MAX_BYTES):
            batch, count, size = batch + 1, 0, 0
        count, size = count + 1, size + length
        yield batch


def _measure(one: Chunk) -> int:
    """Bytes of a chunk in an event: text, headings, table header and lines."""
    texts = "".join((*one.place.headings, one.place.table_header, one.text))
    return len(texts.encode()) + len(one.lines)


def cut_small_text(
    data: bytes, *, media_type: str, file_name: str, settings: ChunkSettings
) -> Cut | None:
    """Cut text of at most `SMALL_TEXT_BYTES`, or smaller JSON, exactly as `ParseAndCut` does.

    Returns None for another format, an encoding that has to be guessed, text that would take long,
    and text to be refused. Never waits and never raises.
    """
    if not 0 < len(data) <= SMALL_TEXT_BYTES:
        return None
    try:
        found = detect(data, media_type=media_type, file_name=file_name)
        if (reading := _read_small_text(data, found)) is None:
            return None
        parsed = assemble(reading, found)
    except (InvalidInputError, RefusalError):
        return None  # the full path refuses it, with the reason
    if parsed.text.count("\n\n") > SMALL_TEXT_PARAGRAPHS:
        return None
    return Cut(
        title=parsed.title,
        media_type=parsed.media_type,
        notes=parsed.notes,
        chunks=chunk(parsed, settings),
        settings=settings,
    )


def _read_small_text(data: bytes, found: MediaType) -> Reading | None:
    if found not in (MediaType.TEXT, MediaType.JSON, MediaType.JSONL):
        return None
    if (decoded := decode_unicode(data)) is None:
        return None
    text = decoded.text
    if found is MediaType.TEXT:
        return Reading("", [text], decoded.notes)
    if len(data) > SMALL_JSON_BYTES or sum(map(text.count, ",:\n[{")) > SMALL_JSON_VALUES:
        return None
    read = read_json.read if found is MediaType.JSON else read_jsonl.read
    return read(text.encode(), SMALL_JSON_CHARS).add_notes(decoded.notes)


def prepare_small_text(
    version: Version, data: bytes, settings: ChunkSettings, *, signed: bool = False
) -> Prepared | None:
    """`cut_small_text` for a version with a known number; `signed`: with a signature."""
    cut = cut_small_text(
        data, media_type=version.media_type_hint, file_name=version.file_name, settings=settings
    )
    if cut is None:
        return None
    cut = cut.sign() if signed else cut
    return cut.prepare(version.tenant, version.document, version.number)


class CutSmallText(ports.CutText):
    """See `CutText`."""

    def __init__(self, settings: ChunkSettings) -> None:
        self._settings = settings

    @override
    def __call__(self, draft: Draft, content: bytes, /) -> Cut | None:
        return cut_small_text(
            content,
            media_type=draft.media_type,
            file_name=draft.file_name,
            settings=self._settings,
        )


class ParseAndCut:
    """See `Parse`."""

    def __init__(self, parser: Parser, sizes: ChunkSettings) -> None:
        self._parser = parser
        self._sizes = sizes

    async def __call__(
        self, version: Version, data: bytes, settings: CollectionSettings, password: str = ""
    ) -> Prepared:
        """Parse and cut a version; equal bytes and settings give equal pieces with equal ids."""
        sizes = self._sizes
        if settings.has_chunk_sizes:
            sizes = ChunkSettings(target_chars=settings.target_chars, max_chars=settings.max_chars)
        is_signed = Step.NEAR_DUPLICATES in settings.steps
        changing = [step for step in settings.steps if step in CHANGES_TEXT]
        # Steps that change a text may take long, so it goes to a child.
        if not changing:
            small = prepare_small_text(version, data, sizes, signed=is_signed)
            if small is not None:
                trace_steps((), settings.steps)
                return small
        document = await self._parser(
            data,
            media_type=version.media_type_hint,
            file_name=version.file_name,
            tenant=share_of(version.tenant, version.lane),
            password=password,
            settings=sizes,
            steps=settings.steps,
        )
        trace_steps(document.applied, settings.steps)
        cut = Cut(
            title=document.title,
            media_type=document.media_type,
            notes=[*document.notes, *(one.note() for one in document.applied)],
            chunks=document.chunks,
            signature=document.signature,
            settings=sizes,
            steps=changing,
        )
        pieces: list[Piece] = []
        left = cut.pieces(version.tenant, version.document, version.number)
        while some := list(islice(left, PIECES_AT_ONCE)):
            pieces += some
            await asyncio.sleep(0)
        return cut.join(pieces)
