"""Any accepted document to clean text. What has a grammar is parsed in a jailed child process."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from chassis.base.errors import InvalidInputError
from ingest.parsing.assemble import assemble
from ingest.parsing.decode import decode, html_charset
from ingest.parsing.detect import charset, detect
from ingest.parsing.document import MediaType, ParsedDocument
from ingest.parsing.failure import ParseFailure
from ingest.parsing.jailed import JailedChild, ParserLimits, believed
from ingest.parsing.reading import Reading

__all__ = ["Parser", "ParserLimits"]

log = logging.getLogger(__name__)

CHILD_FORMATS = {MediaType.MARKDOWN: "markdown", MediaType.HTML: "html", MediaType.PDF: "pdf"}


class Parser:
    """Bytes to `ParsedDocument`; use as `async with Parser(limits) as parser`.

    A child serves one document. One of each format stands ready, so that nobody waits for
    imports; entering starts them and logs `parser.jailed`, with what the kernel refused.
    """

    def __init__(self, limits: ParserLimits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.children)
        self._ready: dict[str, asyncio.Task[JailedChild]] = {}
        self._jail: dict[str, str] = {}
        self._open = False

    async def __aenter__(self) -> Self:
        """Raises `UnavailableError` when no child comes up."""
        self._open = True
        try:
            for media_format in CHILD_FORMATS.values():
                self._stand_by(media_format)
            for starting in list(self._ready.values()):
                self._note(await (await starting).report())
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        while self._ready:
            await _end(self._ready.popitem()[1])

    async def __call__(self, data: bytes, *, media_type: str, file_name: str) -> ParsedDocument:
        """Parse one document; `media_type` and `file_name` are hints and may be empty.

        Raises:
            InvalidInputError: with a `ParseFailure` as reason; final for these bytes.
            UnavailableError: `PARSER_UNAVAILABLE`; no fault of the document.
        """
        self._bound(len(data), self._limits.document_bytes)
        found = detect(data, media_type=media_type, file_name=file_name)
        if found is MediaType.PDF:
            reading = await self._in_child(found, data)
        else:
            self._bound(len(data), self._limits.text_bytes)
            hint = charset(media_type) or (html_charset(data) if found is MediaType.HTML else "")
            text = await asyncio.to_thread(decode, data, charset=hint)
            if found is MediaType.TEXT:
                reading = Reading("", [text], 0)
            else:
                reading = await self._in_child(found, text.encode())
        document = await asyncio.to_thread(assemble, reading, found)
        log.debug("document.parsed", extra={"media_type": found, "repairs": reading.repairs})
        return document

    def _bound(self, size_bytes: int, limit_bytes: int) -> None:
        if not size_bytes:
            raise InvalidInputError(ParseFailure.EMPTY_DOCUMENT, "the document has no bytes")
        if size_bytes > limit_bytes:
            raise InvalidInputError(
                ParseFailure.DOCUMENT_TOO_LARGE,
                f"{size_bytes} bytes, of at most {limit_bytes} for this format",
                size_bytes=size_bytes,
                limit_bytes=limit_bytes,
            )

    async def _in_child(self, media_type: MediaType, data: bytes) -> Reading:
        async with self._slots, self._child(CHILD_FORMATS[media_type]) as child:
            self._note(await child.report())
            return await asyncio.to_thread(believed, await child.ask(data))

    @asynccontextmanager
    async def _child(self, media_format: str) -> AsyncIterator[JailedChild]:
        starting = self._ready.pop(media_format, None) or self._start(media_format)
        self._stand_by(media_format)
        try:
            yield await asyncio.shield(starting)
        finally:
            await _end(starting)

    def _stand_by(self, media_format: str) -> None:
        if self._open and media_format not in self._ready:
            self._ready[media_format] = self._start(media_format)

    def _start(self, media_format: str) -> asyncio.Task[JailedChild]:
        # Owned: whoever pops the task, or `__aexit__`, awaits it in `_end`.
        return asyncio.create_task(JailedChild.start(media_format, self._limits))

    def _note(self, jail: dict[str, str]) -> None:
        """Log what holds the children, once and again whenever it changes."""
        if jail == self._jail:
            return
        self._jail = jail
        missing = {control: said for control, said in jail.items() if said}
        log.log(
            logging.WARNING if missing else logging.INFO,
            "parser.jailed",
            extra={"held": sorted(jail.keys() - missing.keys()), "missing": missing},
        )


async def _end(starting: asyncio.Task[JailedChild]) -> None:
    await asyncio.wait([starting])
    if starting.exception() is None:
        await starting.result().end()
