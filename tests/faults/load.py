"""The clients of the campaign: uploads, roll backs, events, updates and deletes, in the journal."""

import asyncio
import hashlib
import itertools
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import grpc

from aquifer.ingest.v1.document_pb2 import Document
from aquifer.ingest.v1.ingest_service_pb2 import (
    DeleteCollectionRequest,
    DeleteDocumentRequest,
    ListDocumentVersionsRequest,
    RollBackDocumentRequest,
    UpdateDocumentRequest,
    UploadDocumentRequest,
    UploadHeader,
)
from aquifer.structs import to_struct
from aquifer_cli.client import Client
from tests.faults.journal import Journal
from tests.faults.outsider import OPEN, SECRET, is_secret
from tests.faults.upstream import Upload, Upstream, open_upstream
from tests.faults.web import Pages

CALL_S = 8.0
# Of all documents but those of collections that are deleted as a whole.
COLLECTION = "faults"
CLIENTS = 4
# Systems that publish to the same few documents over and over, beside one that never does.
WRITERS = 3
ROW = 20
APART_S = 0.05
ORDERED_MAX = 40
# Documents of a collection that is deleted as a whole: uploaded before it, and on their way then.
IN_COLLECTION = 5
ON_THEIR_WAY = 3
# A deletion that is not answered, or is still pending, is asked for again.
DELETE_TRIES = 10
# So many uploads at once, and then so many a second: a long stop must not pile up work that two
# cores need minutes for.
BURST = 60
RATE = 12.0
# Share of the upload events that refer to their content.
REFERRED = 0.15
# Share of the new documents that one key must never see, and of the others' uploads with labels.
SECRETS = 0.1
LABELLED = 0.3
# More than fits into a row of the database.
LONG_WORDS = 12_000
WORDS = (
    *("water", "rock", "sand", "clay", "spring", "well", "river", "rain", "layer", "pump", "level"),
    *("filter", "season", "valley", "snow", "stone", "flow", "depth", "pressure", "basin"),
    *("source", "field", "forest", "record", "measure", "winter", "summer", "board"),
)


@dataclass(slots=True)
class Load:
    """Clients working until they are stopped; every new document of a run carries the run's number.

    Args:
        clients: one for each replica of the services.
        journal: of everything they do.
        random: decides what they do.
        run: number of the run.
        pages: of a web server that some upload events refer to.
        ordered: documents that several uploads in order are written to, kept over the runs.
    """

    clients: Sequence[Client]
    journal: Journal
    random: random.Random
    run: int
    pages: Pages
    ordered: list[str]
    names: list[str] = field(default_factory=list)
    _sent: int = 0
    _since: float = field(default_factory=time.monotonic)

    async def until(self, stop: asyncio.Event) -> None:
        """Works until `stop`, then finishes what is in flight."""
        endpoints = self.clients[0].endpoints
        async with open_upstream(endpoints, self.journal) as upstream:
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(self._client(number, stop))
                group.create_task(self._upstream(upstream, stop))
                group.create_task(self._collections(upstream, stop))
                for _ in range(WRITERS):
                    group.create_task(self._writer(upstream, stop))

    async def upload_alone(self, kind: str) -> str:
        """Uploads one document while nothing else is going on; returns its name, or nothing."""
        document = _document(f"r{self.run}-{kind}-{uuid.uuid4().hex[:8]}")
        return document if await self._upload(document) else ""

    async def delete_collection_alone(self) -> None:
        """Deletes a collection with documents while nothing else is going on."""
        collection = f"r{self.run}-alone-{uuid.uuid4().hex[:8]}"
        await self._delete_collection(collection, *await self._fill(collection))

    async def update_alone(self, document: str) -> None:
        """Updates a document that nobody else writes to."""
        await self._update(document)

    async def _client(self, number: int, stop: asyncio.Event) -> None:
        while await self._may_send(stop):
            choice = self.random.random()
            if choice < 0.12 and self.names:
                name = self.names.pop(self.random.randrange(len(self.names)))
                await self._delete(_document(name))
            elif choice < 0.27 and self.names:
                await self._upload(_document(self.random.choice(self.names)))
            elif choice < 0.37 and self.names:
                await self._update(_document(self.random.choice(self.names)))
            else:
                kind = SECRET if self.random.random() < SECRETS else f"c{number}"
                name = f"r{self.run}-{kind}-{uuid.uuid4().hex[:8]}"
                if await self._upload(_document(name)):
                    self.names.append(name)
            await asyncio.sleep(self.random.uniform(0.01, 0.08))

    async def _upstream(self, upstream: Upstream, stop: asyncio.Event) -> None:
        """New documents, one after the other."""
        while await self._may_send(stop):
            document = _document(f"r{self.run}-e-{uuid.uuid4().hex[:8]}")
            await self._events(upstream, document, 1)
            await asyncio.sleep(self.random.uniform(0.05, 0.2))

    async def _collections(self, upstream: Upstream, stop: asyncio.Event) -> None:
        """Collections that are deleted with their documents while more of them are on their way."""
        while await self._may_send(stop):
            collection = f"r{self.run}-{uuid.uuid4().hex[:8]}"
            known, unanswered = await self._fill(collection)
            coming = [*known[:1], *(_document(f"e{n}", collection) for n in range(ON_THEIR_WAY))]
            late = [upstream.prepare(document, self._text()) for document in coming]
            await upstream.publish(*late)
            async with asyncio.TaskGroup() as group:
                group.create_task(
                    self._delete_collection(collection, known, [*unanswered, *coming])
                )
                if self.random.random() < 0.5:
                    group.create_task(self._upload(self.random.choice(coming)))
            await upstream.settle(*late)
            if self.random.random() < 0.5:
                await self._events(upstream, self.random.choice(coming), 1)
            await asyncio.sleep(self.random.uniform(0.1, 0.5))

    async def _writer(self, upstream: Upstream, stop: asyncio.Event) -> None:
        """Several uploads for one document, again and again; nobody else writes to it meanwhile."""
        steps = (
            *(self._row, self._pairs, self._same_again, self._mixed),
            *(self._deleted_between, self._rolled_back),
        )
        while await self._may_send(stop):
            document = self._take_ordered()
            await self.random.choice(steps)(upstream, document)
            self.ordered.append(document)
            await asyncio.sleep(self.random.uniform(0.02, 0.1))

    async def _may_send(self, stop: asyncio.Event) -> bool:
        """Waits for its turn; false once it is time to stop."""
        while not stop.is_set():
            if self._sent < BURST + RATE * (time.monotonic() - self._since):
                return True
            await asyncio.sleep(0.02)
        return False

    def _take_ordered(self) -> str:
        if len(self.ordered) > self.random.randrange(ORDERED_MAX):
            return self.ordered.pop(self.random.randrange(len(self.ordered)))
        return _document(f"r{self.run}-o-{uuid.uuid4().hex[:8]}")

    async def _row(self, upstream: Upstream, document: str) -> None:
        await self._events(upstream, document, ROW)

    async def _pairs(self, upstream: Upstream, document: str) -> None:
        """OLD and NEW at once, and OLD and NEW a moment apart."""
        await self._events(upstream, document, 2)
        await self._events(upstream, document, 2, gap_s=APART_S)

    async def _same_again(self, upstream: Upstream, document: str) -> None:
        """The first bytes come back as the last ones."""
        first, second = self._text(), self._text()
        uploads = [upstream.prepare(document, content) for content in (first, second, first)]
        await upstream.publish(*uploads)
        await upstream.settle(*uploads)

    async def _mixed(self, upstream: Upstream, document: str) -> None:
        """Events and calls: one after the other, or a call while events are on their way."""
        for _ in range(self.random.randint(2, 4)):
            if self.random.random() < 0.5:
                await self._events(upstream, document, self.random.randint(1, 4))
                await self._upload(document)
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._events(upstream, document, 3))
                    group.create_task(self._upload(document))

    async def _deleted_between(self, upstream: Upstream, document: str) -> None:
        await self._events(upstream, document, 3)
        await self._delete(document)
        await self._events(upstream, document, self.random.randint(0, 2))

    async def _rolled_back(self, upstream: Upstream, document: str) -> None:
        """Back to a version of which no one knows whether it is kept, alone or amid uploads."""
        await self._events(upstream, document, self.random.randint(2, 4))
        await self._roll_back(document)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events(upstream, document, 2))
            group.create_task(self._roll_back(document))
        if self.random.random() < 0.3:
            await self._delete(document)
            await self._roll_back(document)
        await self._roll_back(document)

    async def _events(
        self, upstream: Upstream, document: str, count: int, *, gap_s: float = 0.0
    ) -> None:
        uploads: list[Upload] = [self._prepare(upstream, document) for _ in range(count)]
        await upstream.publish(*uploads, gap_s=gap_s)
        await upstream.settle(*uploads)

    def _prepare(self, upstream: Upstream, document: str) -> Upload:
        content = self._text()
        uri = self.pages.publish(content) if self.random.random() < REFERRED else ""
        return upstream.prepare(document, content, uri, self._labels(document))

    def _labels(self, document: str) -> Sequence[str]:
        if is_secret(document):
            return [SECRET]
        labelled = self.random.random() < LABELLED
        return self.random.sample(OPEN, self.random.randint(1, len(OPEN))) if labelled else []

    def _text(self, count: int = 0) -> bytes:
        self._sent += 1
        count = count or self.random.randrange(30, 450)
        words = " ".join(self.random.choice(WORDS) for _ in range(count))
        return f"Report {uuid.uuid4().hex}. {words}.".encode()

    def _file(self, document: str) -> tuple[str, bytes]:
        """A file name and content: small text most often, which needs no parser process."""
        choice = self.random.random()
        if is_secret(document):
            return "r.txt", b"Confidential. " + self._text()
        if choice < 0.8:
            return "r.txt", self._text()
        if choice < 0.86:
            return "r.txt", self._text(LONG_WORDS)
        text = self._text().decode()
        if choice < 0.93:
            return "r.md", f"# Report\n\n{text}\n\n## Table\n\n{self._table()}".encode()
        return "r.html", f"<h1>Report</h1><p>{text}</p><h2>End</h2><p>of it".encode()

    def _table(self) -> str:
        rows = "".join(f"| {year} | {self.random.choice(WORDS)} |\n" for year in range(1900, 2000))
        return f"| year | what |\n|---|---|\n{rows}"

    async def _upload(self, document: str) -> bool:
        file_name, content = self._file(document)
        labels = self._labels(document)
        sha256 = hashlib.sha256(content).hexdigest()
        operation = f"upload-{uuid.uuid4().hex[:12]}"
        self.journal.begin(operation, kind="upload", document=document, sha256=sha256)

        async def parts() -> AsyncIterator[UploadDocumentRequest]:
            header = UploadHeader(
                document=document,
                file_name=file_name,
                request_id=operation,
                size_bytes=len(content),
                labels=labels,
            )
            yield UploadDocumentRequest(header=header)
            yield UploadDocumentRequest(content=content)

        client = self.random.choice(self.clients)
        try:
            answer = await client.ingest.UploadDocument(
                parts(), timeout=CALL_S, metadata=await client.credentials()
            )
        except grpc.aio.AioRpcError as error:
            self.journal.end(operation, accepted=False, code=error.code().name)
            await asyncio.sleep(0.2)
            return False
        self.journal.end(operation, accepted=True, version=answer.version)
        return True

    async def _roll_back(self, document: str) -> None:
        """Asks for one of the last versions; of that, the bytes are in the journal beforehand."""
        client = self.random.choice(self.clients)
        try:
            listed = await client.ingest.ListDocumentVersions(
                ListDocumentVersionsRequest(name=document, page_size=5),
                timeout=CALL_S,
                metadata=await client.credentials(),
            )
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.2)
            return
        version = self.random.choice(listed.versions)
        operation = f"rollback-{uuid.uuid4().hex[:12]}"
        self.journal.begin(operation, kind="rollback", document=document, sha256=version.sha256)
        request = RollBackDocumentRequest(
            name=document, version=version.version, request_id=operation
        )
        try:
            answer = await client.ingest.RollBackDocument(
                request, timeout=CALL_S, metadata=await client.credentials()
            )
        except grpc.aio.AioRpcError as error:
            self.journal.end(operation, accepted=False, code=error.code().name)
        else:
            self.journal.end(operation, accepted=True, version=answer.version)

    async def _update(self, document: str) -> None:
        operation = f"update-{uuid.uuid4().hex[:12]}"
        self.journal.begin(operation, kind="update", document=document)
        change = Document(
            name=document,
            metadata=to_struct({"update": operation}),
            labels=self._labels(document),
        )
        client = self.random.choice(self.clients)
        try:
            await client.ingest.UpdateDocument(
                UpdateDocumentRequest(document=change),
                timeout=CALL_S,
                metadata=await client.credentials(),
            )
        except grpc.aio.AioRpcError as error:
            self.journal.end(operation, updated=False, code=error.code().name)
        else:
            self.journal.end(operation, updated=True)

    async def _delete(self, document: str) -> None:
        operation = f"delete-{uuid.uuid4().hex[:12]}"
        self.journal.begin(operation, kind="delete", document=document)
        client = self.random.choice(self.clients)
        try:
            await client.ingest.DeleteDocument(
                DeleteDocumentRequest(name=document),
                timeout=CALL_S,
                metadata=await client.credentials(),
            )
        except grpc.aio.AioRpcError as error:
            self.journal.end(operation, deleted=False, code=error.code().name)
        else:
            self.journal.end(operation, deleted=True)

    async def _fill(self, collection: str) -> tuple[list[str], list[str]]:
        """Uploads documents into a collection at once.

        Returns those that were accepted, and the others, which may have been accepted as well.
        """
        sent = [_document(f"k{number}", collection) for number in range(IN_COLLECTION)]
        accepted = set(itertools.compress(sent, await asyncio.gather(*map(self._upload, sent))))
        return [one for one in sent if one in accepted], [
            one for one in sent if one not in accepted
        ]

    async def _delete_collection(
        self, collection: str, known: Sequence[str], coming: Sequence[str]
    ) -> None:
        """Deletes a collection: a delete of each of its documents, known or perhaps there by then.

        For those that may not have been there, nothing is promised.
        """
        operations = {}
        for document in dict.fromkeys((*known, *coming)):
            operations[document] = f"delete-{uuid.uuid4().hex[:12]}"
            self.journal.begin(operations[document], kind="delete", document=document)
        code = ""
        for _ in range(DELETE_TRIES):
            code = await self._try_to_delete(collection)
            if code in {"OK", "NOT_FOUND"}:
                break
            await asyncio.sleep(1.0)
        for document, operation in operations.items():
            self.journal.end(operation, deleted=code == "OK" and document in known, code=code)

    async def _try_to_delete(self, collection: str) -> str:
        client = self.random.choice(self.clients)
        try:
            await client.ingest.DeleteCollection(
                DeleteCollectionRequest(name=f"collections/{collection}", force=True),
                timeout=CALL_S,
                metadata=await client.credentials(),
            )
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


def _document(name: str, collection: str = COLLECTION) -> str:
    return f"collections/{collection}/documents/{name}"
