"""Parsing and cutting as one step: the bytes of a version to its pieces, numbered and named."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from chassis.base.errors import InvalidInputError
from ingest import domain
from ingest.chunking import Chunk, ChunkSettings, chunk
from ingest.domain import Draft, Piece, Prepared, Version, batch_numbers
from ingest.parsing.assemble import assemble
from ingest.parsing.decode import decode_unicode
from ingest.parsing.detect import detect
from ingest.parsing.document import MediaType, ParsedDocument
from ingest.parsing.parser import Parser
from ingest.parsing.reading import Reading
from ingest.usecases.ports import CutText

# Up to this size plain text is ready within 35 ms of processor time, whatever it holds, and mostly
# within 4: no child process is worth that.
SMALL_TEXT_BYTES: Final = 64 * 1024
# Below this a thread costs more than the cutting.
AT_ONCE_CHARS: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A document cut into chunks; the same for every version that has these bytes."""

    title: str
    media_type: str
    chunks: Sequence[Chunk]
    settings: ChunkSettings

    def prepare(self, tenant: str, document: str, number: int) -> Prepared:
        """The pieces of one version, under ids of its own."""
        batches = batch_numbers([one.text for one in self.chunks])
        return Prepared(
            title=self.title,
            media_type=self.media_type,
            pieces=[
                Piece(
                    chunk_id=domain.chunk_id(
                        tenant, document, number, one.ordinal, self.settings.key
                    ),
                    ordinal=one.ordinal,
                    batch=batch,
                    text=one.text,
                    start=one.start,
                    end=one.end,
                    page=one.page or 0,
                )
                for one, batch in zip(self.chunks, batches, strict=True)
            ],
        )


def cut_small_text(
    data: bytes, *, media_type: str, file_name: str, settings: ChunkSettings
) -> Cut | None:
    """Cut plain text of at most `SMALL_TEXT_BYTES` on the spot, exactly as `ParseAndCut` would.

    None for everything else: another format, an encoding that has to be guessed, and what is to
    be refused. Never waits, never raises.
    """
    if not 0 < len(data) <= SMALL_TEXT_BYTES:
        return None
    try:
        if detect(data, media_type=media_type, file_name=file_name) is not MediaType.TEXT:
            return None
        text = decode_unicode(data)
        return (
            None
            if text is None
            else _cut(assemble(Reading("", [text], 0), MediaType.TEXT), settings)
        )
    except InvalidInputError:
        return None  # the full path refuses it, with the reason


def prepare_small_text(version: Version, data: bytes, settings: ChunkSettings) -> Prepared | None:
    """`cut_small_text` for a version that has its number."""
    cut = cut_small_text(
        data, media_type=version.media_type_hint, file_name=version.file_name, settings=settings
    )
    return None if cut is None else cut.prepare(version.tenant, version.document, version.number)


class CutSmallText(CutText):
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

    def __init__(self, parser: Parser, settings: ChunkSettings) -> None:
        self._parser = parser
        self._settings = settings

    async def __call__(self, version: Version, data: bytes) -> Prepared:
        """The same bytes and settings make the same pieces under the same ids."""
        if (small := prepare_small_text(version, data, self._settings)) is not None:
            return small
        parsed = await self._parser(
            data, media_type=version.media_type_hint, file_name=version.file_name
        )
        if len(parsed.text) <= AT_ONCE_CHARS:
            return self._prepare(version, parsed)
        return await asyncio.to_thread(self._prepare, version, parsed)

    def _prepare(self, version: Version, parsed: ParsedDocument) -> Prepared:
        cut = _cut(parsed, self._settings)
        return cut.prepare(version.tenant, version.document, version.number)


def _cut(parsed: ParsedDocument, settings: ChunkSettings) -> Cut:
    return Cut(
        title=parsed.title,
        media_type=parsed.media_type,
        chunks=chunk(parsed, settings),
        settings=settings,
    )
