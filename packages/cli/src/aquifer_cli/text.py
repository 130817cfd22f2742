"""`aquifer text`: the text of a document, part by part."""

from collections.abc import AsyncIterator

from aquifer.ingest.v1.ingest_service_pb2 import GetDocumentTextRequest, GetDocumentTextResponse
from aquifer_cli import names
from aquifer_cli.client import Client


def make_request(
    document: str,
    collection: str,
    pages: tuple[int, int],
    characters: tuple[int, int],
    version: int,
) -> GetDocumentTextRequest:
    """The request for a part of a document; zeros stand for all of it and the live version.

    Raises:
        CommandError: DOCUMENT_NAME.
    """
    return GetDocumentTextRequest(
        name=names.name_from_argument(document, collection),
        version=version,
        start=characters[0],
        end=characters[1],
        first_page=pages[0],
        last_page=pages[1],
    )


async def read(
    client: Client, request: GetDocumentTextRequest
) -> AsyncIterator[GetDocumentTextResponse]:
    """Yields the parts in order, all of the version of the first one."""
    following = GetDocumentTextRequest()
    following.CopyFrom(request)
    while True:
        part = await client.call(client.ingest.GetDocumentText, following)
        yield part
        if not part.next_start:
            return
        following.version, following.start = part.version, part.next_start


def as_json(part: GetDocumentTextResponse) -> dict[str, object]:
    """A part for machines."""
    return {
        "document": part.name,
        "version": part.version,
        "title": part.title,
        "media_type": part.media_type,
        "start": part.start,
        "end": part.end,
        "length": part.length,
        "page": part.page,
        "page_breaks": [{"start": one.start, "page": one.page} for one in part.page_breaks],
        "text": part.text,
    }
