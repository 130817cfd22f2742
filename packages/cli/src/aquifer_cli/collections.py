"""Collections: their documents by state; a name that is none is most often a typing error."""

from collections.abc import AsyncIterator
from difflib import get_close_matches

from aquifer.ingest.v1.collection_pb2 import Collection
from aquifer.ingest.v1.ingest_service_pb2 import ListCollectionsRequest, ListDocumentsRequest
from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.documents import state_name
from aquifer_cli.errors import CommandError

PAGE = 1_000


async def refuse_unknown(client: Client, collection: str) -> None:
    """Raises if a collection has no documents.

    With a key that may not list documents nothing is raised.

    Raises:
        CommandError: NOT_FOUND, with the names that are close.
    """
    try:
        if await _has_documents(client, collection):
            return
        known = await _list_ids(client)
    except CommandError:
        return
    if collection in known:
        return
    near = get_close_matches(collection, known, n=3, cutoff=0.5) or sorted(known)[:3]
    raise CommandError(
        "NOT_FOUND",
        f"there is no document in a collection {collection!r}",
        hint=f"did you mean {', '.join(near)}?" if near else "no collection has documents yet",
    )


async def _has_documents(client: Client, collection: str) -> bool:
    """One row, however many collections there are."""
    request = ListDocumentsRequest(collection=collection, page_size=1)
    return bool((await client.call(client.ingest.ListDocuments, request)).documents)


async def _list_ids(client: Client) -> set[str]:
    return {names.collection_id(one.name) async for one in list_collections(client)}


async def list_collections(client: Client) -> AsyncIterator[Collection]:
    """Every collection that has documents."""
    token = ""
    while True:
        request = ListCollectionsRequest(page_size=PAGE, page_token=token)
        page = await client.call(client.ingest.ListCollections, request)
        for one in page.collections:
            yield one
        token = page.next_page_token
        if not token:
            return


def count_stages(collection: Collection) -> tuple[int, int, int]:
    """How many documents are indexed, in progress, and failed."""
    counts = count_states(collection)
    return (
        counts.get("INDEXED", 0),
        sum(counts.get(state, 0) for state in ("ACCEPTED", "PREPARED")),
        counts.get("FAILED", 0),
    )


def count_states(collection: Collection) -> dict[str, int]:
    """The number of documents by the state of their newest version."""
    return {state_name(one.state): one.document_count for one in collection.state_counts}


def as_json(collection: Collection) -> dict[str, object]:
    """A collection for programs."""
    return {
        "collection": names.collection_id(collection.name),
        "documents": collection.document_count,
        "states": count_states(collection),
    }
