"""Keeps a collection in step with a folder: `aquifer sync`.

What was done is known to the service alone, so a run can be stopped at any time and the next one
goes on. A document came from the folder if its metadata says so; only such documents are removed.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from aquifer.ingest.v1.document_pb2 import Document, DocumentState
from aquifer.ingest.v1.ingest_service_pb2 import (
    CheckedDocument,
    DeleteDocumentRequest,
    GetDocumentRequest,
)
from aquifer_cli.checking import check, result_name
from aquifer_cli.client import Client
from aquifer_cli.concurrency import run_concurrently
from aquifer_cli.documents import list_documents, state_name
from aquifer_cli.errors import CommandError
from aquifer_cli.folder import SETTLE_S, SOURCE, Files, Stamp, look
from aquifer_cli.outcome import Outcome, give_up
from aquifer_cli.screen import Screen
from aquifer_cli.sending import Sending
from aquifer_cli.sources import Item

SIDE_BY_SIDE = 16
GONE = {DocumentState.DOCUMENT_STATE_DELETING, DocumentState.DOCUMENT_STATE_DELETED}
# Looking at the folder takes at most a tenth of the time.
LOOK_SHARE = 10
# Until the next try after a failure that may pass.
PAUSE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to keep in step.

    Args:
        folder: with the files.
        collection: with their documents.
        source: the name of the folder in the metadata of its documents.
        delete: whether to delete documents whose file has been removed.
    """

    folder: Path
    collection: str
    source: str
    delete: bool


async def run(
    client: Client, screen: Screen, order: Order, *, dry_run: bool = False
) -> list[Outcome]:
    """Brings the collection in step once; with `dry_run` nothing is changed.

    Raises:
        CommandError: NOT_A_FOLDER, PATH_UNKNOWN, NO_FILES, DOCUMENT_TWICE, or the reason of the
            service.
    """
    work = _Sync(client, screen, order)
    before, now = None, await work.look()
    if now.list_unsettled():
        await asyncio.sleep(SETTLE_S)
        before, now = now, await work.look()
    await work.list_own()
    items = work.list_changed(now, before)
    outcomes = await (work.check(items) if dry_run else work.send(items, now))
    unsettled = work.record(
        [_unsettled(now.items[document]) for document in now.list_unsettled(before)]
    )
    removed = work.list_removed(now)
    if dry_run and order.delete:
        removed = work.record([replace(one, state="") for one in removed])
    else:
        removed = await work.remove(removed)
    return outcomes + unsettled + removed


async def watch(
    client: Client, screen: Screen, order: Order, show: Callable[[Sequence[Outcome]], None]
) -> NoReturn:
    """Keeps the collection in step until it is cancelled; calls `show` after each change.

    Raises:
        CommandError: as `run` at the first look; later only if the key is refused.
    """
    await client.sign_in()
    work = _Sync(client, screen, order)
    before, problem = await work.look(), ""
    while True:
        await asyncio.sleep(max(SETTLE_S, LOOK_SHARE * before.took_s))
        try:
            now = await work.look()
            outcomes = await work.follow(before, now)
        except CommandError as error:
            if error.of_key:
                raise
            if error.reason != problem:
                screen.note(f"{error.reason}: {error.detail}; trying again")
            problem = error.reason
            await asyncio.sleep(PAUSE_S)
            continue
        before, problem = now, ""
        if outcomes:
            show(outcomes)
        if any(one.state == "NOT_SENT" or one.unreachable for one in outcomes):
            await asyncio.sleep(PAUSE_S)


class _Sync:
    """What is known of a folder and of the documents that came from it."""

    def __init__(self, client: Client, screen: Screen, order: Order) -> None:
        self._client = client
        self._screen = screen
        self._order = order
        # Of each document the file that was sent, None for one that could not be looked at.
        self._sent: dict[str, Stamp | None] = {}
        # Versions of documents that came from the folder; None before they are listed.
        self._own: dict[str, int] | None = None
        self._kept: set[str] = set()

    async def look(self) -> Files:
        """The folder as it is now."""
        order = self._order
        return await asyncio.to_thread(look, order.folder, order.collection, order.source)

    async def follow(self, before: Files, now: Files) -> list[Outcome]:
        """Does what has changed; `before` is at least `SETTLE_S` older than `now`."""
        await self.list_own()
        outcomes: list[Outcome] = []
        if changed := self.list_changed(now, before):
            outcomes += await self.send(changed, now)
        # An editor may replace a file in two steps.
        removed = self.list_removed(before, now)
        new = [one for one in removed if one.document not in self._kept]
        if new:
            outcomes += await self.remove(new)
        self._kept = {one.document for one in removed} if not self._order.delete else set()
        return outcomes

    def list_changed(self, now: Files, before: Files | None) -> list[Item]:
        """Complete files that have not been sent as they are."""
        unsettled = now.list_unsettled(before)
        return [
            item
            for document, item in now.items.items()
            if document not in unsettled
            and (document not in self._sent or self._sent[document] != now.stamps.get(document))
        ]

    async def send(self, items: Sequence[Item], now: Files) -> list[Outcome]:
        """Sends files that an upload would change, and waits until their documents are final."""
        sending = Sending(self._screen, items, wait=True, as_json=as_json)
        try:
            outcomes = await sending.run(self._client)
        except asyncio.CancelledError:
            self._screen.note(sending.describe_progress())
            raise
        for outcome in outcomes:
            if outcome.state != "NOT_SENT":
                self._sent[outcome.document] = now.stamps.get(outcome.document)
            if outcome.version and outcome.change != "UNCHANGED":
                self.own[outcome.document] = outcome.version
        return outcomes

    async def check(self, items: Sequence[Item]) -> list[Outcome]:
        """What `send` would do; nothing is sent."""
        outcomes = []
        with self._screen.show_progress(checked=len(items)) as bars:
            async for _, item, answer in check(self._client, enumerate(items)):
                outcome = Outcome(path=item.path, document=item.header.document, state="")
                if isinstance(answer, CheckedDocument):
                    state = state_name(answer.state) if answer.version else ""
                    change = result_name(answer)
                    outcome = replace(outcome, change=change, version=answer.version, state=state)
                else:
                    outcome = give_up(replace(outcome, state="NOT_SENT"), answer)
                outcomes.append(outcome)
                bars["checked"].advance()
        return self.record(outcomes)

    @property
    def own(self) -> dict[str, int]:
        """Versions of documents that came from the folder; `list_own` has listed them."""
        assert self._own is not None, "they were listed"
        return self._own

    async def list_own(self) -> None:
        """Lists the documents that came from the folder, if they are not known yet."""
        if self._own is None:
            self._own = {
                document.name: document.version
                async for document in list_documents(self._client, self._order.collection, "")
                if self._is_own(document) and document.state not in GONE
            }

    def list_removed(self, *seen: Files) -> list[Outcome]:
        """Documents that came from the folder and have no file in it, in none of these looks.

        Empty if a folder inside could not be read: what is in it is not known.
        """
        if not all(files.whole for files in seen):
            return []
        there = {document for files in seen for document in files.items}
        return [
            Outcome(path="", document=document, version=version, change="REMOVED", state="REMOVED")
            for document, version in self.own.items()
            if document not in there
        ]

    def _is_own(self, document: Document) -> bool:
        metadata = document.metadata
        return SOURCE in metadata and metadata[SOURCE] == self._order.source

    async def remove(self, removed: Sequence[Outcome]) -> list[Outcome]:
        """Deletes documents if that is the order; what became of each."""
        if not self._order.delete:
            outcomes = list(map(_keep, removed))
        else:
            with self._screen.show_progress(removed=len(removed)) as bars:

                async def remove_one(one: Outcome) -> Outcome:
                    outcome = await self._remove(one)
                    bars["removed"].advance()
                    return outcome

                outcomes = await run_concurrently(remove_one, removed, SIDE_BY_SIDE)
        return self.record(outcomes)

    def record(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Writes outcomes for programs, and returns them."""
        if self._screen.machine:
            for outcome in outcomes:
                self._screen.record(as_json(outcome))
        return outcomes

    async def _remove(self, one: Outcome) -> Outcome:
        ingest, name = self._client.ingest, one.document
        try:
            document = await self._client.call(ingest.GetDocument, GetDocumentRequest(name=name))
            own, gone = self._is_own(document), document.state in GONE
            if own and not gone:
                await self._client.call(ingest.DeleteDocument, DeleteDocumentRequest(name=name))
        except CommandError as error:
            # Otherwise somebody else has deleted it.
            if error.reason != "DOCUMENT_UNKNOWN":
                return give_up(replace(one, state="KEPT"), error)
            own, gone = False, True
        del self.own[name]
        self._sent.pop(name, None)
        # It may have been uploaded by other means in the meantime.
        return one if own or gone else _keep(one)


def _keep(one: Outcome) -> Outcome:
    return replace(one, change="KEPT", state="KEPT")


def _unsettled(item: Item) -> Outcome:
    return Outcome(
        path=item.path,
        document=item.header.document,
        state="NOT_SENT",
        reason="FILE_CHANGING",
        detail="it is still being written",
    )


def as_json(outcome: Outcome) -> dict[str, object]:
    """An outcome for programs."""
    return {**outcome.as_json(), "change": outcome.change}
