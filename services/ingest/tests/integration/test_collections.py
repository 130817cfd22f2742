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


def delete(client: Client, name: str = MANUALS, *, who: str = "acme") -> Any:
    return client.call("DeleteCollection", pb.DeleteCollectionRequest(name=name), tenant=who)


async def test_a_collection_is_created_read_and_listed_with_its_settings(client: Client):
    created = await create(client, **SETTINGS)
    assert (created.name, created.document_count) == (MANUALS, 0)
    assert created.description == SETTINGS["description"]
    assert created.chunk_sizes == SETTINGS["chunk_sizes"]
    assert created.retention == SETTINGS["retention"]
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
    changed = await update(client, "chunk_sizes", "retention")
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
        "DeleteCollection": pb.DeleteCollectionRequest(name=MANUALS),
    }
    for method, request in calls.items():
        needed = "documents.read" if method == "GetCollection" else "documents.write"
        if needed == scope:
            await client.call(method, request, scope=scope)
        else:
            answer = await refusal(client.call(method, request, scope=scope))
            assert answer[:2] == ("PERMISSION_DENIED", "SCOPE_MISSING")
