"""Implements `--wait`: waits until documents are final, with one stream of changes."""

import asyncio
from collections.abc import Callable, Sequence

import grpc

from aquifer.ingest.v1.document_pb2 import Document, DocumentState
from aquifer.ingest.v1.ingest_service_pb2 import (
    GetDocumentRequest,
    Progress,
    WatchDocumentsRequest,
)
from aquifer_cli.client import CALL_S, Client
from aquifer_cli.concurrency import run_concurrently
from aquifer_cli.documents import list_documents
from aquifer_cli.errors import CommandError, from_rpc
from aquifer_cli.outcome import Outcome, give_up, is_temporary, outcome_of

# Less than the ten minutes after which the service ends a call.
STREAM_S = 590.0
# Waiting ends when the stream has failed for this time.
PATIENCE_S = 60.0
# Waiting ends when no document has become final for this time.
WAIT_S = 600.0
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 8.0
SIDE_BY_SIDE = 16
# After a gap, up to this many documents are read one by one; more are listed by state.
FEW = 32
FINAL = {
    DocumentState.DOCUMENT_STATE_INDEXED,
    DocumentState.DOCUMENT_STATE_FAILED,
    DocumentState.DOCUMENT_STATE_DELETING,
    DocumentState.DOCUMENT_STATE_DELETED,
}


class Waiting:
    """Accepted documents that are not final yet.

    Args:
        client: of the stack.
        names: of the documents to wait for.
        settle: called with each number given to `expect`, and its final outcome.
        on_wait: called with the reason why something is tried again, and an empty one afterwards.
        on_left: called with the seconds that the service expects until all is final.
    """

    def __init__(
        self,
        client: Client,
        names: Sequence[str],
        *,
        settle: Callable[[int, Outcome], None],
        on_wait: Callable[[str], None],
        on_left: Callable[[float], None],
    ) -> None:
        self._client = client
        self._names = frozenset(names)
        self._settle = settle
        self._on_wait = on_wait
        self._on_left = on_left
        self._clock = asyncio.get_running_loop().time
        self._open: dict[int, Outcome] = {}
        self._numbers: dict[str, list[int]] = {}
        # Final states that arrived before the response to the upload.
        self._early: dict[str, Document] = {}
        self._tried = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._moved_at = self._clock()
        self._following = False
        self._lost_at: float | None = None
        self._gone: CommandError | None = None

    async def wait_until_subscribed(self) -> None:
        """Returns when the stream delivers all changes, or when the first try has failed."""
        try:
            async with asyncio.timeout(CALL_S):
                await self._tried.wait()
        except TimeoutError:
            self._on_wait("DEADLINE_EXCEEDED")

    def expect(self, number: int, outcome: Outcome) -> None:
        """Adds an accepted document to wait for."""
        early = self._early.get(outcome.document)
        if early is not None and early.version >= outcome.version:
            self._settle(number, outcome_of(outcome.path, early))
        elif self._gone is not None:
            self._settle(number, give_up(outcome, self._gone))
        else:
            self._open[number] = outcome
            self._numbers.setdefault(outcome.document, []).append(number)
            self._idle.clear()

    async def finish(self) -> None:
        """Returns when all documents are final, or none has become final for `WAIT_S`."""
        self._moved_at = self._clock()
        while self._open:
            moved_at = self._moved_at
            try:
                async with asyncio.timeout_at(moved_at + WAIT_S):
                    await self._idle.wait()
            except TimeoutError:
                if self._moved_at == moved_at:
                    detail = f"nothing was finished for {WAIT_S:.0f} s"
                    self._give_up(CommandError("WAIT_EXPIRED", detail))

    async def follow(self) -> None:
        """Follows the changes until cancelled, or until retries are given up."""
        pause_s = RETRY_FIRST_S
        while self._gone is None:
            try:
                await self._listen()
            except CommandError as error:
                self._tried.set()
                if error.reason == "DEADLINE_EXCEEDED" and self._following:
                    continue  # the stream has had its time
                if self._lost_at is None:
                    self._lost_at, pause_s = self._clock(), RETRY_FIRST_S
                if not is_temporary(error) or self._clock() - self._lost_at > PATIENCE_S:
                    self._give_up(error)
                    return
                self._on_wait(error.reason)
                await asyncio.sleep(max(pause_s, error.retry_s))
                pause_s = min(pause_s * 2, RETRY_MAX_S)

    async def _listen(self) -> None:
        self._following = False
        collections = {name.split("/")[1] for name in self._names}
        request = WatchDocumentsRequest(
            collection=collections.pop() if len(collections) == 1 else "", progress=True
        )
        try:
            call = self._client.ingest.WatchDocuments(
                request, timeout=STREAM_S, metadata=await self._client.credentials()
            )
            try:
                async for update in call:
                    self._following = True
                    match update.WhichOneof("update"):
                        case "document":
                            self._take(update.document)
                        case "progress":
                            self._note_progress(update.progress)
                        case _:
                            await self._look()
                            self._tried.set()
                    if self._lost_at is not None:
                        self._lost_at = None
                        self._on_wait("")
            finally:
                call.cancel()
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error
        raise CommandError("CALL_CUT", "the service ended the stream of changes")

    def _note_progress(self, progress: Progress) -> None:
        if progress.HasField("remaining"):
            self._on_left(progress.remaining.ToMilliseconds() / 1_000)

    def _take(self, document: Document) -> None:
        """Finishes the uploads for which this state is final."""
        if document.state not in FINAL or document.name not in self._names:
            return
        self._early[document.name] = document
        for number in self._numbers.get(document.name, [])[:]:
            outcome = self._open[number]
            if document.version >= outcome.version:
                self._close(number, outcome_of(outcome.path, document))

    def _close(self, number: int, outcome: Outcome) -> None:
        expected = self._open.pop(number)
        self._numbers[expected.document].remove(number)
        self._moved_at = self._clock()
        if not self._open:
            self._idle.set()
        self._settle(number, outcome)

    async def _look(self) -> None:
        """Reads documents that may have become final during a gap."""
        unfinished = await self._list_unfinished()
        names = {each.document for each in self._open.values()} - unfinished

        async def read(name: str) -> None:
            request = GetDocumentRequest(name=name)
            self._take(await self._client.call(self._client.ingest.GetDocument, request))

        await run_concurrently(read, names, SIDE_BY_SIDE)

    async def _list_unfinished(self) -> set[str]:
        """Names of documents that are still unfinished; empty if there are few to read."""
        if len(self._open) <= FEW:
            return set()
        collections = {outcome.document.split("/")[1] for outcome in self._open.values()}
        # In the order of states, so that a document that changes meanwhile is in the next list.
        return {
            document.name
            for collection in collections
            for state in ("ACCEPTED", "PREPARED")
            async for document in list_documents(self._client, collection, state)
        }

    def _give_up(self, error: CommandError) -> None:
        self._gone = error
        for number, outcome in list(self._open.items()):
            self._close(number, give_up(outcome, error))
