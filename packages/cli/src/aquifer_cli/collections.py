"""Collections: a name that is none is most often a typing error."""

from difflib import get_close_matches

from aquifer.ingest.v1.ingest_service_pb2 import ListCollectionsRequest, ListDocumentsRequest
from aquifer_cli.client import Client
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
    found: set[str] = set()
    token = ""
    while True:
        request = ListCollectionsRequest(page_size=PAGE, page_token=token)
        page = await client.call(client.ingest.ListCollections, request)
        found |= {one.name.removeprefix("collections/") for one in page.collections}
        token = page.next_page_token
        if not token:
            return found
