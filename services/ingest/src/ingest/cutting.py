"""Parsing and cutting as one step: the bytes of a version to its pieces, numbered and named."""

import asyncio
from typing import Final

from ingest import domain
from ingest.chunking import ChunkSettings, chunk
from ingest.domain import Piece, Prepared, Version, batch_numbers
from ingest.parsing.document import ParsedDocument
from ingest.parsing.parser import Parser

# Below this a thread costs more than the cutting.
AT_ONCE_CHARS: Final = 50_000


class ParseAndCut:
    """See `Parse`."""

    def __init__(self, parser: Parser, settings: ChunkSettings) -> None:
        self._parser = parser
        self._settings = settings

    async def __call__(self, version: Version, data: bytes) -> Prepared:
        """The same bytes and settings make the same pieces under the same ids."""
        parsed = await self._parser(
            data, media_type=version.media_type_hint, file_name=version.file_name
        )
        if len(parsed.text) <= AT_ONCE_CHARS:
            return self._cut(version, parsed)
        return await asyncio.to_thread(self._cut, version, parsed)

    def _cut(self, version: Version, parsed: ParsedDocument) -> Prepared:
        chunks = chunk(parsed, self._settings)
        owner = (version.tenant, version.document, version.number)
        batches = batch_numbers([one.text for one in chunks])
        return Prepared(
            title=parsed.title,
            media_type=parsed.media_type,
            pieces=[
                Piece(
                    chunk_id=domain.chunk_id(*owner, one.ordinal, self._settings.key),
                    ordinal=one.ordinal,
                    batch=batch,
                    text=one.text,
                    start=one.start,
                    end=one.end,
                    page=one.page or 0,
                )
                for one, batch in zip(chunks, batches, strict=True)
            ],
        )
