"""The events ingest tells, each under an id that makes every copy the same fact."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from google.protobuf.message import Message

from aquifer.ingest.v1.document_events_pb2 import (
    Chunk,
    ChunksPrepared,
    DocumentAccepted,
    DocumentDeleted,
    DocumentDeletionRequested,
    DocumentFailed,
    DocumentIndexed,
)
from aquifer.ingest.v1.document_pb2 import DeletionReceipt
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from ingest.domain import Origin, Piece, Receipt, State, Upload, UploadResult, Verdict, Version

# What a refusal repeats of a field that may itself be why it was refused.
ECHO_MAX_CHARS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """An event and what makes it this one: equal `identity` parts are one event."""

    event: Message
    document: str
    identity: tuple[object, ...]


def accepted(version: Version) -> Fact:
    """The version is durable and its way begins, or begins again with another attempt."""
    return Fact(
        event=DocumentAccepted(
            tenant=version.tenant,
            document=version.document,
            version=version.number,
            upload_event_id=version.origin.event_id,
            correlation_id=version.origin.correlation_id,
            attempt=version.attempt,
        ),
        document=version.document,
        identity=(*_of(version), "accepted", version.attempt),
    )


def joined(version: Version, origin: Origin) -> Fact:
    """An upload event brought the bytes of a version that is already on its way."""
    return Fact(
        event=DocumentAccepted(
            tenant=version.tenant,
            document=version.document,
            version=version.number,
            upload_event_id=origin.event_id,
            correlation_id=origin.correlation_id,
        ),
        document=version.document,
        identity=(*_of(version), "joined", origin.source, origin.request_id),
    )


def prepared(version: Version, pieces: Iterable[Piece]) -> Iterator[Fact]:
    """One event for each batch of the version's pieces, which come in their order."""
    for batch, members in groupby(pieces, key=lambda piece: piece.batch):
        yield Fact(
            event=ChunksPrepared(
                tenant=version.tenant,
                document=version.document,
                version=version.number,
                batch=batch,
                batch_count=version.batch_count,
                chunk_count=version.chunk_count,
                attempt=version.attempt,
                title=version.title,
                trace_id=version.trace_id,
                chunks=[
                    Chunk(
                        chunk_id=str(piece.chunk_id),
                        ordinal=piece.ordinal,
                        text=piece.text,
                        start=piece.start,
                        end=piece.end,
                        page=piece.page,
                    )
                    for piece in members
                ],
                upload_event_id=version.origin.event_id,
            ),
            document=version.document,
            identity=(*_of(version), "prepared", batch, version.attempt),
        )


def deletion_requested(version: Version) -> Fact:
    """Everything up to this version must vanish from every store."""
    return Fact(
        event=DocumentDeletionRequested(
            tenant=version.tenant,
            document=version.document,
            version=version.number,
            attempt=version.attempt,
        ),
        document=version.document,
        identity=(*_of(version), "deletion", version.attempt),
    )


def results(version: Version, uploads: Sequence[Upload], verdict: Verdict | None) -> list[Fact]:
    """The final result of a version for each upload that waits for it.

    `verdict` is None when it is searchable. The upload that made a version over gRPC waits under
    an empty id.
    """
    told = [result(version, upload, verdict) for upload in uploads]
    if not version.origin.source:
        told.append(_result(version, Origin(), verdict, unchanged=False))
    return told


def result(version: Version, upload: Upload, verdict: Verdict | None = None) -> Fact:
    """The final result of one upload; without a verdict the version is searchable."""
    return _result(version, upload.origin, verdict, unchanged=upload.unchanged)


def _result(version: Version, origin: Origin, verdict: Verdict | None, *, unchanged: bool) -> Fact:
    event: Message
    if verdict is None:
        event = DocumentIndexed(
            tenant=version.tenant,
            document=version.document,
            version=version.number,
            upload_event_id=origin.event_id,
            correlation_id=origin.correlation_id,
            chunk_count=version.chunk_count,
            unchanged=unchanged,
        )
    else:
        event = DocumentFailed(
            tenant=version.tenant,
            document=version.document,
            version=version.number,
            upload_event_id=origin.event_id,
            correlation_id=origin.correlation_id,
            reason=verdict.reason,
            reason_detail=verdict.detail,
        )
    return Fact(
        event=event,
        document=version.document,
        identity=(*_of(version), "result", origin.source, origin.request_id),
    )


def refused(event: DocumentUploaded, source: str, event_id: str, verdict: Verdict) -> Fact:
    """The final result of an upload event that was not accepted; of no document of ours."""
    return Fact(
        event=DocumentFailed(
            tenant=event.tenant,
            document=event.document[:ECHO_MAX_CHARS],
            upload_event_id=event_id[:ECHO_MAX_CHARS],
            correlation_id=event.correlation_id[:ECHO_MAX_CHARS],
            reason=verdict.reason,
            reason_detail=verdict.detail,
        ),
        document="",
        identity=(event.tenant, "refused", source, event_id, verdict.reason),
    )


def deleted(version: Version, origin: Origin, receipt: Receipt) -> Fact:
    """The end of a document up to `version`, as the result of the upload that came by `origin`."""
    return Fact(
        event=DocumentDeleted(
            tenant=version.tenant,
            document=version.document,
            version=version.number,
            receipt=DeletionReceipt(
                objects=receipt.objects,
                chunks=receipt.chunks,
                passages=receipt.passages,
                points=receipt.points,
                inbox_rows=receipt.inbox_rows,
                outbox_rows=receipt.outbox_rows,
                dead_letters=receipt.dead_letters,
            ),
            upload_event_id=origin.event_id,
            correlation_id=origin.correlation_id,
        ),
        document=version.document,
        identity=(*_of(version), "deleted", origin.source, origin.request_id),
    )


def retold(version: Version, upload: Upload) -> Fact | None:
    """What a repeated upload event should have heard: the same fact under the same id.

    None for an upload whose document was deleted first; `deleted` tells that.
    """
    match upload.result:
        case "" if version.state is State.DELETING:
            return None
        case "" if upload.unchanged:
            return joined(version, upload.origin)
        case "":
            return accepted(version)
        case UploadResult.INDEXED:
            return result(version, upload)
        case UploadResult.DELETED:
            return None
        case reason:
            verdict = Verdict(reason=reason, detail=upload.result_detail)
            return result(version, upload, verdict)


def _of(version: Version) -> tuple[object, ...]:
    return (version.tenant, version.document, version.number)
