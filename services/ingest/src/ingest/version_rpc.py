"""The methods of `IngestService` for versions of a document."""

from dataclasses import dataclass, replace
from typing import Any, Final

from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.document_pb2 import Document
from aquifer.ingest.v1.ingest_service_pb2_grpc import IngestServiceServicer
from chassis.base import paging, telemetry
from chassis.identity.tokens import caller
from ingest.document_messages import count_fitting, to_document, to_version
from ingest.domain import check_name
from ingest.traces import current_trace_id
from ingest.usecases.documents.read_documents import ListVersions
from ingest.usecases.versions.pin_document import PinDocument, UnpinDocument
from ingest.usecases.versions.roll_back_document import RollBackDocument

NUMBER_END: Final = 2**63


@dataclass(frozen=True, kw_only=True)
class VersionRpc(IngestServiceServicer):
    """Converts messages and calls use cases."""

    list_versions: ListVersions
    roll_back: RollBackDocument
    pin: PinDocument
    unpin: UnpinDocument

    @override
    async def ListDocumentVersions(
        self, request: pb.ListDocumentVersionsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListDocumentVersionsResponse:
        page = paging.parse(request.page_size, request.page_token, bound=(request.name,))
        views = await self.list_versions.run(
            caller().tenant, request.name, before=_read_number(page), limit=page.limit
        )
        versions = [to_version(view) for view in views]
        page = replace(page, size=min(page.size, count_fitting(versions)))
        cut, token = page.cut(versions, lambda one: (str(one.version),))
        return pb.ListDocumentVersionsResponse(versions=cut, next_page_token=token)

    @override
    async def RollBackDocument(
        self, request: pb.RollBackDocumentRequest, context: ServicerContext[Any, Any]
    ) -> Document:
        check_name(request.name)
        with telemetry.document_scope(caller().tenant, request.name):
            return to_document(
                await self.roll_back.run(
                    caller().tenant,
                    request.name,
                    request.version,
                    request_id=request.request_id,
                    trace_id=current_trace_id(),
                    password=request.password,
                )
            )

    @override
    async def PinDocument(
        self, request: pb.PinDocumentRequest, context: ServicerContext[Any, Any]
    ) -> Document:
        check_name(request.name)
        with telemetry.document_scope(caller().tenant, request.name):
            return to_document(await self.pin.run(caller().tenant, request.name, request.version))

    @override
    async def UnpinDocument(
        self, request: pb.UnpinDocumentRequest, context: ServicerContext[Any, Any]
    ) -> Document:
        check_name(request.name)
        with telemetry.document_scope(caller().tenant, request.name):
            return to_document(await self.unpin.run(caller().tenant, request.name))


def _read_number(page: paging.Page) -> int:
    """The version that the page before ended with; 0 for the first page.

    Raises:
        InvalidInputError: PAGE_TOKEN_INVALID.
    """
    if not page.after:
        return 0
    number = page.after_name
    if not (number.isascii() and number.isdecimal() and 0 < int(number) < NUMBER_END):
        raise paging.invalid_token_error()
    return int(number)
