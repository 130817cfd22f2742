"""Documents and their versions as messages of the contract."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from aquifer.ingest.v1.document_pb2 import Document, DocumentState, DocumentVersion
from aquifer.ingest.v1.document_pb2 import Note as PbNote
from aquifer.structs import to_struct
from chassis.base.labels import held_labels
from ingest.domain import State, View
from ingest.usecases.documents.duplicates import hide_names

# A message has at most 4 MiB; one document takes up to 70 KiB, most of it metadata.
PAGE_MAX_BYTES: Final = 3 << 20


def count_fitting(listed: Sequence[Document] | Sequence[DocumentVersion]) -> int:
    """Number of messages, from the first on, that fit into one page."""
    left_bytes = PAGE_MAX_BYTES
    for number, one in enumerate(listed):
        left_bytes -= one.ByteSize()
        if left_bytes < 0:
            return number
    return len(listed)


def to_document(view: View) -> Document:
    """Converts a document and one of its versions to the contract's message, for its reader."""
    entry, version = view.entry, view.version
    return Document(
        name=version.document,
        version=version.number,
        state=to_state(version.state),
        reason=version.reason,
        reason_detail=version.reason_detail,
        live_version=entry.live_version,
        title=version.title,
        media_type=version.media_type,
        size_bytes=version.stored.size_bytes,
        sha256=version.stored.sha256,
        chunk_count=version.chunk_count,
        metadata=to_struct(version.metadata),
        create_time=_to_timestamp(version.accepted_at),
        update_time=_to_timestamp(version.updated_at),
        trace_id=version.trace_id,
        file_name=version.file_name,
        notes=[
            PbNote(code=note.code, detail=note.detail)
            for note in hide_names(version.notes, held_labels())
        ],
        pinned=entry.pinned,
        same_content=view.same_content,
        labels=entry.labels.names,
        own_labels=entry.labels.own,
    )


def to_version(view: View) -> DocumentVersion:
    """Converts one version of a document to the contract's message."""
    version = view.version
    return DocumentVersion(
        document=version.document,
        version=version.number,
        state=to_state(version.state),
        reason=version.reason,
        reason_detail=version.reason_detail,
        live=version.number == view.entry.live_version,
        bytes_kept=view.has_bytes,
        title=version.title,
        file_name=version.file_name,
        media_type=version.media_type,
        size_bytes=version.stored.size_bytes,
        sha256=version.stored.sha256,
        create_time=_to_timestamp(version.accepted_at),
        update_time=_to_timestamp(version.updated_at),
        trace_id=version.trace_id,
    )


def to_state(state: State) -> DocumentState.ValueType:
    """The contract's state."""
    return DocumentState.Value(f"DOCUMENT_STATE_{state}")


def _to_timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
