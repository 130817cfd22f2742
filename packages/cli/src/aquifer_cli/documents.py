"""`aquifer documents`, `status DOCUMENT`, `update` and `delete`."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC

from google.protobuf.field_mask_pb2 import FieldMask

from aquifer.ingest.v1.document_pb2 import Document, DocumentState, Note
from aquifer.ingest.v1.ingest_service_pb2 import (
    DeleteDocumentRequest,
    GetDocumentRequest,
    ListDocumentsRequest,
    UpdateDocumentRequest,
)
from aquifer.structs import JsonObject, to_json, to_struct
from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.errors import EXIT_USAGE, CommandError

PAGE = 500
STATES = tuple(name.removeprefix("DOCUMENT_STATE_") for name in DocumentState.keys()[1:])


def state_name(state: DocumentState.ValueType) -> str:
    """`INDEXED` for DOCUMENT_STATE_INDEXED."""
    return DocumentState.Name(state).removeprefix("DOCUMENT_STATE_")


async def list_documents(
    client: Client, collection: str, state: str, where: str = ""
) -> AsyncIterator[Document]:
    """Every document of a collection (empty: all) in a state (empty: any but DELETED).

    `where` is a filter as `ListDocumentsRequest.filter` describes it; empty: none.

    Raises:
        CommandError: STATE_UNKNOWN, or the reason of the service.
    """
    if state and state not in STATES:
        raise CommandError(
            "STATE_UNKNOWN",
            f"{state!r} is not a document state",
            hint=f"use one of {', '.join(STATES)}",
            exit_code=EXIT_USAGE,
        )
    token = ""
    while True:
        page = await client.call(
            client.ingest.ListDocuments,
            ListDocumentsRequest(
                collection=collection,
                state=DocumentState.Value(f"DOCUMENT_STATE_{state or 'UNSPECIFIED'}"),
                page_size=PAGE,
                page_token=token,
                filter=where,
            ),
        )
        for document in page.documents:
            yield document
        token = page.next_page_token
        if not token:
            return


async def get(client: Client, document: str, collection: str) -> Document:
    """One document, by its path at upload, its id or its complete name."""
    request = GetDocumentRequest(name=names.name_from_argument(document, collection))
    result: Document = await client.call(client.ingest.GetDocument, request)
    return result


async def update(
    client: Client,
    document: str,
    collection: str,
    *,
    title: str | None,
    metadata: JsonObject,
    unset: Sequence[str],
    labels: Sequence[str] | None = None,
) -> Document:
    """Sets title and labels (None: leaves them) and pairs of metadata, and removes `unset`."""
    paths = ["title"] if title is not None else []
    paths += [f"metadata.`{key}`" for key in (*metadata, *unset)]
    paths += ["labels"] if labels is not None else []
    request = UpdateDocumentRequest(
        document=Document(
            name=names.name_from_argument(document, collection),
            title=title or "",
            metadata=to_struct(metadata),
            labels=labels or (),
        ),
        update_mask=FieldMask(paths=paths),
    )
    result: Document = await client.call(client.ingest.UpdateDocument, request)
    return result


async def delete(client: Client, document: str, collection: str) -> Document:
    """Deletes a document; after that no search finds it."""
    request = DeleteDocumentRequest(name=names.name_from_argument(document, collection))
    result: Document = await client.call(client.ingest.DeleteDocument, request)
    return result


def as_json(document: Document) -> dict[str, object]:
    """A document for machines."""
    return {
        "document": document.name,
        "version": document.version,
        "state": state_name(document.state),
        "reason": document.reason,
        "reason_detail": document.reason_detail,
        "live_version": document.live_version,
        "title": document.title,
        "media_type": document.media_type,
        "size_bytes": document.size_bytes,
        "sha256": document.sha256,
        "chunk_count": document.chunk_count,
        "metadata": to_json(document.metadata),
        "create_time": document.create_time.ToDatetime(tzinfo=UTC).isoformat(),
        "update_time": document.update_time.ToDatetime(tzinfo=UTC).isoformat(),
        "trace_id": document.trace_id,
        "file_name": document.file_name,
        "notes": notes_json(document.notes),
        "pinned": document.pinned,
        "same_content": list(document.same_content),
        "labels": list(document.labels),
        "own_labels": document.own_labels,
    }


def notes_json(notes: Iterable[Note]) -> list[dict[str, str]]:
    """Notes for machines."""
    return [{"code": note.code, "detail": note.detail} for note in notes]
