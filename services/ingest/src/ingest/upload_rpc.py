"""The methods of `IngestService` for uploads in several calls."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.ingest_service_pb2_grpc import IngestServiceServicer
from aquifer.structs import to_json
from chassis.base import telemetry
from chassis.base.errors import FieldViolation, InvalidInputError
from chassis.base.labels import read_labels
from chassis.identity.tokens import caller
from ingest.domain import Draft, Origin
from ingest.lanes import read_lane
from ingest.usecases.rows import Session
from ingest.usecases.uploads.upload_sessions import AppendUpload, GetUpload, StartUpload

PIECE_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class UploadRpc(IngestServiceServicer):
    """Converts messages and calls use cases."""

    start_upload: StartUpload
    append_upload: AppendUpload
    get_upload: GetUpload

    @override
    async def StartUpload(
        self, request: pb.StartUploadRequest, context: ServicerContext[Any, Any]
    ) -> pb.UploadSession:
        header = request.header
        if header.password:
            raise _password_error()
        draft = Draft(
            tenant=caller().tenant,
            name=header.document,
            file_name=header.file_name,
            media_type=header.media_type,
            title=header.title,
            metadata=to_json(header.metadata),
            labels=read_labels(header.labels, field="header.labels"),
            origin=Origin(),
            lane=read_lane(header.lane),
        )
        with telemetry.document_scope(draft.tenant, draft.name):
            return _to_message(
                await self.start_upload.run(draft, request.sha256, header.size_bytes)
            )

    @override
    async def AppendUpload(
        self,
        request_iterator: AsyncIterator[pb.AppendUploadRequest],
        context: ServicerContext[Any, Any],
    ) -> pb.UploadSession:
        parts = aiter(request_iterator)
        first = await anext(parts, None)
        if first is None or first.WhichOneof("part") != "position":
            raise order_error("send the position in the first message")
        position = first.position
        return _to_message(
            await self.append_upload.run(
                caller().tenant, position.upload_id, position.offset, read_pieces(parts)
            )
        )

    @override
    async def GetUpload(
        self, request: pb.GetUploadRequest, context: ServicerContext[Any, Any]
    ) -> pb.UploadSession:
        return _to_message(await self.get_upload.run(caller().tenant, request.upload_id))


def _password_error() -> InvalidInputError:
    detail = "send the password with FinishUpload; an unfinished upload keeps none"
    violation = FieldViolation("header.password", detail)
    return InvalidInputError("METADATA_RANGE", detail, fields=[violation])


async def read_pieces(
    parts: AsyncIterator[pb.UploadDocumentRequest] | AsyncIterator[pb.AppendUploadRequest],
) -> AsyncIterator[bytes]:
    """The content after the first message of an upload.

    Raises:
        InvalidInputError: UPLOAD_ORDER.
    """
    async for part in parts:
        if part.WhichOneof("part") != "content":
            raise order_error("send only content after the first message")
        if len(part.content) > PIECE_MAX_BYTES:
            raise order_error(f"send at most {PIECE_MAX_BYTES} bytes of content in a message")
        yield part.content


def order_error(detail: str) -> InvalidInputError:
    """A message of an upload is not where it belongs."""
    return InvalidInputError("UPLOAD_ORDER", detail, fields=[FieldViolation("part", detail)])


def _to_message(session: Session) -> pb.UploadSession:
    expires = Timestamp()
    if session.expires_at is not None:
        expires.FromDatetime(session.expires_at)
    return pb.UploadSession(
        upload_id=session.upload_id,
        document=session.draft.name,
        size_bytes=session.size_bytes,
        offset=session.offset,
        expire_time=expires,
    )
