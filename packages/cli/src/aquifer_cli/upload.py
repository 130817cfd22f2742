"""Documents in, side by side, each with its own outcome: `aquifer upload` and `aquifer import`."""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

import grpc

from aquifer.ingest.v1.document_pb2 import Document, DocumentState
from aquifer.ingest.v1.ingest_service_pb2 import (
    GetDocumentRequest,
    UploadDocumentRequest,
    UploadHeader,
)
from aquifer_cli.client import Client
from aquifer_cli.crowd import crowd, side_by_side
from aquifer_cli.documents import listed, state_name
from aquifer_cli.errors import EXIT_UNAVAILABLE, CommandError, from_rpc
from aquifer_cli.sources import Item, files, lines

__all__ = ["Item", "Outcome", "files", "lines", "send", "state_name"]

PIECE_BYTES = 256 * 1024
SIDE_BY_SIDE = 16
UPLOAD_S = 120.0
# How long nothing may succeed before what is refused for the moment is given up.
PATIENCE_S = 60.0
# How long no document may be finished before waiting for the others is given up.
WAIT_S = 600.0
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 8.0
LOOK_FIRST_S = 0.1
LOOK_MAX_S = 1.0
# So many documents are looked at one by one; for more, the list of unfinished ones is read.
FEW = 32
FOR_THE_MOMENT = {"BACKLOG_FULL", "CALLS_OPEN", "CALL_CUT", "DEADLINE_EXCEEDED"}
FINAL = {
    DocumentState.DOCUMENT_STATE_INDEXED,
    DocumentState.DOCUMENT_STATE_FAILED,
    DocumentState.DOCUMENT_STATE_DELETING,
    DocumentState.DOCUMENT_STATE_DELETED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one item, as far as is known.

    NOT_SENT is what was given up before anybody took or refused it; `unreachable`: nobody answered.
    """

    path: str
    document: str
    version: int = 0
    state: str = "REFUSED"
    reason: str = ""
    detail: str = ""
    unreachable: bool = False

    @property
    def failed(self) -> bool:
        """True when it is not known to become searchable, and that was not asked for."""
        if self.state in {"DELETING", "DELETED"}:
            return True
        return bool(self.reason) and self.state != "SKIPPED"

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "path": self.path,
            "document": self.document,
            "version": self.version,
            "state": self.state,
            "reason": self.reason,
        }


def _ignore(_: object) -> None:
    return


async def send(
    client: Client,
    items: Sequence[Item],
    *,
    wait: bool,
    done: Callable[[Outcome], None],
    accepted: Callable[[Outcome], None] = _ignore,
    waits: Callable[[str], None] = _ignore,
) -> list[Outcome]:
    """Uploads side by side, and with `wait` follows each document until its version is final.

    Args:
        client: of the stack.
        items: sent in this order.
        wait: whether to wait for the index.
        done: hears of each outcome as it is final.
        accepted: hears of each document as it is durable.
        waits: hears the reason why something is tried again, and an empty one when it works again.

    Returns:
        The outcomes in the order of the items.

    Raises:
        CommandError: the key opens no door, or nobody answers; nothing has been sent then.
    """
    await client.sign_in()
    ways = _Ways(client, wait=wait, done=done, accepted=accepted, waits=waits)
    return await ways.take(items)


class _Ways:
    """The ways in of many documents."""

    def __init__(
        self,
        client: Client,
        *,
        wait: bool,
        done: Callable[[Outcome], None],
        accepted: Callable[[Outcome], None],
        waits: Callable[[str], None],
    ) -> None:
        self._client = client
        self._wait = wait
        self._done = done
        self._accepted = accepted
        self._waits = waits
        self._clock = asyncio.get_running_loop().time
        self._answered_at = self._clock()
        self._gone: CommandError | None = None
        self._outcomes: dict[int, Outcome] = {}
        self._open: dict[int, Outcome] = {}
        self._all_sent = False

    async def take(self, items: Sequence[Item]) -> list[Outcome]:
        async with crowd() as following:
            if self._wait:
                following.create_task(self._follow())
            left = iter(enumerate(items))
            async with crowd() as sending:
                for _ in range(SIDE_BY_SIDE):
                    sending.create_task(self._send(left))
            self._all_sent = True
        return [self._outcomes[number] for number in range(len(items))]

    async def _send(self, left: Iterator[tuple[int, Item]]) -> None:
        for number, item in left:
            outcome = await self._one(item)
            if outcome.failed or outcome.state == "SKIPPED":
                self._settle(number, outcome)
                continue
            self._accepted(outcome)
            if self._wait:
                self._open[number] = outcome
            else:
                self._settle(number, outcome)

    def _settle(self, number: int, outcome: Outcome) -> None:
        self._open.pop(number, None)
        self._outcomes[number] = outcome
        self._done(outcome)

    async def _one(self, item: Item) -> Outcome:
        """One upload; what is refused for the moment is tried again, safely by its bytes."""
        outcome = Outcome(path=item.path, document=item.header.document)
        if item.skipped:
            detail = "; ".join(item.notes)
            return replace(outcome, state="SKIPPED", reason=item.skipped, detail=detail)
        pause_s = RETRY_FIRST_S
        while self._gone is None:
            try:
                document = await _stream(self._client, item)
            except CommandError as error:
                if not _for_the_moment(error):
                    return replace(outcome, reason=error.reason, detail=error.detail)
                if self._impatient():
                    self._gone = error
                    break
                self._waits(error.reason)
                await asyncio.sleep(max(pause_s, error.retry_s))
                pause_s = min(pause_s * 2, RETRY_MAX_S)
                continue
            self._answered()
            return _outcome(item.path, document)
        return _given_up(replace(outcome, state="NOT_SENT"), self._gone)

    def _answered(self) -> None:
        self._answered_at = self._clock()
        self._waits("")

    def _impatient(self) -> bool:
        return self._clock() - self._answered_at > PATIENCE_S

    async def _follow(self) -> None:
        """Looks at what was accepted, again and again, until all of it is final."""
        pause_s = LOOK_FIRST_S
        moved_at = self._clock()
        while self._open or not self._all_sent:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LOOK_MAX_S)
            try:
                moved = await self._look()
            except CommandError as error:
                if self._impatient() or not _for_the_moment(error):
                    self._give_up(error)
                self._waits(error.reason)
                continue
            if moved or not self._open:
                pause_s, moved_at = LOOK_FIRST_S, self._clock()
            elif self._clock() - moved_at > WAIT_S:
                detail = f"nothing was finished for {WAIT_S:.0f} s"
                self._give_up(CommandError("WAIT_EXPIRED", detail))

    async def _look(self) -> bool:
        """Settles what is final by now; whether anything was."""
        unfinished = await self._unfinished()
        numbers = [n for n, outcome in self._open.items() if outcome.document not in unfinished]

        async def final(number: int) -> bool:
            outcome = self._open[number]
            request = GetDocumentRequest(name=outcome.document)
            document = await self._client.call(self._client.ingest.GetDocument, request)
            if document.state not in FINAL:
                return False
            self._settle(number, _outcome(outcome.path, document))
            return True

        moved = await side_by_side(final, numbers, SIDE_BY_SIDE)
        if self._open:
            self._answered()
        return any(moved)

    async def _unfinished(self) -> set[str]:
        """Names that a look at each would show unfinished; none where there are few to look at."""
        if len(self._open) <= FEW:
            return set()
        collections = {outcome.document.split("/")[1] for outcome in self._open.values()}
        # In the order of a document's life: one that moves on meanwhile is found in the next list.
        return {
            document.name
            for collection in collections
            for state in ("ACCEPTED", "PREPARED")
            async for document in listed(self._client, collection, state)
        }

    def _give_up(self, error: CommandError) -> None:
        for number, outcome in list(self._open.items()):
            self._settle(number, _given_up(outcome, error))


def _given_up(outcome: Outcome, error: CommandError) -> Outcome:
    unreachable = error.exit_code == EXIT_UNAVAILABLE
    return replace(outcome, reason=error.reason, detail=error.detail, unreachable=unreachable)


def _for_the_moment(error: CommandError) -> bool:
    return error.exit_code == EXIT_UNAVAILABLE or error.reason in FOR_THE_MOMENT


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
            header.size_bytes, piece = await asyncio.to_thread(_begun, stream)
            call = client.ingest.UploadDocument(
                timeout=UPLOAD_S, metadata=await client.credentials()
            )
            try:
                # The call may be refused before its end; awaiting it then tells why.
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


def _begun(stream: BinaryIO) -> tuple[int, bytes]:
    """The size of the whole, and its first piece."""
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return size_bytes, stream.read(PIECE_BYTES)


def _outcome(path: str, document: Document) -> Outcome:
    return Outcome(
        path=path,
        document=document.name,
        version=document.version,
        state=state_name(document.state),
        reason=document.reason,
        detail=document.reason_detail,
    )
