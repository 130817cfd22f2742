"""`aquifer versions`, `rollback`, `pin` and `unpin`."""

from collections.abc import AsyncIterator
from datetime import UTC
from uuid import uuid4

from aquifer.ingest.v1.document_pb2 import Document, DocumentVersion
from aquifer.ingest.v1.ingest_service_pb2 import (
    ListDocumentVersionsRequest,
    PinDocumentRequest,
    RollBackDocumentRequest,
    UnpinDocumentRequest,
)
from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.documents import state_name

PAGE = 1_000


async def list_versions(
    client: Client, document: str, collection: str
) -> AsyncIterator[DocumentVersion]:
    """Every version of a document, the newest first."""
    request = ListDocumentVersionsRequest(
        name=names.name_from_argument(document, collection), page_size=PAGE
    )
    while True:
        page = await client.call(client.ingest.ListDocumentVersions, request)
        for version in page.versions:
            yield version
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def roll_back(
    client: Client, document: str, collection: str, version: int, password: str = ""
) -> Document:
    """Makes the content of an older version the newest; the password opens its file."""
    request = RollBackDocumentRequest(
        name=names.name_from_argument(document, collection),
        version=version,
        request_id=str(uuid4()),
        password=password,
    )
    result: Document = await client.call(client.ingest.RollBackDocument, request)
    return result


async def pin(client: Client, document: str, collection: str, version: int) -> Document:
    """Keeps searches at the live version."""
    request = PinDocumentRequest(
        name=names.name_from_argument(document, collection), version=version
    )
    result: Document = await client.call(client.ingest.PinDocument, request)
    return result


async def unpin(client: Client, document: str, collection: str) -> Document:
    """Takes uploads again."""
    request = UnpinDocumentRequest(name=names.name_from_argument(document, collection))
    result: Document = await client.call(client.ingest.UnpinDocument, request)
    return result


def as_json(version: DocumentVersion) -> dict[str, object]:
    """A version for machines."""
    return {
        "document": version.document,
        "version": version.version,
        "state": state_name(version.state),
        "reason": version.reason,
        "reason_detail": version.reason_detail,
        "live": version.live,
        "bytes_kept": version.bytes_kept,
        "title": version.title,
        "file_name": version.file_name,
        "media_type": version.media_type,
        "size_bytes": version.size_bytes,
        "sha256": version.sha256,
        "create_time": version.create_time.ToDatetime(tzinfo=UTC).isoformat(),
        "update_time": version.update_time.ToDatetime(tzinfo=UTC).isoformat(),
        "trace_id": version.trace_id,
    }
