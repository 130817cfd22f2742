"""What is deleted or given up leaves nothing, whatever comes when."""

import asyncio

import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentFailed
from aquifer.query.v1.passage_events_pb2 import PassagesPurged, VersionSearchable
from chassis.base.errors import UnavailableError
from query.domain import Version

DOCUMENT = "collections/manuals/documents/pump"


def purge_events(version: int = 1, **counts: int) -> list[PassagesPurged]:
    return [PassagesPurged(tenant="acme", document=DOCUMENT, version=version, **counts)]


async def hide(world, version: int = 1) -> None:
    await world.hide.run("acme", Version(document=DOCUMENT, number=version))


async def test_hidden_is_found_by_no_search_at_once(world):
    await world.deliver(world.embedded("impeller text"))
    await hide(world)
    assert await world.search("impeller") == []
    await hide(world)
    assert world.rows("documents")[0]["tombstone_version"] == 1


async def test_a_tombstone_never_sinks(world):
    await hide(world, 3)
    await hide(world, 2)
    assert world.rows("documents")[0]["tombstone_version"] == 3


async def test_a_delete_that_comes_before_the_create_wins(world):
    await hide(world)
    assert await world.deliver(world.embedded("impeller text")) == []
    assert await world.search("impeller") == []
    assert await world.points() == {}
    assert world.rows("passages") == []


async def test_a_newer_version_wins_over_the_tombstone(world):
    await hide(world)
    assert await world.deliver(world.embedded("impeller text", version=2))
    assert await world.search("impeller") == ["impeller text"]
    assert await world.purge(1) == purge_events()
    assert await world.search("impeller") == ["impeller text"]
    assert len(await world.points()) == 1


async def test_a_delete_during_the_upsert_leaves_no_point(world):
    async def delete():
        world.vectors.after_upsert = None
        await hide(world)
        # The purge takes the points of the batch in flight; whatever comes after is the batch's.
        assert await world.purge(1) == purge_events(points=1)

    world.vectors.after_upsert = delete
    assert await world.deliver(world.embedded("impeller text")) == []
    assert await world.points() == {}
    assert world.rows("passages") == []


async def test_points_written_after_the_purge_are_taken_back(world):
    async def delete():
        world.vectors.before_upsert = None
        assert await world.purge(1) == purge_events()

    world.vectors.before_upsert = delete
    assert await world.deliver(world.embedded("impeller text")) == []
    assert await world.points() == {}


async def test_deletes_and_batches_at_random_end_with_nothing_of_the_deleted(world):
    parts = [
        world.embedded(f"part {n}", batch=n, batch_count=8, chunk_count=8, first=n)
        for n in range(8)
    ]
    work = [world.deliver(event) for event in (*parts, *parts)]
    work.insert(7, world.purge(1))
    await asyncio.gather(*work)
    await world.remove_points.run()
    assert await world.points() == {}
    assert world.rows("passages") == world.rows("descriptions") == world.rows("progress") == []
    assert await world.search("part") == []


async def test_a_purge_counts_what_it_removed_and_its_repeat_says_the_same(world):
    await world.deliver(world.embedded("one", "two", "three"))
    world.dead_letters.kept = [("acme", DOCUMENT), ("acme", "collections/c/documents/other")]
    published = await world.purge(1)
    assert published == purge_events(passages=3, points=3, dead_letters=1)
    assert await world.points() == {}
    assert world.rows("passages") == []
    assert await world.purge(1, attempt=1) == published
    assert world.dead_letters.kept == [("acme", "collections/c/documents/other")]


async def test_a_purge_that_broke_off_counts_all_its_attempts(world):
    await world.deliver(world.embedded("one", "two"))

    async def unreachable(tenant: str, document: str) -> int:
        raise UnavailableError("BUS_UNAVAILABLE", "x")

    reachable = world.dead_letters.discard_document
    world.dead_letters.discard_document = unreachable
    with pytest.raises(UnavailableError):
        await world.purge(1, ids=["delete"])
    assert await world.points() == {}
    assert await world.search("one") == []
    world.dead_letters.discard_document = reachable
    assert await world.purge(1, ids=["delete"]) == purge_events(passages=2, points=2)


async def test_a_purge_that_broke_off_at_its_end_counts_the_dead_letters_it_removed(world):
    await world.deliver(world.embedded("one"))
    world.dead_letters.kept = [("acme", DOCUMENT)]
    world.everything.execute("ALTER TABLE inbox RENAME TO inbox_away")
    try:
        with pytest.raises(UnavailableError):
            await world.purge(1, ids=["delete"])
    finally:
        world.everything.execute("ALTER TABLE inbox_away RENAME TO inbox")
    assert world.dead_letters.kept == []
    world.dead_letters.kept = [("acme", DOCUMENT)]
    published = purge_events(passages=1, points=1, dead_letters=2)
    assert await world.purge(1, ids=["delete"]) == published


async def test_a_purge_takes_superseded_points_that_were_still_waiting(world):
    await world.deliver(world.embedded("one"))
    await world.deliver(world.embedded("two", version=2))
    assert await world.purge(2) == purge_events(2, passages=1, points=2)
    assert world.rows("removed_versions") == []
    assert await world.points() == {}


async def test_a_purge_leaves_the_newer_version_alone(world):
    await world.deliver(world.embedded("one"))
    await hide(world)
    await world.deliver(world.embedded("two", version=2))
    await world.purge(1)
    assert await world.search("two") == ["two"]
    assert set((await world.points()).values()) == {2}


async def test_other_tenants_documents_of_the_same_name_stay(world):
    await world.deliver(world.embedded("ours"))
    await world.deliver(world.embedded("theirs", tenant="globex"))
    await world.purge(1)
    assert await world.search("theirs", tenant="globex") == ["theirs"]
    assert len(await world.points("globex")) == 1


async def test_a_failed_version_is_cleaned_up_and_its_late_batches_are_refused(world):
    await world.deliver(world.embedded("part 0", batch_count=3, chunk_count=3))
    assert await world.fail(1) == []
    await world.remove_points.run()
    assert await world.points() == {}
    assert world.rows("passages") == world.rows("descriptions") == world.rows("progress") == []
    late = world.embedded("part 1", batch=1, batch_count=3, chunk_count=3, first=1)
    assert await world.deliver(late) == []
    assert await world.points() == {}
    assert world.rows("progress") == []


async def test_a_failure_does_not_touch_the_live_version(world):
    await world.deliver(world.embedded("live"))
    await world.deliver(world.embedded("part", version=2, batch_count=2, chunk_count=2))
    assert await world.fail(2) == []
    await world.fail(1)
    assert await world.search("live") == ["live"]
    [published] = await world.deliver(world.embedded("third", version=3))
    assert isinstance(published, VersionSearchable)
    assert world.rows("documents")[0]["failed_versions"] == []


async def test_a_failed_version_that_is_live_is_told_again(world):
    """The broker lost the first word of it, and ingest gave the version up."""
    [lost] = await world.deliver(world.embedded("one", "two"))
    assert await world.fail(1) == [lost]
    assert lost.passage_count == 2
    assert await world.search("one", limit=1) == ["one"]


async def test_a_failed_version_is_told_live_under_an_id_of_its_own(world):
    sent = []
    for event in (
        world.embedded("one"),
        DocumentFailed(tenant="acme", document=DOCUMENT, version=1, upload_event_id="a"),
        DocumentFailed(tenant="acme", document=DOCUMENT, version=1, upload_event_id="b"),
    ):
        sent += [row["headers"]["ce-id"] for row in await world.stored_by(event)]
    assert len(set(sent)) == 3


async def test_a_failed_version_that_is_superseded_or_deleted_is_not_told_live(world):
    await world.deliver(world.embedded("one"))
    await world.deliver(world.embedded("two", version=2))
    assert await world.fail(1) == []
    await hide(world, 2)
    assert await world.fail(2) == []


async def test_an_upload_refused_before_it_had_a_version_is_none_of_our_business(world):
    assert await world.deliver(DocumentFailed(tenant="acme", reason="TENANT_UNKNOWN")) == []
    assert world.rows("documents") == []
