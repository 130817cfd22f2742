"""The events that ingest publishes; a repeated event has the same key and therefore the same id."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from google.protobuf.message import Message

from aquifer.ingest.v1.collection_events_pb2 import CollectionDeleted
from aquifer.ingest.v1.document_events_pb2 import (
    Chunk,
    ChunksPrepared,
    DescriptionChanged,
    DocumentAccepted,
    DocumentDeleted,
    DocumentDeletionRequested,
    DocumentFailed,
    DocumentIndexed,
    DocumentUpdated,
    VersionAccepted,
)
from aquifer.ingest.v1.document_pb2 import DeletionReceipt, Description, Note, PageBreak
from aquifer.ingest.v1.upload_events_pb2 import (
    DocumentDescribed,
    DocumentRemoved,
    DocumentUploaded,
)
from aquifer.structs import to_struct
from chassis.events.delivery import Delivery, Unreadable
from ingest.domain import (
    ID_MAX_CHARS,
    SUPERSEDED,
    Origin,
    State,
    Upload,
    UploadResult,
    Verdict,
    Version,
    View,
)
from ingest.labels import Labels
from ingest.lanes import Lane, choose_embedding_lane
from ingest.pieces import Piece
from ingest.usecases.rows import CollectionDeletion, Receipt
from ingest.usecases.work import Emitter, Trace, Work

ECHO_MAX_CHARS = 512
NOTES_MAX = 16

Cause = Delivery[Any] | None


def send_acknowledgement(work: Work, version: Version, origin: Origin, trace: Trace = None) -> None:
    """Acknowledges an upload or removal event; a call over gRPC gets a reply instead."""
    if not origin.source:
        return
    event = DocumentAccepted(
        tenant=version.tenant,
        document=version.document,
        version=version.number,
        upload_event_id=origin.event_id,
        correlation_id=origin.correlation_id,
    )
    key = (*_version_key(version), "accepted", origin.source, origin.request_id)
    work.emit(event, about=version.document, key=key, context=trace)


def order_preparation(work: Work, version: Version, trace: Trace = None) -> None:
    """Orders parsing and cutting of a version, for the first time or again."""
    event = VersionAccepted(
        tenant=version.tenant,
        document=version.document,
        version=version.number,
        attempt=version.attempt,
    )
    key = (*_version_key(version), "to prepare", version.attempt)
    interactive = version.lane is Lane.INTERACTIVE
    work.emit(event, about=version.document, key=key, context=trace, interactive=interactive)


def send_chunks(
    work: Work,
    version: Version,
    pieces: Sequence[Piece],
    labels: Labels,
    *,
    cause: Cause = None,
    trace: Trace = None,
    again: str = "",
) -> None:
    """Sends the batches of a version's pieces, in order, to be embedded.

    A new text for `again` makes them new events, which no consumer takes for a repeat. They are
    bulk: nobody waits for a version that was searchable before.
    """
    lane = Lane.BULK if again else choose_embedding_lane(version.lane, version.batch_count)
    interactive = lane is Lane.INTERACTIVE
    for batch, members in groupby(pieces, key=lambda piece: piece.batch):
        event = ChunksPrepared(
            tenant=version.tenant,
            document=version.document,
            version=version.number,
            batch=batch,
            batch_count=version.batch_count,
            chunk_count=version.chunk_count,
            attempt=version.attempt,
            description=_to_description(version),
            trace_id=version.trace_id,
            chunks=[
                Chunk(
                    chunk_id=str(piece.chunk_id),
                    ordinal=piece.ordinal,
                    text=piece.text,
                    start=piece.start,
                    end=piece.end,
                    page=piece.page,
                    page_breaks=[
                        PageBreak(start=start, page=page) for start, page in piece.page_breaks
                    ],
                    headings=piece.headings,
                    table_header=piece.table_header,
                    lines=piece.lines,
                )
                for piece in members
            ],
            upload_event_id=version.origin.event_id,
            labels=labels.names,
            labels_order=labels.order,
            lane=lane.number,
        )
        key = (*_version_key(version), "prepared", batch, version.attempt, *_once_more(again))
        about = version.document
        work.emit(event, about=about, key=key, cause=cause, context=trace, interactive=interactive)


def send_description(work: Work, version: Version, trace: Trace = None) -> None:
    """Sends the changed title and metadata of a version, for the first time or again."""
    event = DescriptionChanged(
        tenant=version.tenant,
        document=version.document,
        version=version.number,
        description=_to_description(version),
        attempt=version.description_attempt,
    )
    key = (*_version_key(version), "described", version.revision, version.description_attempt)
    work.emit(event, about=version.document, key=key, context=trace)


def order_deletion(work: Work, version: Version, again: str = "") -> None:
    """Orders the removal of all versions up to this one; for `again` see `send_chunks`."""
    event = DocumentDeletionRequested(
        tenant=version.tenant,
        document=version.document,
        version=version.number,
        attempt=version.attempt,
    )
    key = (*_version_key(version), "deletion", version.attempt, *_once_more(again))
    work.emit(event, about=version.document, key=key)


def send_results(
    work: Work,
    version: Version,
    uploads: Sequence[Upload],
    verdict: Verdict | None,
    cause: Cause = None,
    same_content: Sequence[str] = (),
) -> None:
    """Sends the final result of a version to each upload that waits for it.

    `verdict` is None if the version is searchable. The result for an upload over gRPC has an empty
    upload event id. `same_content` are other documents with the bytes of a searchable version.
    """
    for upload in uploads:
        send_result(work, version, upload, verdict, cause=cause, same_content=same_content)
    if not version.origin.source:
        grpc = Upload(
            origin=Origin(),
            document=version.document,
            version=version.number,
            sha256=version.stored.sha256,
            unchanged=False,
        )
        send_result(work, version, grpc, verdict, cause=cause, same_content=same_content)


def send_result(
    work: Work,
    version: Version,
    upload: Upload,
    verdict: Verdict | None = None,
    *,
    cause: Cause = None,
    trace: Trace = None,
    same_content: Sequence[str] = (),
) -> None:
    """Sends the final result of one upload; without a verdict the version is searchable.

    For `same_content` see `send_results`.
    """
    origin = upload.origin
    event: Message
    if verdict is None:
        event = DocumentIndexed(
            tenant=version.tenant,
            document=version.document,
            version=version.number,
            upload_event_id=origin.event_id,
            correlation_id=origin.correlation_id,
            chunk_count=version.chunk_count,
            unchanged=upload.unchanged,
            notes=to_notes(version),
            same_content=same_content,
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
    key = (*_version_key(version), "result", origin.source, origin.request_id)
    work.emit(event, about=version.document, key=key, cause=cause, context=trace)


def send_update(work: Work, version: Version, origin: Origin) -> None:
    """Sends the final result of a description event."""
    event = DocumentUpdated(
        tenant=version.tenant,
        document=version.document,
        version=version.number,
        upload_event_id=origin.event_id,
        correlation_id=origin.correlation_id,
    )
    key = (*_version_key(version), "result", origin.source, origin.request_id)
    work.emit(event, about=version.document, key=key)


def send_superseded(work: Work, tenant: str, upload: Upload, trace: Trace = None) -> None:
    """Sends the result of an event that was handled after a later one of its document."""
    event = DocumentFailed(
        tenant=tenant,
        document=upload.document,
        upload_event_id=upload.origin.event_id,
        correlation_id=upload.origin.correlation_id,
        reason=SUPERSEDED.reason,
        reason_detail=SUPERSEDED.detail,
    )
    key = (tenant, "superseded", upload.origin.source, upload.origin.request_id)
    work.emit(event, about=upload.document, key=key, context=trace)


def send_refusal(work: Emitter, tenant: str, upload: Upload) -> None:
    """Sends the final result of a refused event, which has no version."""
    failed = DocumentFailed(
        tenant=tenant,
        document=upload.document,
        upload_event_id=upload.origin.event_id,
        correlation_id=upload.origin.correlation_id,
        reason=upload.result,
        reason_detail=upload.result_detail,
    )
    _emit_refusal(work, failed, upload.origin.source, upload.origin.request_id)


def send_dead_letter_result(
    work: Emitter,
    event: DocumentUploaded | DocumentRemoved | DocumentDescribed,
    source: str,
    event_id: str,
    verdict: Verdict,
) -> None:
    """Sends the result of an event that becomes a dead letter; its id is unchecked."""
    failed = DocumentFailed(
        tenant=event.tenant,
        document=truncate(event.document),
        upload_event_id=truncate(event_id),
        correlation_id=truncate(event.correlation_id, ID_MAX_CHARS),
        reason=verdict.reason,
        reason_detail=verdict.detail,
    )
    _emit_refusal(work, failed, source, event_id)


def send_unreadable(work: Emitter, event: Unreadable, refusal: Upload) -> None:
    """Sends the result of an event without an id by which it could be recorded."""
    event_id = event.seen.event_id
    failed = DocumentFailed(
        tenant=event.tenant,
        document=refusal.document,
        upload_event_id=truncate(event_id),
        correlation_id=refusal.origin.correlation_id,
        reason=refusal.result,
        reason_detail=refusal.result_detail,
    )
    # After a loss of the broker's data, sequence numbers come again; the time does not.
    place = f"{event.sequence} {event.stored_ns}"
    _emit_refusal(work, failed, event.seen.source, event_id or place)


def _emit_refusal(work: Emitter, failed: DocumentFailed, source: str, event_id: str) -> None:
    work.emit(failed, key=(failed.tenant, "refused", source, event_id, failed.reason))


def truncate(text: str, limit_chars: int = ECHO_MAX_CHARS) -> str:
    """Shortens a field of a refused event, and removes NUL, so that it can be stored and sent."""
    return text.replace("\x00", "")[:limit_chars]


def send_deletion(
    work: Work, version: Version, origin: Origin, receipt: Receipt, cause: Cause = None
) -> None:
    """Reports the deletion up to `version`, as the result of the event of `origin`."""
    event = DocumentDeleted(
        tenant=version.tenant,
        document=version.document,
        version=version.number,
        receipt=to_receipt(receipt),
        upload_event_id=origin.event_id,
        correlation_id=origin.correlation_id,
    )
    key = (*_version_key(version), "deleted", origin.source, origin.request_id)
    work.emit(event, about=version.document, key=key, cause=cause)


def send_collection_deletion(work: Work, tenant: str, deletion: CollectionDeletion) -> None:
    """Reports that nothing is left of the documents that a collection had."""
    assert deletion.receipt is not None, "it has finished"
    event = CollectionDeleted(
        tenant=tenant,
        collection=f"collections/{deletion.collection_id}",
        number=deletion.number,
        document_count=deletion.documents,
        receipt=to_receipt(deletion.receipt),
    )
    work.emit(event, key=(tenant, "collection deleted", deletion.collection_id, deletion.number))


def to_receipt(receipt: Receipt) -> DeletionReceipt:
    """The message of a receipt; their fields have the same names."""
    return DeletionReceipt(**asdict(receipt))


def is_ended_by_delete(version: Version, upload: Upload) -> bool:
    """Whether the result of an upload is that its document was deleted."""
    if upload.result:
        return upload.result == UploadResult.DELETED
    return version.state is State.DELETING


def resend(work: Work, view: View, upload: Upload) -> None:
    """Sends the acknowledgement or result of a repeated event again, with the same id.

    Does nothing if `is_ended_by_delete`.
    """
    version = view.version
    if is_ended_by_delete(version, upload):
        return
    match upload.result:
        case "":
            send_acknowledgement(work, version, upload.origin)
        case UploadResult.INDEXED:
            send_result(work, version, upload, same_content=view.same_content)
        case UploadResult.UPDATED:
            send_update(work, version, upload.origin)
        case reason:
            verdict = Verdict(reason=reason, detail=upload.result_detail)
            send_result(work, version, upload, verdict)


def to_notes(version: Version) -> Sequence[Note]:
    """The notes of a version, so many and so long that a result stays small."""
    return [
        Note(code=note.code, detail=truncate(note.detail)) for note in version.notes[:NOTES_MAX]
    ]


def _to_description(version: Version) -> Description:
    description = Description(
        title=version.title, metadata=to_struct(version.metadata), revision=version.revision
    )
    description.create_time.FromDatetime(version.accepted_at)
    return description


def _once_more(again: str) -> tuple[str, ...]:
    return (again,) if again else ()


def _version_key(version: Version) -> tuple[object, ...]:
    return (version.tenant, version.document, version.number)
