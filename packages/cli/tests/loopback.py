"""Auth and ingest on loopback, that refuse, fail and are slow on demand."""

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from aquifer.auth.v1.auth_service_pb2 import ExchangeTokenResponse
from aquifer.auth.v1.auth_service_pb2_grpc import (
    AuthServiceServicer,
    add_AuthServiceServicer_to_server,
)
from aquifer.ingest.v1.document_pb2 import Document, DocumentState, Note
from aquifer.ingest.v1.ingest_service_pb2 import (
    CHECK_RESULT_CHANGED,
    CHECK_RESULT_NEW,
    CHECK_RESULT_UNCHANGED,
    CheckDocumentsResponse,
    CheckedDocument,
    GetDocumentTextRequest,
    GetDocumentTextResponse,
    ImportDocumentsResponse,
    ImportedVersion,
    ImportRefusal,
    ListDocumentsResponse,
    Subscribed,
    UploadHeader,
    UploadSession,
    WatchDocumentsResponse,
)
from aquifer.ingest.v1.ingest_service_pb2_grpc import (
    IngestServiceServicer,
    add_IngestServiceServicer_to_server,
)
from aquifer.services import NAMES
from aquifer_cli import upload as uploading
from aquifer_cli.client import open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.sources import Item

ACCEPTED = DocumentState.DOCUMENT_STATE_ACCEPTED
PREPARED = DocumentState.DOCUMENT_STATE_PREPARED
INDEXED = DocumentState.DOCUMENT_STATE_INDEXED
TEXT_CHARS = 10
SUPERSEDED = DocumentState.DOCUMENT_STATE_SUPERSEDED
FAILED = DocumentState.DOCUMENT_STATE_FAILED
DELETING = DocumentState.DOCUMENT_STATE_DELETING


async def refuse(context, code, reason):
    detail = Any()
    detail.Pack(ErrorInfo(reason=reason))
    status = Status(code=code, message=f"because of {reason}", details=[detail])
    await context.abort_with_status(rpc_status.to_status(status))


class Auth(AuthServiceServicer):
    async def ExchangeToken(self, request, context):
        if request.api_key != "right":
            await refuse(context, Code.UNAUTHENTICATED, "KEY_INVALID")
        answer = ExchangeTokenResponse(access_token="token")
        answer.expire_time.GetCurrentTime()
        answer.expire_time.seconds += 600
        return answer


@dataclass
class Ingest(IngestServiceServicer):
    """Keeps uploads in memory; a document is final `final_after_s` after it came, or never."""

    refusals: list[tuple[int, str]] = field(default_factory=list)
    watch_refusals: list[tuple[int, str]] = field(default_factory=list)
    check_refusals: list[tuple[int, str]] = field(default_factory=list)
    delete_refusals: list[tuple[int, str]] = field(default_factory=list)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    checks: int = 0
    finals: dict[str, int] = field(default_factory=dict)
    notes: dict[str, list[Note]] = field(default_factory=dict)
    same_content: dict[str, list[str]] = field(default_factory=dict)
    final_after_s: float | None = 0.05
    answer_after_s: float = 0.01
    contents: dict[str, bytes] = field(default_factory=dict)
    told_bytes: set[int] = field(default_factory=set)
    final: dict[str, int] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    listed: int = 0
    text_requests: list[GetDocumentTextRequest] = field(default_factory=list)
    followers: set[asyncio.Queue] = field(default_factory=set)
    watches: int = 0
    calls: int = 0
    cut_calls: int = 0
    sessions: dict[str, UploadSession] = field(default_factory=dict)
    received: dict[str, bytearray] = field(default_factory=dict)
    appends: list[int] = field(default_factory=list)
    cut_appends: int = 0
    open_now: int = 0
    open_most: int = 0

    async def UploadDocument(self, request_iterator, context):
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            parts = aiter(request_iterator)
            header = (await anext(parts)).header
            content = b"".join([part.content async for part in parts])
            if self.refusals:
                await refuse(context, *self.refusals.pop(0))
            self.contents[header.document] = content
            self.metadata[header.document] = dict(header.metadata)
            self.told_bytes.add(header.size_bytes)
            if self.final_after_s is not None:
                loop = asyncio.get_running_loop()
                loop.call_later(self.final_after_s, self.finish, header.document)
            await asyncio.sleep(self.answer_after_s)
            same = self.same_content.get(header.document, [])
            return Document(name=header.document, version=1, state=ACCEPTED, same_content=same)
        finally:
            self.open_now -= 1

    async def ImportDocuments(self, request_iterator, context):
        self.calls += 1
        async for request in request_iterator:
            name = request.header.document
            if self.cut_calls:
                self.cut_calls -= 1
                await refuse(context, Code.UNAVAILABLE, "SHUTTING_DOWN")
            if self.refusals:
                code, reason = self.refusals.pop(0)
                refused = ImportRefusal(code=code, reason=reason, detail=f"because of {reason}")
                yield ImportDocumentsResponse(document=name, refused=refused)
                continue
            self.contents[name] = request.content
            self.metadata[name] = dict(request.header.metadata)
            if self.final_after_s is not None:
                asyncio.get_running_loop().call_later(self.final_after_s, self.finish, name)
            await asyncio.sleep(self.answer_after_s)
            same = self.same_content.get(name, [])
            accepted = ImportedVersion(version=1, state=ACCEPTED, same_content=same)
            yield ImportDocumentsResponse(document=name, accepted=accepted)

    async def StartUpload(self, request, context):
        name = request.header.document
        known = self.sessions.get(name)
        if known is None or known.upload_id != request.sha256:
            self.received[request.sha256] = bytearray()
            self.sessions[name] = UploadSession(
                upload_id=request.sha256, document=name, size_bytes=request.header.size_bytes
            )
        return self.session(request.sha256)

    async def AppendUpload(self, request_iterator, context):
        parts = aiter(request_iterator)
        position = (await anext(parts)).position
        received = self.received[position.upload_id]
        self.appends.append(position.offset)
        if position.offset != len(received):
            await refuse(context, Code.ABORTED, "UPLOAD_OFFSET")
        async for part in parts:
            received += part.content
            if self.cut_appends and len(received) > position.offset + (1 << 20):
                self.cut_appends -= 1
                await refuse(context, Code.UNAVAILABLE, "SHUTTING_DOWN")
        return self.session(position.upload_id)

    async def FinishUpload(self, request, context):
        session = self.session(request.upload_id)
        content = bytes(self.received[request.upload_id])
        if hashlib.sha256(content).hexdigest() != request.upload_id:
            await refuse(context, Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH")
        self.contents[session.document] = content
        if self.final_after_s is not None:
            asyncio.get_running_loop().call_later(self.final_after_s, self.finish, session.document)
        return Document(name=session.document, version=1, state=ACCEPTED)

    def session(self, upload_id):
        [session] = [one for one in self.sessions.values() if one.upload_id == upload_id]
        session.offset = len(self.received[upload_id])
        return session

    async def CheckDocuments(self, request, context):
        self.checks += 1
        if self.check_refusals:
            await refuse(context, *self.check_refusals.pop(0))
        return CheckDocumentsResponse(documents=map(self.check, request.documents))

    def check(self, one):
        content = self.contents.get(one.document)
        if content is None:
            return CheckedDocument(document=one.document, result=CHECK_RESULT_NEW)
        same = hashlib.sha256(content).hexdigest() == one.sha256
        known = self.document(one.document)
        if known.state == FAILED or not same:
            return CheckedDocument(document=one.document, result=CHECK_RESULT_CHANGED, version=1)
        return CheckedDocument(
            document=one.document,
            result=CHECK_RESULT_UNCHANGED,
            version=1,
            state=known.state,
            duplicate_of=next(iter(self.same_content.get(one.document, [])), ""),
        )

    async def GetDocument(self, request, context):
        self.read.append(request.name)
        if request.name not in self.contents:
            await refuse(context, Code.NOT_FOUND, "DOCUMENT_UNKNOWN")
        return self.document(request.name)

    async def GetDocumentText(self, request, context):
        if request.name not in self.contents:
            await refuse(context, Code.NOT_FOUND, "DOCUMENT_UNKNOWN")
        # A newer version is live after the first part.
        version = request.version or 1 + len(self.text_requests)
        self.text_requests.append(request)
        text = self.contents[request.name].decode()
        end = request.end or len(text)
        stop = min(end, request.start + TEXT_CHARS)
        return GetDocumentTextResponse(
            name=request.name,
            version=version,
            text=text[request.start : stop],
            start=request.start,
            end=stop,
            next_start=stop if stop < end else 0,
            length=len(text),
            page=request.first_page,
        )

    async def ListDocuments(self, request, context):
        self.listed += 1
        documents = [self.document(name) for name in self.contents]
        states = {request.state} if request.state else {ACCEPTED, PREPARED, INDEXED, FAILED}
        return ListDocumentsResponse(documents=[d for d in documents if d.state in states])

    async def DeleteDocument(self, request, context):
        if self.delete_refusals:
            await refuse(context, *self.delete_refusals.pop(0))
        if request.name not in self.contents:
            await refuse(context, Code.NOT_FOUND, "DOCUMENT_UNKNOWN")
        self.deleted.append(request.name)
        del self.contents[request.name]
        return Document(name=request.name, version=1, state=DELETING)

    async def WatchDocuments(self, request, context):
        self.watches += 1
        if self.watch_refusals:
            await refuse(context, *self.watch_refusals.pop(0))
        queue = asyncio.Queue()
        self.followers.add(queue)
        try:
            yield WatchDocumentsResponse(subscribed=Subscribed())
            while (update := await queue.get()) is not None:
                yield update
            await refuse(context, Code.UNAVAILABLE, "SHUTTING_DOWN")
        finally:
            self.followers.discard(queue)

    def finish(self, name):
        self.final[name] = self.finals.get(name, INDEXED)
        for queue in self.followers:
            queue.put_nowait(WatchDocumentsResponse(document=self.document(name)))

    def cut(self):
        """Ends every stream of changes."""
        for queue in self.followers:
            queue.put_nowait(None)

    def document(self, name):
        state = self.final.get(name, PREPARED)
        reason = "NO_TEXT" if state == FAILED else ""
        return Document(
            name=name,
            version=1,
            state=state,
            reason=reason,
            metadata=self.metadata.get(name),
            notes=self.notes.get(name, ()),
        )


@asynccontextmanager
async def serving(ingest, api_key="right"):
    server = grpc.aio.server()
    add_AuthServiceServicer_to_server(Auth(), server)
    add_IngestServiceServicer_to_server(ingest, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    endpoints = Endpoints(
        services=dict.fromkeys(NAMES, address),
        traces="",
        tenant="default",
        api_key=api_key,
    )
    try:
        async with open_client(endpoints) as client:
            yield client, server
    finally:
        await server.stop(0)


def name(number):
    return f"collections/c/documents/{number}"


def items(count, content=b"text"):
    return [
        Item(
            path=f"file:{number}",
            header=UploadHeader(document=name(number)),
            open=partial(BytesIO, content),
        )
        for number in range(count)
    ]


async def send(client, sent, *, wait):
    """As the command does; every outcome is reported once."""
    heard = []
    outcomes = await uploading.send(client, sent, wait=wait, on_done=heard.append)
    assert sorted(o.path for o in heard) == sorted(o.path for o in outcomes)
    return outcomes
