"""`IngestService` and the scopes of its methods."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_pb2 import Document, DocumentState, PageBreak
from aquifer.ingest.v1.ingest_service_pb2_grpc import IngestServiceServicer
from aquifer.structs import to_json
from chassis.base import paging, telemetry
from chassis.base.errors import FieldViolation, InvalidInputError
from chassis.base.labels import read_labels
from chassis.identity.tokens import caller
from chassis.rpc.server import Access, any_of
from ingest.changes import read_changes
from ingest.checks import Check, Checked
from ingest.collection_rpc import CollectionRpc
from ingest.document_messages import count_fitting, to_document, to_state
from ingest.domain import Draft, Origin, State, check_name, is_collection
from ingest.filter_parser import parse_filter
from ingest.import_stream import ImportStream
from ingest.lanes import read_lane
from ingest.traces import current_trace_id
from ingest.upload_rpc import UploadRpc, order_error, read_pieces
from ingest.usecases.deletion.delete_document import DeleteDocument
from ingest.usecases.documents.progress import Progress
from ingest.usecases.documents.read_documents import (
    GetDocument,
    ListDocuments,
    WatchDocument,
    WatchDocuments,
)
from ingest.usecases.documents.read_text import GetDocumentText, TextPart, TextQuery
from ingest.usecases.documents.update_document import UpdateDocument
from ingest.usecases.rows import PageQuery
from ingest.usecases.uploads.accept_document import AcceptDocument
from ingest.usecases.uploads.check_documents import CheckDocuments
from ingest.usecases.uploads.upload_sessions import FinishUpload
from ingest.version_rpc import VersionRpc

CUT_OFF_S: Final = 0.02
_SERVICE: Final = "aquifer.ingest.v1.IngestService"
# UNSPECIFIED, and a number of a later contract, stand for any state but DELETED.
_STATES: Final = {DocumentState.Value(f"DOCUMENT_STATE_{state}"): state for state in State}

ACCESS: Final[Access] = {
    f"{_SERVICE}/UploadDocument": any_of("documents.write"),
    f"{_SERVICE}/ImportDocuments": any_of("documents.write"),
    f"{_SERVICE}/StartUpload": any_of("documents.write"),
    f"{_SERVICE}/AppendUpload": any_of("documents.write"),
    f"{_SERVICE}/GetUpload": any_of("documents.write"),
    f"{_SERVICE}/FinishUpload": any_of("documents.write"),
    f"{_SERVICE}/GetDocument": any_of("documents.read"),
    f"{_SERVICE}/CheckDocuments": any_of("documents.read"),
    f"{_SERVICE}/GetDocumentText": any_of("documents.read"),
    f"{_SERVICE}/ListDocumentVersions": any_of("documents.read"),
    f"{_SERVICE}/RollBackDocument": any_of("documents.write"),
    f"{_SERVICE}/PinDocument": any_of("documents.write"),
    f"{_SERVICE}/UnpinDocument": any_of("documents.write"),
    f"{_SERVICE}/ListDocuments": any_of("documents.read"),
    f"{_SERVICE}/CreateCollection": any_of("documents.write"),
    f"{_SERVICE}/GetCollection": any_of("documents.read"),
    f"{_SERVICE}/ListCollections": any_of("documents.read"),
    f"{_SERVICE}/UpdateCollection": any_of("documents.write"),
    f"{_SERVICE}/DeleteCollection": any_of("documents.write"),
    f"{_SERVICE}/GetCollectionDeletion": any_of("documents.read"),
    f"{_SERVICE}/WatchDocument": any_of("documents.read"),
    f"{_SERVICE}/WatchDocuments": any_of("documents.read"),
    f"{_SERVICE}/UpdateDocument": any_of("documents.write"),
    f"{_SERVICE}/DeleteDocument": any_of("documents.write"),
}


@dataclass(frozen=True, kw_only=True)
class IngestRpc(CollectionRpc, UploadRpc, VersionRpc, IngestServiceServicer):
    """`IngestService`; converts messages and calls use cases."""

    accept: AcceptDocument
    finish_upload: FinishUpload
    update: UpdateDocument
    delete: DeleteDocument
    get: GetDocument
    check: CheckDocuments
    get_text: GetDocumentText
    list_page: ListDocuments
    watch: WatchDocument
    watch_many: WatchDocuments

    @override
    async def UploadDocument(
        self,
        request_iterator: AsyncIterator[pb.UploadDocumentRequest],
        context: ServicerContext[Any, Any],
    ) -> Document:
        parts = aiter(request_iterator)
        header = await _read_header(parts)
        draft = Draft(
            tenant=caller().tenant,
            name=header.document,
            file_name=header.file_name,
            media_type=header.media_type,
            title=header.title,
            metadata=to_json(header.metadata),
            labels=read_labels(header.labels, field="header.labels"),
            password=header.password,
            origin=Origin(request_id=header.request_id),
            trace_id=current_trace_id(),
            lane=read_lane(header.lane),
        )
        with telemetry.document_scope(draft.tenant, draft.name):
            self.accept.sizes.check(header.size_bytes, draft.media_type, draft.file_name)
            return to_document(
                await self.accept.run(draft, _read_content(parts, header.size_bytes))
            )

    @override
    async def ImportDocuments(
        self,
        request_iterator: AsyncIterator[pb.ImportDocumentsRequest],
        context: ServicerContext[Any, Any],
    ) -> AsyncIterator[pb.ImportDocumentsResponse]:
        imported = ImportStream(self.accept, caller().tenant)
        async for response in imported.run(request_iterator):
            yield response

    @override
    async def FinishUpload(
        self, request: pb.FinishUploadRequest, context: ServicerContext[Any, Any]
    ) -> Document:
        return to_document(
            await self.finish_upload.run(
                caller().tenant, request.upload_id, current_trace_id(), request.password
            )
        )

    @override
    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: ServicerContext[Any, Any]
    ) -> Document:
        return to_document(await self.get.run(caller().tenant, request.name))

    @override
    async def CheckDocuments(
        self, request: pb.CheckDocumentsRequest, context: ServicerContext[Any, Any]
    ) -> pb.CheckDocumentsResponse:
        checks = [_to_check(one) for one in request.documents]
        found = await self.check.run(caller().tenant, checks)
        return pb.CheckDocumentsResponse(documents=map(_to_checked, found))

    @override
    async def GetDocumentText(
        self, request: pb.GetDocumentTextRequest, context: ServicerContext[Any, Any]
    ) -> pb.GetDocumentTextResponse:
        query = TextQuery(
            version=request.version,
            start=request.start,
            end=request.end,
            first_page=request.first_page,
            last_page=request.last_page,
        )
        return _to_text(await self.get_text.run(caller().tenant, request.name, query))

    @override
    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListDocumentsResponse:
        where = parse_filter(request.filter)
        if request.collection and not is_collection(request.collection):
            # No document has such a name; the contract has no reason for refusing it.
            return pb.ListDocumentsResponse()
        state = _STATES.get(request.state)
        bound = (request.collection, state or "", _digest(request.filter))
        page = paging.parse(request.page_size, request.page_token, bound=bound)
        query = PageQuery(
            collection=request.collection,
            state=state,
            where=where,
            after=page.after_name,
            limit=page.limit,
        )
        views = await self.list_page.run(caller().tenant, query)
        documents = [to_document(view) for view in views]
        page = replace(page, size=min(page.size, count_fitting(documents)))
        cut, token = page.cut(documents, lambda document: (document.name,))
        return pb.ListDocumentsResponse(documents=cut, next_page_token=token)

    @override
    async def WatchDocument(
        self, request: pb.WatchDocumentRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WatchDocumentResponse]:
        watching = self.watch.run(caller().tenant, request.name, progress=request.progress)
        async with aclosing(watching) as changes:
            async for view, progress in changes:
                yield pb.WatchDocumentResponse(
                    document=to_document(view), progress=_to_progress(progress)
                )

    @override
    async def WatchDocuments(
        self, request: pb.WatchDocumentsRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WatchDocumentsResponse]:
        watching = self.watch_many.run(
            caller().tenant, request.collection, progress=request.progress
        )
        async with aclosing(watching) as changes:
            async for news in changes:
                if news is None:
                    yield pb.WatchDocumentsResponse(subscribed=pb.Subscribed())
                elif isinstance(news, Progress):
                    yield pb.WatchDocumentsResponse(progress=_to_progress(news))
                else:
                    for view in news:
                        yield pb.WatchDocumentsResponse(document=to_document(view))

    @override
    async def UpdateDocument(
        self, request: pb.UpdateDocumentRequest, context: ServicerContext[Any, Any]
    ) -> Document:
        given = request.document
        check_name(given.name, field="document.name")
        changes = read_changes(
            request.update_mask.paths,
            title=given.title,
            metadata=to_json(given.metadata) if given.HasField("metadata") else None,
            labels=read_labels(given.labels, field="document.labels"),
        )
        with telemetry.document_scope(caller().tenant, given.name):
            return to_document(await self.update.run(caller().tenant, given.name, changes))

    @override
    async def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, context: ServicerContext[Any, Any]
    ) -> Document:
        check_name(request.name)
        with telemetry.document_scope(caller().tenant, request.name):
            return to_document(await self.delete.run(caller().tenant, request.name))


async def _read_header(parts: AsyncIterator[pb.UploadDocumentRequest]) -> pb.UploadHeader:
    first = await anext(parts, None)
    if first is None or first.WhichOneof("part") != "header":
        raise order_error("send the header in the first message")
    return first.header


async def _read_content(
    parts: AsyncIterator[pb.UploadDocumentRequest], size_bytes: int
) -> AsyncIterator[bytes]:
    """Yields the content; ends without an error only if it is complete, as far as is known."""
    received = 0
    async for content in read_pieces(parts):
        received += len(content)
        if size_bytes and received > size_bytes:
            raise _size_mismatch_error(size_bytes, received)
        yield content
    # The stream of a killed client ends here like a complete one.
    if not size_bytes:
        # A killed client's call is cancelled, and grpc.aio always delivers the cancellation after
        # the end of the stream: 60 us later, at most 7 ms on a machine with ten times its load.
        await asyncio.sleep(CUT_OFF_S)
    elif received != size_bytes:
        raise _size_mismatch_error(size_bytes, received)


def _size_mismatch_error(declared: int, received: int) -> InvalidInputError:
    detail = f"the header declares {declared} bytes; {received} were received"
    violation = FieldViolation("header.size_bytes", detail)
    return InvalidInputError(
        "SIZE_MISMATCH", detail, fields=[violation], size_bytes=declared, received_bytes=received
    )


def _to_check(one: pb.DocumentCheck) -> Check:
    return Check(
        name=one.document,
        sha256=one.sha256,
        media_type=one.media_type,
        described=one.HasField("description"),
        title=one.description.title,
        metadata=to_json(one.description.metadata),
        labels=read_labels(one.labels),
    )


def _to_checked(one: Checked) -> pb.CheckedDocument:
    checked = pb.CheckedDocument(
        document=one.check.name,
        result=pb.CheckResult.Value(f"CHECK_RESULT_{one.result}"),
        duplicate_of=one.duplicate_of,
    )
    if one.newest is not None:
        checked.version = one.newest.number
        checked.state = to_state(one.newest.state)
    return checked


def _digest(text: str) -> str:
    """Binds a page token to a filter of any length; empty for no filter."""
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def _to_progress(progress: Progress | None) -> pb.Progress | None:
    if progress is None:
        return None
    message = pb.Progress(
        documents_ahead=progress.ahead, documents_ahead_overall=progress.ahead_overall
    )
    if progress.remaining_s is not None:
        message.remaining.FromMilliseconds(round(progress.remaining_s * 1_000))
    return message


def _to_text(part: TextPart) -> pb.GetDocumentTextResponse:
    version = part.version
    return pb.GetDocumentTextResponse(
        name=version.document,
        version=version.number,
        text=part.text,
        start=part.start,
        end=part.start + len(part.text),
        next_start=part.next_start,
        length=part.length,
        page=part.page,
        page_breaks=[PageBreak(start=start, page=page) for start, page in part.page_breaks],
        title=version.title,
        media_type=version.media_type,
    )
