"""Chunks become searchable once, whole, and only while somebody wants them."""

import asyncio
import math

import pytest

from aquifer.ingest.v1.document_pb2 import Description
from aquifer.lines import Line, pack
from aquifer.query.v1.passage_events_pb2 import ChunksRejected, VersionSearchable
from chassis.base.errors import InvalidInputError

DOCUMENT = "collections/manuals/documents/pump"


def searchable(version: int, passages: int) -> list[VersionSearchable]:
    return [
        VersionSearchable(tenant="acme", document=DOCUMENT, version=version, passage_count=passages)
    ]


async def test_a_version_of_one_batch_goes_live(world):
    published = await world.deliver(world.embedded("the impeller wears", "grease the bearing"))
    assert published == searchable(1, 2)
    assert await world.search("impeller") == ["the impeller wears", "grease the bearing"]
    assert len(await world.points()) == 2
    assert world.rows("progress") == []


async def test_a_duplicate_event_has_one_effect_and_one_fact(world):
    event = world.embedded("the impeller wears")
    assert await world.deliver(event, ids=["one"]) == searchable(1, 1)
    assert await world.deliver(event, ids=["one"]) == []
    assert len(world.rows("outbox")) == 1
    assert len(world.rows("passages")) == len(await world.points()) == 1


async def test_batches_in_any_order_flip_with_the_last_and_never_half(world):
    await world.deliver(world.embedded("old impeller text"))
    parts = [
        world.embedded(
            f"new impeller part {n}", version=2, batch=n, batch_count=3, chunk_count=3, first=n
        )
        for n in range(3)
    ]
    for event in (parts[2], parts[0], parts[2]):
        assert await world.deliver(event) == []
        assert await world.search("impeller") == ["old impeller text"]
    assert await world.deliver(parts[1]) == searchable(2, 3)
    assert sorted(await world.search("impeller")) == [f"new impeller part {n}" for n in range(3)]
    for table in ("passages", "descriptions"):
        assert {row["version"] for row in world.rows(table)} == {2}


async def test_points_of_a_superseded_version_are_removed(world):
    await world.deliver(world.embedded("old text", "more old text"))
    await world.deliver(world.embedded("new text", version=2))
    assert [(row["document"], row["version"]) for row in world.rows("removed_versions")] == [
        (DOCUMENT, 1)
    ]
    assert await world.remove_points.run() == 1
    assert set((await world.points()).values()) == {2}
    assert world.rows("removed_versions") == []


async def test_an_old_version_after_a_new_one_leaves_nothing(world):
    await world.deliver(world.embedded("new text", version=2))
    assert await world.deliver(world.embedded("old text", version=1)) == []
    assert await world.search("text") == ["new text"]
    assert set((await world.points()).values()) == {2}


async def test_an_unfinished_old_version_goes_when_a_newer_one_goes_live(world):
    await world.deliver(world.embedded("old part", batch_count=2, chunk_count=2))
    await world.deliver(world.embedded("new text", version=2))
    late = world.embedded("late part", batch=1, batch_count=2, chunk_count=2, first=1)
    assert await world.deliver(late) == []
    await world.remove_points.run()
    assert set((await world.points()).values()) == {2}
    assert world.rows("progress") == []


async def test_a_newer_version_that_goes_live_during_the_upsert_wins(world):
    async def supersede():
        world.vectors.after_upsert = None
        await world.deliver(world.embedded("new text", version=2))

    world.vectors.after_upsert = supersede
    assert await world.deliver(world.embedded("old text")) == []
    assert set((await world.points()).values()) == {2}
    assert await world.search("text") == ["new text"]


async def test_a_frozen_worker_that_wakes_after_all_is_over_leaves_no_points(world):
    """Delivered twice; the first delivery sleeps before its upsert until v1 is superseded."""
    event = world.embedded("old text")
    awake, asleep = asyncio.Event(), asyncio.Event()

    async def sleep():
        world.vectors.before_upsert = None
        asleep.set()
        await awake.wait()

    world.vectors.before_upsert = sleep
    frozen = asyncio.create_task(world.deliver(event, ids=["one"]))
    await asleep.wait()
    await world.deliver(event, ids=["one"])
    await world.deliver(world.embedded("new text", version=2))
    await world.remove_points.run()
    awake.set()
    assert await frozen == []
    assert set((await world.points()).values()) == {2}


async def test_a_crash_between_points_and_passages_costs_a_redelivery(world):
    event = world.embedded("impeller")

    async def crash():
        world.vectors.after_upsert = None
        raise RuntimeError

    world.vectors.after_upsert = crash
    with pytest.raises(RuntimeError):
        await world.deliver(event, ids=["one"])
    assert await world.search("impeller") == []
    assert await world.deliver(event, ids=["one"]) == searchable(1, 1)
    assert len(world.rows("passages")) == len(await world.points()) == 1


async def test_a_batch_sent_again_of_a_live_version_tells_it_again(world):
    await world.deliver(world.embedded("part 0", "part 1"))
    again = world.embedded("part 0", "part 1", attempt=1)
    assert await world.deliver(again) == searchable(1, 2)
    assert len(world.rows("passages")) == len(await world.points()) == 2


async def test_many_batches_side_by_side_flip_once(world):
    count = 12
    parts = [
        world.embedded(f"part {n}", batch=n, batch_count=count, chunk_count=count, first=n)
        for n in range(count)
    ]
    published = await asyncio.gather(*(world.deliver(event) for event in parts))
    assert [fact for facts in published for fact in facts] == searchable(1, count)
    assert len(await world.points()) == count


def broken(world, **changes):
    event = world.embedded("one text", "two text")
    for path, value in changes.items():
        place = event.prepared if hasattr(event.prepared, path) else event
        if isinstance(value, Description):
            place.description.CopyFrom(value)
        else:
            setattr(place, path, value)
    return event


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vectors": b"\0" * 8}, "VECTORS_SIZE"),
        ({"vectors": b"\0" * 64 * 4 * 2}, "VECTOR_LENGTH"),
        ({"vectors": b"\xff" * 64 * 4 * 2}, "VECTOR_LENGTH"),
        ({"dimensions": 65}, "PROFILE_MISMATCH"),
        ({"chunk_count": 1}, "BATCH_SIZE"),
        ({"chunk_count": 3}, "BATCH_SIZE"),
        ({"batch": 1}, "BATCH_NUMBER"),
        ({"batch": -1}, "BATCH_NUMBER"),
        ({"batch_count": 0}, "BATCH_NUMBER"),
        ({"description": Description(title="a\0b")}, "TEXT_NUL"),
        ({"description": Description(create_time={"seconds": 2**40})}, "CREATE_TIME_INVALID"),
        ({"description": Description(metadata={"k": "a\0b"})}, "TEXT_NUL"),
        ({"description": Description(metadata={"a\0b": True})}, "TEXT_NUL"),
        ({"description": Description(metadata={"k": [1, "a\0b"]})}, "TEXT_NUL"),
        ({"description": Description(metadata={"k": {"a": ["\0"]}})}, "TEXT_NUL"),
        ({"description": Description(metadata={"k": math.nan})}, "METADATA_RANGE"),
        ({"description": Description(metadata={"k": [math.inf]})}, "METADATA_RANGE"),
    ],
)
async def test_what_no_retry_would_repair_is_reported_as_rejected(world, changes, reason):
    [rejected] = await world.deliver(broken(world, **changes))
    assert isinstance(rejected, ChunksRejected)
    assert (rejected.document, rejected.version, rejected.reason) == (DOCUMENT, 1, reason)
    assert world.rows("passages") == []
    assert await world.points() == {}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("text", "", "TEXT_LENGTH"),
        ("text", "x" * 4097, "TEXT_LENGTH"),
        ("text", "a\0b", "TEXT_NUL"),
        ("ordinal", 0, "ORDINAL_INVALID"),
        ("ordinal", 2, "ORDINAL_INVALID"),
        ("ordinal", -1, "ORDINAL_INVALID"),
        ("chunk_id", "not-an-id", "CHUNK_ID_INVALID"),
    ],
)
async def test_a_chunk_that_can_not_be_stored_is_told_as_rejected(world, field, value, reason):
    event = world.embedded("one text", "two text")
    setattr(event.prepared.chunks[1], field, value)
    [rejected] = await world.deliver(event)
    assert rejected.reason == reason


async def test_batches_that_disagree_on_the_totals_are_rejected(world):
    await world.deliver(world.embedded("part 0", batch_count=2, chunk_count=2))
    other = world.embedded("part 1", batch=1, batch_count=3, chunk_count=3, first=1)
    [rejected] = await world.deliver(other)
    assert rejected.reason == "BATCHES_DISAGREE"
    assert len(await world.points()) == 1


async def test_a_version_whose_chunks_overlap_never_goes_live(world):
    await world.deliver(world.embedded("part 0", batch_count=2, chunk_count=2))
    [rejected] = await world.deliver(
        world.embedded("part 0 again", batch=1, batch_count=2, chunk_count=2)
    )
    assert rejected.reason == "CHUNKS_MISSING"
    assert await world.search("part") == []
    await world.fail(1)
    await world.remove_points.run()
    assert await world.points() == {}


async def test_an_event_without_a_possible_document_is_a_dead_letter(world):
    event = world.embedded("text", document="nonsense")
    with pytest.raises(InvalidInputError, match="use a name of the form"):
        await world.deliver(event)
    assert await world.make_dead_letter(event, InvalidInputError("DOCUMENT_NAME", "x")) == []


async def test_a_batch_given_up_fails_its_version(world):
    event = world.embedded("text")
    [rejected] = await world.make_dead_letter(event, InvalidInputError("ATTEMPTS_EXHAUSTED", "x"))
    assert (rejected.document, rejected.reason) == (DOCUMENT, "ATTEMPTS_EXHAUSTED")


@pytest.mark.parametrize(
    "lines",
    [
        b"\0" * 11,
        pack([Line(0, 19, 1, 1, 9, 9)]),
        pack([Line(4, 8, 1, 1, 9, 9), Line(0, 4, 1, 1, 9, 9)]),
        pack([Line(0, 4, 1, 1, 1, 9)]),
    ],
)
async def test_lines_that_are_not_in_the_text_are_refused(world, lines):
    event = world.embedded("the impeller wears")
    event.prepared.chunks[0].lines = lines
    [rejected] = await world.deliver(event)
    assert rejected.reason == "LINES_INVALID"
    assert world.rows("passages") == []
