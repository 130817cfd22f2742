"""Parses documents of all accepted formats into clean text and chunks, in jailed processes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Self

from chassis.base.errors import InvalidInputError
from ingest.chunking import ChunkSettings
from ingest.notes import NoteCode
from ingest.parsing.detect import charset, detect
from ingest.parsing.document import CutDocument, MediaType
from ingest.parsing.failure import ParseFailure
from ingest.parsing.formats import FORMATS
from ingest.parsing.jail.jailed import OCR_LIMITS, JailedChild, ParserLimits
from ingest.parsing.jail.reply import Reply
from ingest.parsing.jail.slots import FairSlots
from ingest.parsing.jail.task import Task
from ingest.parsing.ocr.data import OcrData
from ingest.steps import Step

__all__ = ["Parser", "ParserLimits"]

log = logging.getLogger(__name__)

STARTED_EARLY = tuple(kind for kind, form in FORMATS.items() if form.started_early)


class Parser:
    """Parses bytes to a `CutDocument`; use as `async with Parser(limits) as parser`.

    A child process serves one document. One child of each reader is kept ready: entering the
    context starts those of the formats in `STARTED_EARLY` and logs `parser.jailed`, with the
    controls that the kernel refused; others start when first needed. Plain text has its own slots,
    so it never waits for slow parsers, and so has OCR, for which no child is kept ready. Without
    `ocr`, pictures and scans are refused.
    """

    def __init__(
        self,
        limits: ParserLimits,
        ocr: OcrData | None = None,
        ocr_limits: ParserLimits = OCR_LIMITS,
    ) -> None:
        self._limits = limits
        self._ocr = ocr
        self._ocr_limits = ocr_limits
        each = limits.children
        self._parsers = FairSlots(each=each, total=2 * each)
        self._recognisers = FairSlots(each=ocr_limits.children, total=2 * ocr_limits.children)
        self._decoders = FairSlots(each=each, total=2 * each)
        self._ready: dict[str, asyncio.Task[JailedChild]] = {}
        self._jail: dict[str, str] = {}
        self._open = False

    async def __aenter__(self) -> Self:
        """Raises `UnavailableError` if no child can be started."""
        self._open = True
        try:
            for media_type in STARTED_EARLY:
                self._keep_ready(media_type)
            for starting in list(self._ready.values()):
                self._log_jail(await (await starting).read_report())
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

    async def __call__(
        self,
        data: bytes,
        *,
        media_type: str,
        file_name: str,
        tenant: str = "",
        password: str = "",
        settings: ChunkSettings = ChunkSettings(),  # noqa: B008  (frozen)
        steps: Sequence[Step] = (),
    ) -> CutDocument:
        """Parse and cut one document; `media_type` and `file_name` are hints and may be empty.

        Raises:
            InvalidInputError: with a `ParseFailure` as reason; final for these bytes.
            UnavailableError: `PARSER_UNAVAILABLE`; not caused by the document.
        """
        self._check_size(len(data), self._limits.document_bytes)
        found = detect(data, media_type=media_type, file_name=file_name)
        if FORMATS[found].in_text:
            self._check_size(len(data), self._limits.text_bytes)
        task = Task(
            charset=charset(media_type),
            password=password,
            target_chars=settings.target_chars,
            max_chars=settings.max_chars,
            cpu_s=self._limits.limit_cpu_s(len(data)),
            steps=steps,
        )
        if FORMATS[found].needs_ocr:
            return await self._recognise(data, found, task, tenant)
        try:
            document = await self._parse(data, found, task, tenant)
        except InvalidInputError as refused:
            if refused.reason != ParseFailure.NEEDS_OCR or self._ocr is None:
                raise
            return await self._recognise(data, found, task, tenant)
        if self._ocr is not None and FORMATS[found].ocr_reader and _has_gaps(document):
            return await self._fill_gaps(document, data, task, tenant)
        return document

    async def _parse(self, data: bytes, found: MediaType, task: Task, tenant: str) -> CutDocument:
        slots = self._decoders if found is MediaType.TEXT else self._parsers
        async with slots.acquire(tenant), self._take_child(found) as child:
            return await self._ask(child, data, found, task)

    async def _fill_gaps(
        self, document: CutDocument, data: bytes, task: Task, tenant: str
    ) -> CutDocument:
        """The document with the text of scanned pages; as it is, with its note, if OCR fails."""
        try:
            return await self._recognise(data, document.media_type, task, tenant)
        except InvalidInputError as refused:
            log.info("parser.gaps_left", extra={"reason": refused.reason})
            return document

    async def _recognise(
        self, data: bytes, found: MediaType, task: Task, tenant: str
    ) -> CutDocument:
        if self._ocr is None:
            raise InvalidInputError(
                ParseFailure.NEEDS_OCR,
                f"{found} is read by OCR, which is off here; run OCR on the picture, and send the"
                " text, or a PDF that contains it",
                media_type=found,
            )
        limits = self._ocr_limits
        task = task._replace(cpu_s=limits.limit_cpu_s(len(data)))
        async with self._recognisers.acquire(tenant):
            child = await JailedChild.start(found.name.lower(), limits, self._ocr)
            try:
                return await self._ask(child, data, found, task)
            finally:
                await child.end()

    async def _ask(
        self, child: JailedChild, data: bytes, found: MediaType, task: Task
    ) -> CutDocument:
        self._log_jail(await child.read_report())
        sizes = ChunkSettings(target_chars=task.target_chars, max_chars=task.max_chars)
        steps = [Step(name) for name in task.steps]
        reply = Reply(found, sizes, steps)
        async with aclosing(child.ask(task, data)) as frames:
            async for frame in frames:
                if (document := reply.add(frame)) is not None:
                    return document
        raise AssertionError("the frames of a child end with a document or an error")

    def _check_size(self, size_bytes: int, limit_bytes: int) -> None:
        if not size_bytes:
            raise InvalidInputError(
                ParseFailure.EMPTY_DOCUMENT, "the document has no bytes; send its content"
            )
        if size_bytes > limit_bytes:
            raise InvalidInputError(
                ParseFailure.DOCUMENT_TOO_LARGE,
                f"the document has {size_bytes} bytes; this format allows {limit_bytes}",
                size_bytes=size_bytes,
                limit_bytes=limit_bytes,
            )

    @asynccontextmanager
    async def _take_child(self, media_type: MediaType) -> AsyncIterator[JailedChild]:
        starting = self._ready.pop(FORMATS[media_type].reader, None) or self._start(media_type)
        self._keep_ready(media_type)
        try:
            yield await asyncio.shield(starting)
        finally:
            await _end(starting)

    def _keep_ready(self, media_type: MediaType) -> None:
        """Start the next child of a reader; one for plain text starts quickly enough."""
        reader = FORMATS[media_type].reader
        if self._open and reader and reader not in self._ready:
            self._ready[reader] = self._start(media_type)

    def _start(self, media_type: MediaType) -> asyncio.Task[JailedChild]:
        # The code that pops the task, or `__aexit__`, awaits it in `_end`.
        return asyncio.create_task(JailedChild.start(media_type.name.lower(), self._limits))

    def _log_jail(self, jail: dict[str, str]) -> None:
        """Log the controls that hold for the children, once and whenever they change."""
        if jail == self._jail:
            return
        self._jail = jail
        missing = {control: said for control, said in jail.items() if said}
        log.log(
            logging.WARNING if missing else logging.INFO,
            "parser.jailed",
            extra={"held": sorted(jail.keys() - missing.keys()), "missing": missing},
        )


def _has_gaps(document: CutDocument) -> bool:
    return any(note.code is NoteCode.PAGES_WITHOUT_TEXT for note in document.notes)


async def _end(starting: asyncio.Task[JailedChild]) -> None:
    await asyncio.wait([starting])
    if starting.exception() is None:
        await starting.result().end()
