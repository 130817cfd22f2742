"""An upload tells which other documents have its bytes: in the reply and in the result event."""

import asyncio

from aquifer.ingest.v1.document_events_pb2 import DocumentIndexed
from aquifer.query.v1.passage_events_pb2 import VersionSearchable
from ingest.usecases.documents.duplicates import SAME_MAX
from services.ingest.tests.conftest import NAME, TENANT, Rig, messages

WATER = b"Water finds its way."
OTHER = b"Something else."
TWIN = "collections/reports/documents/q1"
AWAY = "collections/minutes/documents/a"


async def find_same(rig: Rig, name: str = NAME, content: bytes = WATER) -> list[str]:
    return list((await rig.upload(content, name=name)).same_content)


async def test_the_reply_names_documents_of_the_same_collection_first(rig: Rig):
    assert await find_same(rig, AWAY) == []
    assert await find_same(rig, "collections/zones/documents/a") == [AWAY]
    assert await find_same(rig, TWIN) == [AWAY, "collections/zones/documents/a"]
    assert await find_same(rig) == [TWIN, AWAY, "collections/zones/documents/a"]
    assert await find_same(rig, content=OTHER) == []


async def test_the_same_upload_again_and_a_read_tell_it_too(rig: Rig):
    await rig.upload(request_id="r1")
    await rig.upload(name=TWIN)
    assert (await rig.upload(request_id="r1")).same_content == [TWIN]
    assert await find_same(rig) == [TWIN]
    assert (await rig.get()).same_content == [TWIN]


async def test_no_more_than_a_few_are_named(rig: Rig):
    names = [f"{TWIN}-{number}" for number in range(SAME_MAX + 2)]
    for name in (AWAY, *names):
        await rig.upload(name=name)
    assert await find_same(rig) == names[:SAME_MAX]


async def test_only_bytes_that_searches_find_or_will_find_are_named(rig: Rig):
    await rig.upload(name=TWIN)
    await rig.prepare(name=TWIN)
    await rig.reject(name=TWIN)
    assert await find_same(rig) == []
    await rig.index_version(name=TWIN)
    assert await find_same(rig) == [TWIN]
    await rig.upload(OTHER, name=TWIN)
    assert await find_same(rig) == []
    await rig.index_version(name=f"{TWIN}-b")
    await rig.delete(f"{TWIN}-b")
    assert await find_same(rig) == []
    await rig.delete()
    assert (await rig.get()).same_content == ()


async def test_nothing_of_another_tenant_is_told(rig: Rig):
    await rig.upload(tenant="globex")
    await rig.upload(name=TWIN, tenant="globex")
    assert await find_same(rig) == []
    assert (await rig.upload(tenant="globex")).same_content == [TWIN]


async def test_uploads_of_a_group_name_each_other(rig: Rig):
    names = [f"{NAME}-{number}" for number in range(4)]
    views = await asyncio.gather(*(rig.upload(name=name) for name in names))
    # The first one does not wait for others, so it knows of none.
    assert views[0].same_content == ()
    assert [list(view.same_content) for view in views[1:]] == [
        [other for other in names if other != name] for name in names[1:]
    ]


async def test_the_result_event_names_them_as_they_are_by_then(rig: Rig):
    await rig.event()
    await rig.upload(name=TWIN)
    await rig.upload(name=AWAY)
    await rig.prepare()
    [result] = messages(await rig.searchable())
    assert isinstance(result, DocumentIndexed)
    assert list(result.same_content) == [TWIN, AWAY]
    await rig.delete(TWIN)
    for event_id in ("e1", "e2"):
        [again] = messages(await rig.event(event_id=event_id))
        assert isinstance(again, DocumentIndexed)
        assert list(again.same_content) == [AWAY]
        assert again.unchanged is (event_id == "e2")


async def test_results_of_a_batch_and_of_later_versions_name_them(rig: Rig):
    for name in (NAME, TWIN):
        await rig.upload(name=name)
        await rig.prepare(name=name)
    first = rig.batch(*(_searchable(name) for name in (NAME, TWIN)))
    before = rig.last_outgoing()
    await rig.wired.use_cases.mark_searchable.run(first)
    results = [one for one in messages(rig.outgoing(before)) if isinstance(one, DocumentIndexed)]
    assert {one.document: list(one.same_content) for one in results} == {NAME: [TWIN], TWIN: [NAME]}
    await rig.upload(OTHER, name=AWAY)
    await rig.upload(OTHER)
    await rig.prepare(2)
    [result] = [one for one in messages(await rig.searchable(2)) if one.version == 2]
    assert list(result.same_content) == [AWAY]


def _searchable(name: str) -> VersionSearchable:
    return VersionSearchable(tenant=TENANT, document=name, version=1)
