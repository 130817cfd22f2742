"""Collections: their settings, and their documents by state."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC
from difflib import get_close_matches

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from aquifer.ingest.v1.collection_pb2 import Collection, CollectionDeletion, Step
from aquifer.ingest.v1.ingest_service_pb2 import (
    CreateCollectionRequest,
    DeleteCollectionRequest,
    GetCollectionDeletionRequest,
    GetCollectionRequest,
    ListCollectionsRequest,
    ListDocumentsRequest,
    UpdateCollectionRequest,
)
from aquifer_cli import names
from aquifer_cli.client import Client
from aquifer_cli.documents import state_name
from aquifer_cli.errors import EXIT_USAGE, CommandError
from aquifer_cli.screen import Screen

Setting = str | int | float | None
PAGE = 1_000
DELETION_POLL_S = 0.5
DAY_S = 86_400
NO_STEP = "none"


async def refuse_unknown(client: Client, collections: Iterable[str]) -> None:
    """Raises if one of the collections is unknown and has no documents.

    With a key that may not list documents nothing is raised.

    Raises:
        CommandError: NOT_FOUND, with the names that are close.
    """
    try:
        empty = [one for one in collections if not await _has_documents(client, one)]
        known = await _list_ids(client) if empty else set()
    except CommandError:
        return
    unknown = next((one for one in empty if one not in known), None)
    if unknown is None:
        return
    near = get_close_matches(unknown, known, n=3, cutoff=0.5) or sorted(known)[:3]
    raise CommandError(
        "NOT_FOUND",
        f"there is no document in a collection {unknown!r}",
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


async def get(client: Client, collection: str) -> Collection:
    """One collection."""
    request = GetCollectionRequest(name=_name(collection))
    found: Collection = await client.call(client.ingest.GetCollection, request)
    return found


async def create(client: Client, given: Collection) -> Collection:
    """Creates a collection with settings."""
    request = CreateCollectionRequest(collection=given)
    created: Collection = await client.call(client.ingest.CreateCollection, request)
    return created


async def update(client: Client, given: Collection, paths: Sequence[str]) -> Collection:
    """Changes the settings that `paths` names."""
    request = UpdateCollectionRequest(collection=given, update_mask=FieldMask(paths=paths))
    updated: Collection = await client.call(client.ingest.UpdateCollection, request)
    return updated


async def delete(client: Client, collection: str) -> None:
    """Deletes a collection without documents."""
    request = DeleteCollectionRequest(name=_name(collection))
    await client.call(client.ingest.DeleteCollection, request)


async def delete_with_documents(
    client: Client, screen: Screen, collection: str
) -> CollectionDeletion:
    """Deletes a collection with its documents, and waits until no store has anything of them."""
    request = DeleteCollectionRequest(name=_name(collection), force=True)
    try:
        await client.call(client.ingest.DeleteCollection, request)
    except CommandError as error:
        if error.reason != "HIDE_PENDING":
            raise
        screen.note("not all documents are hidden from searches yet; the service goes on")
    deletion = await _get_deletion(client, collection)
    with screen.show_progress(deleted=deletion.document_count) as bars:
        shown = 0
        while True:
            removed = deletion.document_count - deletion.remaining_count
            bars["deleted"].advance(removed - shown)
            shown = removed
            if deletion.HasField("finish_time"):
                return deletion
            await asyncio.sleep(DELETION_POLL_S)
            deletion = await _get_deletion(client, collection)


async def _get_deletion(client: Client, collection: str) -> CollectionDeletion:
    request = GetCollectionDeletionRequest(name=_name(collection))
    found: CollectionDeletion = await client.call(client.ingest.GetCollectionDeletion, request)
    return found


def name_changes(
    settings: Mapping[str, Setting], steps: Sequence[str], labels: Sequence[str] | None
) -> list[str]:
    """The paths of an update mask for the settings that are given."""
    given = {name for name, value in settings.items() if value is not None}
    paths = ["description"] if "description" in given else []
    paths += ["chunk_sizes"] if given & {"target_chars", "max_chars"} else []
    paths += ["retention"] if "retention_days" in given else []
    paths += ["version_retention"] if "version_retention" in given else []
    paths += ["access_labels"] if labels is not None else []
    return paths + (["steps"] if steps else [])


def read_settings(
    collection: str,
    settings: Mapping[str, Setting],
    steps: Sequence[str],
    labels: Sequence[str],
) -> Collection:
    """A collection with the settings of the options.

    Raises:
        CommandError: COLLECTION_NAME, SETTINGS_INCOMPLETE.
    """
    read = Collection(name=_name(collection), description=str(settings["description"] or ""))
    target, most = settings["target_chars"], settings["max_chars"]
    if (target is None) != (most is None):
        raise CommandError(
            "SETTINGS_INCOMPLETE",
            "--target-chars and --max-chars belong together",
            hint="give both; 0 for both means the lengths of the service",
            exit_code=EXIT_USAGE,
        )
    if target or most:
        read.chunk_sizes.target_chars, read.chunk_sizes.max_chars = int(target or 0), int(most or 0)
    read.version_retention = int(settings["version_retention"] or 0)
    if days := settings["retention_days"]:
        read.retention.CopyFrom(Duration(seconds=round(float(days) * DAY_S)))
    read.steps.extend(_read_steps(steps))
    read.access_labels.extend(labels)
    return read


def _read_steps(names: Sequence[str]) -> list[Step.ValueType]:
    """The steps of these names; `none` stands alone.

    Raises:
        CommandError: SETTINGS_INCOMPLETE.
    """
    if NO_STEP in names and len(names) > 1:
        raise CommandError(
            "SETTINGS_INCOMPLETE",
            f"--step {NO_STEP} turns all steps off",
            hint="leave it out, or the other steps",
            exit_code=EXIT_USAGE,
        )
    return [Step.Value(f"STEP_{name}") for name in names if name != NO_STEP]


def name_steps(collection: Collection) -> list[str]:
    """The steps that are on; one that this command does not know yet is a number."""
    return [
        Step.Name(step).removeprefix("STEP_") if step in Step.values() else str(step)
        for step in collection.steps
    ]


def _name(collection: str) -> str:
    return f"collections/{names.check_collection(collection)}"


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
    """A collection for programs; settings that are not set are null."""
    sizes = collection.chunk_sizes if collection.HasField("chunk_sizes") else None
    created = collection.HasField("create_time")
    return {
        "collection": names.collection_id(collection.name),
        "documents": collection.document_count,
        "states": count_states(collection),
        "description": collection.description,
        "target_chars": sizes.target_chars if sizes else None,
        "max_chars": sizes.max_chars if sizes else None,
        "retention_s": collection.retention.seconds if collection.HasField("retention") else None,
        "version_retention": collection.version_retention,
        "steps": name_steps(collection),
        "labels": list(collection.access_labels),
        "create_time": collection.create_time.ToDatetime(tzinfo=UTC).isoformat()
        if created
        else None,
    }


def deletion_as_json(deletion: CollectionDeletion) -> dict[str, object]:
    """A finished deletion for programs."""
    return {
        "collection": names.collection_id(deletion.name),
        "documents_deleted": deletion.document_count,
        "receipt": receipt_counts(deletion),
        "request_time": deletion.request_time.ToDatetime(tzinfo=UTC).isoformat(),
        "finish_time": deletion.finish_time.ToDatetime(tzinfo=UTC).isoformat(),
    }


def receipt_counts(deletion: CollectionDeletion) -> dict[str, int]:
    """What was removed, by its kind in the order of the contract."""
    receipt = deletion.receipt
    return {field.name: getattr(receipt, field.name) for field in receipt.DESCRIPTOR.fields}
