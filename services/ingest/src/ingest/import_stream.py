"""ImportDocuments: many documents in one call, answered in order once durable or refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_pb2 import DocumentState
from aquifer.structs import to_json
from chassis.base import telemetry
from chassis.base.errors import FieldViolation, InvalidInputError, ServiceError
from chassis.base.labels import held_labels, read_labels
from chassis.rpc.status import code_of, retry_after_s
from ingest.domain import Draft, Origin
from ingest.lanes import Lane
from ingest.usecases import announce
from ingest.usecases.documents.duplicates import hide_names
from ingest.usecases.uploads.accept_document import AcceptDocument

IN_PROGRESS_MAX: Final = 128
IN_PROGRESS_MAX_BYTES: Final = 8 << 20
CONTENT_MAX_BYTES: Final = 1 << 20

tracer = trace.get_tracer(__name__)


class ImportStream:
    """The documents of one ImportDocuments call.

    Up to `IN_PROGRESS_MAX` of them are handled at a time, with `IN_PROGRESS_MAX_BYTES` of content.
    """

    def __init__(self, accept: AcceptDocument, tenant: str) -> None:
        self._accept = accept
        self._tenant = tenant
        self._call = trace.get_current_span().get_span_context()
        self._bytes = 0
        self._newest: dict[str, asyncio.Task[pb.ImportDocumentsResponse]] = {}
        self._finished = asyncio.Condition()

    async def run(
        self, requests: AsyncIterator[pb.ImportDocumentsRequest]
    ) -> AsyncIterator[pb.ImportDocumentsResponse]:
        """One response for each request, in their order."""
        answers: asyncio.Queue[asyncio.Task[pb.ImportDocumentsResponse] | None]
        answers = asyncio.Queue(IN_PROGRESS_MAX)
        async with asyncio.TaskGroup() as group:

            async def read() -> None:
                async for request in requests:
                    await self._reserve(len(request.content))
                    name = request.header.document
                    earlier = self._newest.get(name)
                    self._newest[name] = group.create_task(self._import_one(request, earlier))
                    await answers.put(self._newest[name])
                await answers.put(None)

            group.create_task(read())
            while (answer := await answers.get()) is not None:
                yield await answer

    async def _reserve(self, size: int) -> None:
        """Waits until the content fits beside that of the other documents in work."""
        async with self._finished:
            await self._finished.wait_for(
                lambda: not self._bytes or self._bytes + size <= IN_PROGRESS_MAX_BYTES
            )
            self._bytes += size

    async def _import_one(
        self,
        request: pb.ImportDocumentsRequest,
        earlier: "asyncio.Task[pb.ImportDocumentsResponse] | None",
    ) -> pb.ImportDocumentsResponse:
        """Imports a document after its `earlier` upload in this call, so that the last one wins."""
        name = request.header.document
        try:
            if earlier:
                await asyncio.wait([earlier])
            return await self._import(request)
        finally:
            if self._newest.get(name) is asyncio.current_task():
                del self._newest[name]
            async with self._finished:
                self._bytes -= len(request.content)
                self._finished.notify()

    async def _import(self, request: pb.ImportDocumentsRequest) -> pb.ImportDocumentsResponse:
        """Imports one document in its own trace, which is linked to the trace of the call."""
        document = request.header.document
        with tracer.start_as_current_span(
            "import document",
            context=Context(),
            kind=SpanKind.SERVER,
            links=[Link(self._call)],
            attributes={"tenant.id": self._tenant, "document.id": document},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            trace_id = trace.format_trace_id(span.get_span_context().trace_id)
            try:
                with telemetry.document_scope(self._tenant, document):
                    view = await self._accept.run(
                        self._make_draft(request, trace_id), request.content
                    )
            except ServiceError as error:
                span.set_status(Status(StatusCode.ERROR, error.reason))
                return pb.ImportDocumentsResponse(document=document, refused=_to_refusal(error))
            notes = hide_names(view.version.notes, held_labels())
            version = replace(view.version, notes=notes)
            return pb.ImportDocumentsResponse(
                document=document,
                accepted=pb.ImportedVersion(
                    version=version.number,
                    state=DocumentState.Value(f"DOCUMENT_STATE_{version.state}"),
                    trace_id=version.trace_id,
                    notes=announce.to_notes(version),
                    same_content=view.same_content,
                ),
            )

    def _make_draft(self, request: pb.ImportDocumentsRequest, trace_id: str) -> Draft:
        header = request.header
        if header.size_bytes and header.size_bytes != len(request.content):
            detail = (
                f"the header declares {header.size_bytes} bytes,"
                f" {len(request.content)} were received"
            )
            violation = FieldViolation("header.size_bytes", detail)
            raise InvalidInputError("SIZE_MISMATCH", detail, fields=[violation])
        if len(request.content) > CONTENT_MAX_BYTES:
            raise InvalidInputError(
                "DOCUMENT_TOO_LARGE",
                f"a document of an import has at most {CONTENT_MAX_BYTES} bytes;"
                " send a larger one with UploadDocument",
                limit_bytes=CONTENT_MAX_BYTES,
            )
        return Draft(
            tenant=self._tenant,
            name=header.document,
            file_name=header.file_name,
            media_type=header.media_type,
            title=header.title,
            metadata=to_json(header.metadata),
            labels=read_labels(header.labels, field="header.labels"),
            password=header.password,
            origin=Origin(request_id=header.request_id),
            trace_id=trace_id,
            lane=Lane.BULK,
        )


def _to_refusal(error: ServiceError) -> pb.ImportRefusal:
    return pb.ImportRefusal(
        code=code_of(error).value[0],
        reason=error.reason,
        detail=error.detail,
        retry_after_s=retry_after_s(error),
    )
