"""Collections over a real connection: settings, and what they change for uploads."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from aquifer.ingest.v1 import ingest_service_pb2 as pb
from aquifer.ingest.v1.collection_pb2 import (
    STEP_PII_MASKING,
    STEP_REPEATED_LINES,
    ChunkSizes,
    Collection,
)

from .doors import Client, refusal

MANUALS = "collections/manuals"
SETTINGS: dict[str, Any] = {
    "description": "Manuals of all pumps",
    "chunk_sizes": ChunkSizes(target_chars=400, max_chars=500),
    "retention": Duration(seconds=86_400),
    "version_retention": 100,
    "steps": [STEP_REPEATED_LINES, STEP_PII_MASKING],
}


def create(client: Client, name: str = MANUALS, *, who: str = "acme", **settings: Any) -> Any:
    request = pb.CreateCollectionRequest(collection=Collection(name=name, **settings))
    return client.call("CreateCollection", request, tenant=who)


def get(client: Client, name: str = MANUALS, *, who: str = "acme") -> Any:
    return client.call("GetCollection", pb.GetCollectionRequest(name=name), tenant=who)


def update(client: Client, *paths: str, name: str = MANUALS, **settings: Any) -> Any:
    request = pb.UpdateCollectionRequest(
        collection=Collection(name=name, **settings), update_mask=FieldMask(paths=paths)
    )
    return client.call("UpdateCollection", request)


def delete(client: Client, name: str = MANUALS, *, who: str = "acme", force: bool = False) -> Any:
    request = pb.DeleteCollectionRequest(name=name, force=force)
    return client.call("DeleteCollection", request, tenant=who)


def get_deletion(client: Client, name: str = MANUALS, *, who: str = "acme") -> Any:
    request = pb.GetCollectionDeletionRequest(name=name)
    return client.call("GetCollectionDeletion", request, tenant=who)


async def test_a_collection_is_created_read_and_listed_with_its_settings(client: Client):
    created = await create(client, **SETTINGS)
    assert (created.name, created.document_count) == (MANUALS, 0)
    assert created.description == SETTINGS["description"]
    assert created.chunk_sizes == SETTINGS["chunk_sizes"]
    assert created.retention == SETTINGS["retention"]
    assert created.version_retention == 100
    assert created.steps == SETTINGS["steps"]
    assert created.create_time.seconds > 0
    assert await get(client) == created
    assert list((await client.list_collections()).collections) == [created]


async def test_a_collection_that_only_has_documents_has_the_settings_of_the_service(client: Client):
    await client.send(b"Text.", document=f"{MANUALS}/documents/a")
    found = await get(client)
    assert found.document_count == 1
    for field in ("chunk_sizes", "retention", "create_time", "update_time"):
        assert not found.HasField(field)


async def test_created_collections_and_those_of_documents_are_one_list(client: Client):
    for name in ("a", "b.c", "d"):
        await create(client, f"collections/{name}")
    for name in ("a-b", "b", "d"):
        await client.send(b"Text.", document=f"collections/{name}/documents/1")
    found, token = [], ""
    while True:
        page = await client.list_collections(page_size=2, page_token=token)
        found += [one.name.removeprefix("collections/") for one in page.collections]
        if not (token := page.next_page_token):
            break
    assert found == ["a-b", "a", "b.c", "b", "d"]


async def test_a_collection_is_created_once_also_after_its_first_documents(client: Client):
    await client.send(b"Text.", document=f"{MANUALS}/documents/a")
    assert (await create(client, description="x")).document_count == 1
    assert (await refusal(create(client)))[:2] == ("ALREADY_EXISTS", "COLLECTION_EXISTS")
    assert (await get(client)).description == "x"


async def test_an_update_changes_what_its_mask_names(client: Client):
    created = await create(client, **SETTINGS)
    changed = await update(client, "description", description="New")
    assert (changed.description, changed.chunk_sizes) == ("New", SETTINGS["chunk_sizes"])
    assert changed.update_time.ToNanoseconds() > created.update_time.ToNanoseconds()
    assert await update(client, "description", description="New") == changed
    changed = await update(client, "chunk_sizes", "retention", "version_retention")
    assert changed.version_retention == 0
    assert (changed.description, changed.create_time) == ("New", created.create_time)
    assert changed.steps == SETTINGS["steps"]
    assert not (await update(client, "steps")).steps
    assert not changed.HasField("chunk_sizes")
    assert not changed.HasField("retention")
    for mask in ((), ("*",)):
        await update(client, *mask, **SETTINGS)
        assert (await get(client)).description == SETTINGS["description"]


async def test_an_update_creates_a_collection_that_only_has_documents(client: Client):
    await client.send(b"Text.", document=f"{MANUALS}/documents/a")
    assert (await update(client, "description", description="New")).HasField("create_time")
    assert (await refusal(create(client)))[1] == "COLLECTION_EXISTS"


async def test_steps_are_told_in_the_order_in_which_they_run(client: Client):
    created = await create(client, steps=[STEP_PII_MASKING, STEP_REPEATED_LINES])
    assert created.steps == SETTINGS["steps"]


async def test_only_an_empty_collection_is_deleted(client: Client):
    await create(client, **SETTINGS)
    await client.rig.index_version(name=f"{MANUALS}/documents/a")
    code, reason, _ = await refusal(delete(client))
    assert (code, reason) == ("FAILED_PRECONDITION", "COLLECTION_NOT_EMPTY")
    await client.delete(f"{MANUALS}/documents/a")
    await delete(client)
    assert (await refusal(get(client)))[:2] == ("NOT_FOUND", "COLLECTION_UNKNOWN")
    # Created again it has none of the old settings.
    assert (await create(client)).description == ""


async def test_a_collection_is_deleted_with_its_documents_and_leaves_a_receipt(client: Client):
    await create(client, **SETTINGS)
    for name in ("a", "b"):
        await client.rig.index_version(name=f"{MANUALS}/documents/{name}")
    deletion = (await delete(client, force=True)).deletion
    assert (deletion.name, deletion.number) == (MANUALS, 1)
    assert (deletion.document_count, deletion.remaining_count) == (2, 2)
    assert not deletion.HasField("receipt")
    assert not deletion.HasField("finish_time")
    assert (await refusal(get(client)))[1] == "COLLECTION_UNKNOWN"
    for name in ("a", "b"):
        await client.rig.report_purged(name=f"{MANUALS}/documents/{name}")
    await client.rig.wired.maintenance.continue_deletions.run()
    done = await get_deletion(client)
    assert (done.document_count, done.remaining_count) == (2, 0)
    assert (done.receipt.objects, done.receipt.passages) == (2, 4)
    assert done.finish_time.ToNanoseconds() >= done.request_time.ToNanoseconds()
    assert (await delete(client, force=True)).deletion == done


async def test_a_collection_is_hidden_later_while_query_is_away(client: Client):
    await client.rig.index_version(name=f"{MANUALS}/documents/a")
    client.rig.siblings.query_is_away = True
    code, reason, details = await refusal(delete(client, force=True))
    assert (code, reason) == ("UNAVAILABLE", "HIDE_PENDING")
    assert details["RetryInfo"].retry_delay.seconds == 1
    client.rig.siblings.query_is_away = False
    assert (await delete(client, force=True)).deletion.number == 1


@pytest.mark.parametrize("name", ["manuals", "collections/", "collections/a/b", "collections/../x"])
async def test_a_deletion_needs_the_name_of_a_collection(client: Client, name: str):
    for call in (delete(client, name, force=True), get_deletion(client, name)):
        assert (await refusal(call))[:2] == ("INVALID_ARGUMENT", "COLLECTION_NAME")


async def test_another_tenant_learns_nothing_of_a_deletion(client: Client):
    await client.rig.index_version(name=f"{MANUALS}/documents/a")
    await delete(client, force=True)
    answer = await refusal(get_deletion(client, who="globex"))
    assert answer == await refusal(get_deletion(client, f"{MANUALS}-none", who="globex"))
    assert answer[:2] == ("NOT_FOUND", "COLLECTION_DELETION_UNKNOWN")
    assert (await refusal(delete(client, who="globex", force=True)))[1] == "COLLECTION_UNKNOWN"


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"name": "manuals"}, "COLLECTION_NAME", "collection.name"),
        ({"name": "collections/"}, "COLLECTION_NAME", "collection.name"),
        ({"name": "collections/a/b"}, "COLLECTION_NAME", "collection.name"),
        ({"name": f"collections/{'a' * 129}"}, "COLLECTION_NAME", "collection.name"),
        ({"description": "d" * 1_001}, "COLLECTION_RANGE", "description"),
        ({"description": "a\x00b"}, "COLLECTION_RANGE", "description"),
        ({"chunk_sizes": ChunkSizes(target_chars=99, max_chars=500)}, "COLLECTION_RANGE", "chunk"),
        ({"chunk_sizes": ChunkSizes(target_chars=600, max_chars=500)}, "COLLECTION_RANGE", "chunk"),
        ({"chunk_sizes": ChunkSizes(target_chars=600)}, "COLLECTION_RANGE", "chunk"),
        ({"chunk_sizes": ChunkSizes(target_chars=1, max_chars=4_001)}, "COLLECTION_RANGE", "chunk"),
        ({"version_retention": -1}, "COLLECTION_RANGE", "version_retention"),
        ({"version_retention": 101}, "COLLECTION_RANGE", "version_retention"),
        ({"steps": [0]}, "COLLECTION_RANGE", "steps"),
        ({"steps": [STEP_PII_MASKING, 99]}, "COLLECTION_RANGE", "steps"),
        ({"steps": [STEP_PII_MASKING, STEP_PII_MASKING]}, "COLLECTION_RANGE", "steps"),
        ({"retention": Duration(seconds=59)}, "COLLECTION_RANGE", "retention"),
        ({"retention": Duration(seconds=-1)}, "COLLECTION_RANGE", "retention"),
        ({"retention": Duration(seconds=315_576_000_000)}, "COLLECTION_RANGE", "retention"),
    ],
)
async def test_bad_settings_are_refused_by_name(client: Client, changes, reason, field):
    for call in (create, update):
        code, said, details = await refusal(call(client, **changes))
        assert (code, said) == ("INVALID_ARGUMENT", reason)
        [violation] = details["BadRequest"].field_violations
        assert violation.field.startswith(field)
    assert client.rig.count("collections") == 0


async def test_a_mask_that_names_something_else_is_refused(client: Client):
    await create(client)
    for mask in (("name",), ("description", "document_count"), ("*", "retention"), ("",)):
        assert (await refusal(update(client, *mask)))[1] == "UPDATE_MASK"


async def test_another_tenant_finds_nothing_and_has_its_own(client: Client):
    await create(client, **SETTINGS)
    for call in (get, delete):
        answer = await refusal(call(client, who="globex"))
        assert answer == await refusal(call(client, f"{MANUALS}-none", who="globex"))
        assert answer[:2] == ("NOT_FOUND", "COLLECTION_UNKNOWN")
    assert (await create(client, who="globex", description="theirs")).description == "theirs"
    assert (await get(client)).description == SETTINGS["description"]


@pytest.mark.parametrize("scope", ["documents.read", "documents.write", "search"])
async def test_each_method_needs_its_scope(client: Client, scope: str):
    await create(client)
    calls = {
        "GetCollection": pb.GetCollectionRequest(name=MANUALS),
        "CreateCollection": pb.CreateCollectionRequest(collection=Collection(name=f"{MANUALS}-2")),
        "UpdateCollection": pb.UpdateCollectionRequest(collection=Collection(name=MANUALS)),
        "DeleteCollection": pb.DeleteCollectionRequest(name=MANUALS, force=True),
        "GetCollectionDeletion": pb.GetCollectionDeletionRequest(name=MANUALS),
    }
    await client.rig.index_version(name=f"{MANUALS}/documents/a")
    await delete(client, force=True)
    await create(client)
    for method, request in calls.items():
        needed = "documents.read" if method.startswith("Get") else "documents.write"
        if needed == scope:
            await client.call(method, request, scope=scope)
        else:
            answer = await refusal(client.call(method, request, scope=scope))
            assert answer[:2] == ("PERMISSION_DENIED", "SCOPE_MISSING")
