"""Converts rows of the tables to classes of the domain."""

from typing import Any, Final

from ingest.domain import Entry, Object, Origin, State, Upload, Version, View
from ingest.labels import Labels
from ingest.lanes import Lane
from ingest.notes import Note, NoteCode
from ingest.pieces import Piece
from ingest.usecases.rows import Receipt

ENTRY: Final = (
    "d.name, d.latest_version, d.live_version, d.tombstone_version, d.hidden_version,"
    " d.upload_order, d.pinned, d.description_order AS kept_description_order, d.labels,"
    " d.own_labels, d.labels_order"
)
# The database's time as an upload order: see `Draft.order_ns`.
NOW_NS: Final = "(extract(epoch FROM clock_timestamp()) * 1000000000)::bigint"
# The `upload_order` of the last deletion of a document's collection; -1 if it was never deleted.
CUT: Final = (
    "coalesce((SELECT c.upload_order FROM collection_deletions c WHERE c.tenant_id = d.tenant_id"
    " AND c.collection_id = split_part(d.name, '/', 2) ORDER BY c.number DESC LIMIT 1), -1)"
)
# Whether the object of a version is needed: not that of a superseded one, unless it is kept, nor
# that of a failed one when a newer version is live.
NEEDS_OBJECT: Final = (
    "(v.kept OR v.state NOT IN ('SUPERSEDED', 'DELETED'))"
    " AND NOT (v.state = 'FAILED' AND v.version < d.live_version)"
)
VERSION: Final = (
    "v.tenant_id, v.document, v.version, v.state, v.reason, v.reason_detail, v.title,"
    " v.text_title, v.file_name, v.media_type_hint, v.media_type, v.metadata, v.revision,"
    " v.description_order, v.description_attempt, v.size_bytes, v.sha256, v.object_key, v.source,"
    " v.upload_event_id, v.correlation_id, v.trace_id, v.notes, v.chunk_count, v.batch_count,"
    " v.attempt, v.kept, v.lane, v.step_due_at, v.accepted_at, v.updated_at,"
    " v.password IS NOT NULL AS has_password"
)
UPLOAD: Final = (
    "u.source, u.request_id, u.document, u.version, u.sha256, u.correlation_id, u.unchanged,"
    " u.result, u.result_detail"
)
PIECE: Final = (
    "chunk_id, ordinal, batch, gap, text, start_char, end_char, page, page_breaks, headings,"
    " table_header, lines"
)

Row = dict[str, Any]


def entry(row: Row) -> Entry:
    return Entry(
        name=row["name"],
        latest_version=row["latest_version"],
        live_version=row["live_version"],
        tombstone_version=row["tombstone_version"],
        hidden_version=row["hidden_version"],
        upload_order=row["upload_order"],
        pinned=row["pinned"],
        description_order=row["kept_description_order"],
        labels=labels(row),
    )


def labels(row: Row) -> Labels:
    return Labels(names=tuple(row["labels"]), own=row["own_labels"], order=row["labels_order"])


def version(row: Row) -> Version:
    return Version(
        tenant=row["tenant_id"],
        document=row["document"],
        number=row["version"],
        state=State(row["state"]),
        reason=row["reason"],
        reason_detail=row["reason_detail"],
        given_title=row["title"],
        text_title=row["text_title"],
        revision=row["revision"],
        description_order=row["description_order"],
        description_attempt=row["description_attempt"],
        file_name=row["file_name"],
        media_type_hint=row["media_type_hint"],
        media_type=row["media_type"],
        metadata=row["metadata"],
        has_password=row["has_password"],
        stored=Object(key=row["object_key"], size_bytes=row["size_bytes"], sha256=row["sha256"]),
        origin=Origin(
            source=row["source"],
            request_id=row["upload_event_id"],
            correlation_id=row["correlation_id"],
        ),
        trace_id=row["trace_id"],
        notes=[Note(NoteCode(code), detail) for code, detail in row["notes"]],
        lane=Lane(row["lane"]),
        chunk_count=row["chunk_count"],
        batch_count=row["batch_count"],
        attempt=row["attempt"],
        kept=row["kept"],
        step_due_at=row["step_due_at"],
        accepted_at=row["accepted_at"],
        updated_at=row["updated_at"],
    )


def view(row: Row) -> View:
    return View(entry=entry(row), version=version(row))


def upload(row: Row) -> Upload:
    return Upload(
        origin=Origin(
            source=row["source"],
            request_id=row["request_id"],
            correlation_id=row["correlation_id"],
        ),
        document=row["document"],
        version=row["version"],
        sha256=row["sha256"],
        unchanged=row["unchanged"],
        result=row["result"],
        result_detail=row["result_detail"],
    )


def piece(row: Row) -> Piece:
    return Piece(
        chunk_id=row["chunk_id"],
        ordinal=row["ordinal"],
        batch=row["batch"],
        gap=row["gap"],
        text=row["text"],
        start=row["start_char"],
        end=row["end_char"],
        page=row["page"],
        page_breaks=[(start, page) for start, page in row["page_breaks"]],
        headings=row["headings"],
        table_header=row["table_header"],
        lines=row["lines"],
    )


def receipt(row: dict[str, int]) -> Receipt:
    """Counts that are not in a receipt of an earlier release are 0."""
    return Receipt(**row)
