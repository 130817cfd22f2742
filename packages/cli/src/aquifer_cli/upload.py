"""Uploads many documents concurrently: `aquifer upload` and `aquifer import`."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import BinaryIO

import grpc

from aquifer.ingest.v1.document_pb2 import LANE_BULK, LANE_INTERACTIVE, Document
from aquifer.ingest.v1.ingest_service_pb2 import (
    CheckedDocument,
    UploadDocumentRequest,
    UploadHeader,
)
from aquifer_cli.checking import CHECKS_MAX, UNCHANGED, Answer, check, result_name
from aquifer_cli.client import Client
from aquifer_cli.concurrency import open_task_group
from aquifer_cli.documents import state_name
from aquifer_cli.errors import CommandError, from_rpc
from aquifer_cli.importing import Importing
from aquifer_cli.outcome import Outcome, give_up, is_temporary, outcome_of
from aquifer_cli.parts import PIECE_BYTES, send_in_parts
from aquifer_cli.sources import Item, find_files, read_documents
from aquifer_cli.waiting import FINAL, Waiting

__all__ = ["Item", "Outcome", "find_files", "read_documents", "send", "state_name"]

# Maximum number of concurrent uploads, and of those among them that have a call of their own.
SIDE_BY_SIDE = 128
ALONE_SIDE_BY_SIDE = 16
# So many documents are sent one by one: the service indexes them before those of an import.
FEW = 16
# Of more, documents up to this size share one call.
IMPORT_MAX_BYTES = 512 * 1024
# Larger ones are sent in parts, which takes a few calls more and survives broken connections.
STREAM_MAX_BYTES = 8 << 20
UPLOAD_S = 120.0
# Retries end when no upload has succeeded for this time.
PATIENCE_S = 60.0
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 8.0
_Checked = tuple[int, Item, Answer]
FINAL_NAMES = {state_name(state) for state in FINAL}


def _ignore(_: object) -> None:
    return


async def send(
    client: Client,
    items: Sequence[Item],
    *,
    wait: bool,
    on_done: Callable[[Outcome], None],
    on_accepted: Callable[[Outcome], None] = _ignore,
    on_wait: Callable[[str], None] = _ignore,
    on_bytes: Callable[[int], None] = _ignore,
    on_left: Callable[[float], None] = _ignore,
) -> list[Outcome]:
    """Uploads documents concurrently, and with `wait` follows each until its version is final.

    Documents that an upload would not change are not sent.

    Args:
        client: of the stack.
        items: sent in this order.
        wait: whether to wait until every version is final.
        on_done: called with each final outcome.
        on_accepted: called with each outcome when its document is stored.
        on_wait: called with the reason of a retry, and with "" when a try succeeds again.
        on_bytes: called with the bytes of documents above `STREAM_MAX_BYTES` as they are sent;
            negative if some have to be sent again.
        on_left: called with the seconds that the service expects until what it has accepted is
            final.

    Returns:
        The outcomes in the order of the items.

    Raises:
        CommandError: the key is not accepted, or auth cannot be reached; nothing has been sent.
    """
    await client.sign_in()
    uploads = _Uploads(
        client,
        wait=wait,
        on_done=on_done,
        on_accepted=on_accepted,
        on_wait=on_wait,
        on_bytes=on_bytes,
        on_left=on_left,
    )
    return await uploads.take(items)


class _Uploads:
    """Uploads of many documents at the same time."""

    def __init__(
        self,
        client: Client,
        *,
        wait: bool,
        on_done: Callable[[Outcome], None],
        on_accepted: Callable[[Outcome], None],
        on_wait: Callable[[str], None],
        on_bytes: Callable[[int], None],
        on_left: Callable[[float], None],
    ) -> None:
        self._client = client
        self._wait = wait
        self._on_done = on_done
        self._on_accepted = on_accepted
        self._on_wait = on_wait
        self._on_bytes = on_bytes
        self._on_left = on_left
        self._offsets: dict[str, int] = {}
        self._clock = asyncio.get_running_loop().time
        self._succeeded_at = self._clock()
        self._gone: CommandError | None = None
        self._outcomes: dict[int, Outcome] = {}
        self._changes: dict[int, str] = {}
        # What is read of a document later does not tell it.
        self._same_content: dict[int, Sequence[str]] = {}
        self._importing = Importing(client)
        self._many = False
        self._alone = asyncio.Semaphore(ALONE_SIDE_BY_SIDE)

    async def take(self, items: Sequence[Item]) -> list[Outcome]:
        self._many = len(items) > FEW
        try:
            await self._take(items)
        finally:
            await self._importing.close()
        return [self._outcomes[number] for number in range(len(items))]

    async def _take(self, items: Sequence[Item]) -> None:
        if not self._wait:
            await self._send_all(items, None)
        else:
            names = [item.header.document for item in items]
            waiting = Waiting(
                self._client,
                names,
                settle=self._settle,
                on_wait=self._on_wait,
                on_left=self._on_left,
            )
            async with open_task_group() as following:
                follow = following.create_task(waiting.follow())
                await waiting.wait_until_subscribed()
                await self._send_all(items, waiting)
                await waiting.finish()
                follow.cancel()

    async def _send_all(self, items: Sequence[Item], waiting: Waiting | None) -> None:
        # While some are sent, the next ones are checked.
        ready: asyncio.Queue[_Checked | None] = asyncio.Queue(CHECKS_MAX)
        async with open_task_group() as sending:
            sending.create_task(self._check_all(items, ready))
            for _ in range(SIDE_BY_SIDE):
                sending.create_task(self._send(ready, waiting))

    async def _check_all(
        self, items: Sequence[Item], ready: "asyncio.Queue[_Checked | None]"
    ) -> None:
        async with aclosing(check(self._client, enumerate(items))) as checked:
            async for one in checked:
                await ready.put(one)
        await ready.put(None)

    async def _send(self, ready: "asyncio.Queue[_Checked | None]", waiting: Waiting | None) -> None:
        while (taken := await ready.get()) is not None:
            number, item, checked = taken
            self._changes[number] = result_name(checked)
            outcome = await self._send_one(item, checked)
            self._same_content[number] = outcome.same_content
            if outcome.failed or outcome.state == "SKIPPED":
                self._settle(number, outcome)
                continue
            self._on_accepted(outcome)
            if waiting is None or outcome.state in FINAL_NAMES:
                self._settle(number, outcome)
            else:
                waiting.expect(number, outcome)
        # For the next sender.
        await ready.put(None)

    def _settle(self, number: int, outcome: Outcome) -> None:
        outcome = replace(
            outcome, change=self._changes[number], same_content=self._same_content[number]
        )
        self._outcomes[number] = outcome
        self._on_done(outcome)

    async def _send_one(self, item: Item, checked: Answer) -> Outcome:
        """Uploads one document if that changes something, or if that is not known.

        Retries temporary failures, which is safe for the same bytes.
        """
        outcome = Outcome(path=item.path, document=item.header.document)
        if item.skipped:
            detail = "; ".join(item.notes)
            return replace(outcome, state="SKIPPED", reason=item.skipped, detail=detail)
        # A password may be what a version needs that is not parsed yet, so it is always sent.
        known = None if item.header.password else checked
        if isinstance(known, CheckedDocument) and known.result == UNCHANGED:
            same = [known.duplicate_of] if known.duplicate_of else []
            state = state_name(known.state)
            return replace(outcome, version=known.version, state=state, same_content=same)
        pause_s = RETRY_FIRST_S
        while self._gone is None:
            try:
                document = await self._upload(item)
            except CommandError as error:
                if not is_temporary(error):
                    return replace(outcome, reason=error.reason, detail=error.detail)
                if self._is_out_of_patience():
                    self._gone = error
                    break
                self._on_wait(error.reason)
                await asyncio.sleep(max(pause_s, error.retry_s))
                pause_s = min(pause_s * 2, RETRY_MAX_S)
                continue
            self._note_success()
            return outcome_of(item.path, document)
        return give_up(replace(outcome, state="NOT_SENT"), self._gone)

    async def _upload(self, item: Item) -> Document:
        """The document as it was accepted.

        Raises:
            CommandError: FILE_UNREADABLE, or the reason of the service.
        """
        found = await _read_small(item)
        if self._many and isinstance(found, bytes):
            return await self._importing.send(item.header, found)
        header = UploadHeader()
        header.CopyFrom(item.header)
        header.lane = LANE_BULK if self._many else LANE_INTERACTIVE
        item = replace(item, header=header)
        async with self._alone:
            if isinstance(found, bytes) or found <= STREAM_MAX_BYTES:
                return await _stream(self._client, item)
            return await send_in_parts(
                self._client, item, lambda offset: self._note_offset(item, offset)
            )

    def _note_offset(self, item: Item, offset: int) -> None:
        """Bytes that are on their way are a success: a slow connection needs patience."""
        before = self._offsets.get(item.path, 0)
        self._offsets[item.path] = offset
        self._on_bytes(offset - before)
        if offset > before:
            self._note_success()

    def _note_success(self) -> None:
        self._succeeded_at = self._clock()
        self._on_wait("")

    def _is_out_of_patience(self) -> bool:
        return self._clock() - self._succeeded_at > PATIENCE_S


async def _read_small(item: Item) -> bytes | int:
    """All bytes of a small document, the number of bytes of a large one.

    Raises:
        CommandError: FILE_UNREADABLE.
    """

    def read() -> bytes | int:
        with item.open() as stream:
            if (size_bytes := stream.seek(0, os.SEEK_END)) > IMPORT_MAX_BYTES:
                return size_bytes
            stream.seek(0)
            return stream.read()

    try:
        return await asyncio.to_thread(read)
    except OSError as error:
        raise CommandError("FILE_UNREADABLE", error.strerror or str(error)) from error


async def _stream(client: Client, item: Item) -> Document:
    """The document as it was accepted.

    Raises:
        CommandError: FILE_UNREADABLE, or the reason of the service.
    """
    try:
        stream = await asyncio.to_thread(item.open)
        with stream:
            header = UploadHeader()
            header.CopyFrom(item.header)
            header.size_bytes, piece = await asyncio.to_thread(_read_first, stream)
            call = client.ingest.UploadDocument(
                timeout=UPLOAD_S, metadata=await client.credentials()
            )
            try:
                # If the call is refused early, awaiting it raises the reason.
                with suppress(asyncio.InvalidStateError):
                    await call.write(UploadDocumentRequest(header=header))
                    while piece and not call.done():
                        await call.write(UploadDocumentRequest(content=piece))
                        piece = await asyncio.to_thread(stream.read, PIECE_BYTES)
                    await call.done_writing()
                return await call
            finally:
                call.cancel()
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error
    except OSError as error:
        raise CommandError("FILE_UNREADABLE", error.strerror or str(error)) from error


def _read_first(stream: BinaryIO) -> tuple[int, bytes]:
    """The size of the file, and its first piece."""
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return size_bytes, stream.read(PIECE_BYTES)
