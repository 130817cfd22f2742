"""Collections as documents show them: a name that holds none is most often a typing error."""

from difflib import get_close_matches

from aquifer_cli.client import Client
from aquifer_cli.documents import list_documents
from aquifer_cli.errors import CommandError

# Documents looked at for names that are close.
LOOKED_AT_MAX = 2_000


async def refuse_unknown(client: Client, collection: str) -> None:
    """Raises when a collection, in which nothing was found, has no documents at all.

    With a key that may not list documents nothing is raised.

    Raises:
        CommandError: NOT_FOUND, with the names that are close.
    """
    try:
        async for _ in list_documents(client, collection, ""):
            return
        known = await _list_names(client)
    except CommandError:
        return
    near = get_close_matches(collection, known, n=3, cutoff=0.5) or sorted(known)[:3]
    raise CommandError(
        "NOT_FOUND",
        f"there is no document in a collection {collection!r}",
        hint=f"did you mean {', '.join(near)}?" if near else "no collection has documents yet",
    )


async def _list_names(client: Client) -> set[str]:
    found: set[str] = set()
    looked_at = 0
    async for document in list_documents(client, "", ""):
        found.add(document.name.split("/")[1])
        looked_at += 1
        if looked_at >= LOOKED_AT_MAX:
            break
    return found
