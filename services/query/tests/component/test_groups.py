"""Events that are handled as one batch: a neighbour costs an event nothing."""

import asyncio

import psycopg
import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentFailed
from aquifer.query.v1.passage_events_pb2 import ChunksRejected, VersionSearchable
from chassis.base.errors import InvalidInputError
from query.domain import Version

PUMP = "collections/manuals/documents/pump"
VALVE = "collections/manuals/documents/valve"
MOTOR = "collections/manuals/documents/motor"


def searchable(document: str, version: int = 1, passages: int = 1) -> VersionSearchable:
    return VersionSearchable(
        tenant="acme", document=document, version=version, passage_count=passages
    )


def part(world, number: int, document: str = PUMP, version: int = 1, count: int = 2):
    """One batch of one chunk."""
    return world.embedded(
        f"part {number}",
        document=document,
        version=version,
        batch=number,
        batch_count=count,
        chunk_count=count,
        first=number,
    )


def invalid_batch(world, document: str = MOTOR):
    event = world.embedded("motor text", document=document)
    event.vectors = b"\0" * 8
    return event


async def test_documents_of_a_group_go_live_together(world):
    names = [f"collections/manuals/documents/d{number}" for number in range(20)]
    group = [world.embedded(f"impeller {name}", document=name) for name in names]
    assert await world.deliver(*group) == [searchable(name) for name in names]
    assert len(await world.search("impeller", limit=100)) == 20
    assert len(await world.points()) == len(world.rows("passages")) == 20
    assert world.rows("progress") == []


async def test_a_refused_event_costs_its_neighbours_nothing(world):
    published = await world.deliver(
        world.embedded("pump text"),
        invalid_batch(world),
        world.embedded("valve text", document=VALVE),
    )
    rejected = ChunksRejected(tenant="acme", document=MOTOR, version=1, reason="VECTORS_SIZE")
    assert len(published) == 3
    assert all(one in published for one in (searchable(PUMP), searchable(VALVE), rejected))
    assert sorted(await world.search("text")) == ["pump text", "valve text"]
    assert len(await world.points()) == 2


async def test_a_group_of_refused_events_alone_leaves_nothing(world):
    published = await world.deliver(invalid_batch(world), invalid_batch(world, VALVE))
    assert [(one.document, one.reason) for one in published] == [
        (MOTOR, "VECTORS_SIZE"),
        (VALVE, "VECTORS_SIZE"),
    ]
    assert world.rows("documents") == world.rows("passages") == []
    assert await world.points() == {}


async def test_a_batch_that_disagrees_costs_its_neighbours_nothing(world):
    published = await world.deliver(
        part(world, 0), part(world, 2, count=3), world.embedded("valve text", document=VALVE)
    )
    assert [one.reason for one in published if isinstance(one, ChunksRejected)] == [
        "BATCHES_DISAGREE"
    ]
    assert searchable(VALVE) in published
    assert await world.deliver(part(world, 1)) == [searchable(PUMP, passages=2)]
    assert len(await world.points()) == 3


async def test_an_event_without_a_possible_document_leaves_the_group_as_it_was(world):
    """The chassis then handles its neighbours one by one, each for the first time."""
    pump, nonsense = world.embedded("pump text"), world.embedded("text", document="nonsense")
    with pytest.raises(InvalidInputError, match="use a name of the form"):
        await world.deliver(pump, nonsense, ids=["pump", "nonsense"])
    assert world.rows("inbox") == world.rows("outbox") == world.rows("documents") == []
    assert await world.points() == {}
    assert await world.deliver(pump, ids=["pump"]) == [searchable(PUMP)]


async def test_a_repeated_event_of_a_group_has_no_second_effect(world):
    pump, valve = world.embedded("pump text"), world.embedded("valve text", document=VALVE)
    published = await world.deliver(pump, valve, pump, ids=["pump", "valve", "pump"])
    assert sorted(one.document for one in published) == [PUMP, VALVE]
    assert await world.deliver(valve, pump, valve, ids=["valve", "pump", "valve"]) == []
    assert len(world.rows("outbox")) == len(world.rows("inbox")) == 2
    assert len(await world.points()) == len(world.rows("passages")) == 2


async def test_a_repeat_behind_the_version_that_supersedes_it_takes_its_points(world):
    old, new = world.embedded("old text"), world.embedded("new text", version=2)
    published = await world.deliver(old, new, old, ids=["old", "new", "old"])
    assert published == [searchable(PUMP), searchable(PUMP, version=2)]
    assert list((await world.points()).values()) == [2]


async def test_a_repeat_beside_new_events_costs_them_nothing(world):
    await world.deliver(world.embedded("pump text"), ids=["pump"])
    published = await world.deliver(
        world.embedded("pump text"),
        world.embedded("valve text", document=VALVE),
        ids=["pump", "valve"],
    )
    assert published == [searchable(VALVE)]
    assert len(await world.points()) == 2


async def test_batches_of_one_version_in_a_group_flip_once(world):
    group = [part(world, number, count=5) for number in (4, 1, 0, 3, 2)]
    assert await world.deliver(*group, group[0]) == [
        searchable(PUMP, passages=5),
        searchable(PUMP, passages=5),
    ]
    assert sorted(await world.search("part")) == [f"part {number}" for number in range(5)]
    assert world.rows("progress") == []


async def test_unwanted_versions_of_a_group_lose_their_points(world):
    """Superseded before and within the group, deleted and given up."""
    await world.deliver(world.embedded("pump new", version=2))
    await world.hide.run("acme", Version(document=VALVE, number=1))
    await world.fail(1, MOTOR)
    pipe = "collections/manuals/documents/pipe"
    published = await world.deliver(
        world.embedded("pump old"),
        world.embedded("valve text", document=VALVE),
        world.embedded("motor text", document=MOTOR),
        world.embedded("pipe new", document=pipe, version=2),
        world.embedded("pipe old", document=pipe, version=1),
    )
    assert published == [searchable(pipe, version=2)]
    assert sorted(await world.search("pump valve motor pipe")) == ["pipe new", "pump new"]
    assert sorted((await world.points()).values()) == [2, 2]
    assert world.rows("removed_versions") == []


async def test_a_document_deleted_during_the_upsert_of_its_group_alone_loses_its_points(world):
    async def delete():
        world.vectors.after_upsert = None
        await world.hide.run("acme", Version(document=VALVE, number=1))

    world.vectors.after_upsert = delete
    published = await world.deliver(
        world.embedded("pump text"),
        world.embedded("valve text", document=VALVE),
        world.embedded("motor text", document=MOTOR),
    )
    assert published == [searchable(PUMP), searchable(MOTOR)]
    assert sorted(await world.search("text")) == ["motor text", "pump text"]
    assert len(await world.points()) == len(world.rows("passages")) == 2


async def test_a_repeat_of_a_superseded_version_in_a_group_loses_its_points(world):
    old = world.embedded("old text")
    await world.deliver(old, ids=["old"])
    await world.deliver(world.embedded("new text", version=2))
    await world.remove_points.run()
    valve = world.embedded("valve text", document=VALVE)
    assert await world.deliver(old, valve, ids=["old", "valve"]) == [searchable(VALVE)]
    assert sorted((await world.points()).values()) == [1, 2]
    assert sorted(await world.search("text")) == ["new text", "valve text"]


async def test_a_rejected_batch_does_not_take_the_points_of_the_one_after_it(world):
    published = await world.deliver(part(world, 0), part(world, 0, count=3), part(world, 0))
    assert [one.reason for one in published] == ["BATCHES_DISAGREE"]
    assert await world.deliver(part(world, 1)) == [searchable(PUMP, passages=2)]
    assert len(await world.points()) == 2


async def test_a_first_version_of_one_batch_takes_the_progress_of_its_parts_along(world):
    """Cut again into fewer batches, as after a change of how texts are cut."""
    await world.deliver(part(world, 0))
    whole = world.embedded("part 0", "part 1", attempt=1)
    assert await world.deliver(whole) == [searchable(PUMP, passages=2)]
    assert world.rows("progress") == []


async def test_a_group_that_fails_leaves_no_trace_but_points(world):
    """What it wrote outside its transaction is written again by the next delivery."""
    group = [world.embedded("pump text"), world.embedded("valve text", document=VALVE)]

    async def crash():
        world.vectors.after_upsert = None
        raise RuntimeError

    world.vectors.after_upsert = crash
    with pytest.raises(RuntimeError):
        await world.deliver(*group, ids=["pump", "valve"])
    assert world.rows("inbox") == world.rows("outbox") == world.rows("passages") == []
    published = await world.deliver(*group, ids=["pump", "valve"])
    assert published == [searchable(PUMP), searchable(VALVE)]


@pytest.mark.parametrize("kind", ["embedded", "failed"])
async def test_groups_that_share_documents_do_not_block_each_other(world, tables, kind):
    """Each in its own order; both wait at a third's lock, so that they surely overlap."""
    await world.deliver(part(world, 0), part(world, 0, VALVE))
    if kind == "embedded":
        there = [part(world, 1, count=3), part(world, 1, VALVE, count=3)]
        back = [part(world, 2, VALVE, count=3), part(world, 2, count=3)]
    else:
        there, back = (
            [
                DocumentFailed(tenant="acme", document=document, version=version)
                for document in order
            ]
            for version, order in ((1, (PUMP, VALVE)), (2, (VALVE, PUMP)))
        )
    with psycopg.connect(tables.superuser_dsn, options="-c search_path=query") as other:
        other.execute("SELECT FROM documents WHERE document = %s FOR UPDATE", [PUMP])
        first = asyncio.create_task(world.deliver(*there))
        await asyncio.sleep(0.3)
        second = asyncio.create_task(world.deliver(*back))
        await asyncio.sleep(0.3)
        other.rollback()
        await asyncio.gather(first, second)
