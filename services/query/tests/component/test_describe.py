"""A version's title and metadata can change while its passages stay."""

import itertools

import pytest

from aquifer.query.v1.passage_events_pb2 import VersionDescribed
from query.domain import Question


def described(revision: int, version: int = 1) -> VersionDescribed:
    return VersionDescribed(
        tenant="acme",
        document="collections/manuals/documents/pump",
        version=version,
        revision=revision,
    )


async def read_descriptions(world) -> list[tuple[str, dict[str, str]]]:
    question = Question(tenant="acme", held=None, text="impeller", limit=9)
    passages = [hit.passage for hit in (await world.find.run(question)).hits]
    return [(passage.title, dict(passage.metadata)) for passage in passages]


async def test_passages_return_the_new_title_and_metadata(world):
    await world.deliver(world.embedded("the impeller wears", "grease the impeller"))
    assert await read_descriptions(world) == [("Pump manual", {})] * 2
    assert await world.describe("Manual") == [described(1)]
    assert await read_descriptions(world) == [("Manual", {"title": "Manual"})] * 2


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_highest_revision_is_valid_in_any_order(world, order):
    steps = [
        lambda: world.deliver(world.embedded("the impeller wears")),
        lambda: world.describe("First"),
        lambda: world.describe("Second", first=2),
    ]
    for step in order:
        await steps[step]()
    assert await read_descriptions(world) == [("Second", {"title": "Second"})]


async def test_of_several_at_once_the_highest_revision_is_valid(world):
    await world.deliver(world.embedded("the impeller wears"))
    sent = await world.describe("First", "Second", "Third")
    assert sent == [described(1), described(2), described(3)]
    assert await world.describe("First", "Second") == [described(1), described(2)]
    assert await read_descriptions(world) == [("Third", {"title": "Third"})]


async def test_chunks_sent_again_with_an_old_description_change_nothing(world):
    await world.deliver(world.embedded("the impeller wears", title="Second", revision=2))
    await world.deliver(world.embedded("the impeller wears", title="First", attempt=1, revision=1))
    assert await read_descriptions(world) == [("Second", {})]


async def test_a_version_that_is_gone_is_not_described(world):
    await world.deliver(world.embedded("the impeller wears", version=2))
    await world.describe("Superseded", version=1)
    await world.fail(3)
    await world.describe("Failed", version=3)
    assert [row["version"] for row in world.rows("descriptions")] == [2]
    await world.purge(2)
    assert await world.describe("Deleted", version=2) == [described(1, version=2)]
    assert world.rows("descriptions") == []


async def test_a_description_goes_with_its_version(world):
    await world.describe("Never came", version=1)
    await world.fail(1)
    assert world.rows("descriptions") == []
    await world.describe("Superseded", version=2)
    await world.deliver(world.embedded("the impeller wears", version=3))
    assert [row["version"] for row in world.rows("descriptions")] == [3]
