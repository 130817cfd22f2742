"""Whatever order events come in, and how often, the same truth remains and both stores agree."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from query.domain import Version
from query.retrieval.vector_store import TenantScope
from query.usecases.compare_points import compare_page

DOCUMENT = "collections/manuals/documents/pump"
VERSIONS = (1, 2, 3)
BATCHES = 3


@dataclass
class Model:
    """What should be known of one document, one step after the other."""

    live: int = 0
    tombstone: int = 0
    failed: set[int] = field(default_factory=set)
    seen: dict[int, set[int]] = field(default_factory=lambda: {v: set() for v in VERSIONS})

    def batch(self, version: int, number: int) -> None:
        if version <= max(self.tombstone, self.live) or version in self.failed:
            return
        self.seen[version].add(number)
        if len(self.seen[version]) == BATCHES:
            self.live = version

    def fail(self, version: int) -> None:
        if version > max(self.live, self.tombstone):
            self.failed.add(version)

    def hide(self, version: int) -> None:
        self.tombstone = max(self.tombstone, version)

    @property
    def found(self) -> list[str]:
        return self.found_of(self.live)

    def found_of(self, live: int) -> list[str]:
        """What is found of the version that is live, or was."""
        if live <= self.tombstone:
            return []
        return [f"impeller {live} part {number}" for number in range(BATCHES)]


def steps(seed: int) -> list[tuple[str, int, int]]:
    chance = random.Random(seed)
    history = [("batch", version, number) for version in VERSIONS for number in range(BATCHES)]
    history += chance.choices(history, k=6)
    for kind, count in (("fail", 1), ("hide", 1), ("purge", 2), ("drain", 2)):
        history += [(kind, chance.choice(VERSIONS[:2]), 0) for _ in range(count)]
    chance.shuffle(history)
    return history


def event(world, version: int, number: int):
    return world.embedded(
        f"impeller {version} part {number}",
        version=version,
        batch=number,
        batch_count=BATCHES,
        chunk_count=BATCHES,
        first=number,
    )


async def run(world, kind: str, version: int, number: int) -> None:
    match kind:
        case "batch":
            await world.deliver(event(world, version, number))
        case "fail":
            await world.fail(version)
        case "hide":
            await world.hide.run("acme", Version(document=DOCUMENT, number=version))
        case "purge":
            await world.purge(version)
        case "drain":
            await world.remove_points.run()


async def check_both_stores(world) -> None:
    await world.remove_points.run()
    await world.update.run()
    passages = {str(row["point_id"]): row["version"] for row in world.rows("passages")}
    assert await world.points() == passages
    kept = {row["version"] for row in world.rows("superseded_versions")}
    for row in world.rows("documents"):
        gone = max(row["tombstone_version"], row["live_version"] - 1)
        assert all(version > gone or version in kept for version in passages.values())
        assert all(version > row["tombstone_version"] for version in passages.values())
        assert all(version < row["live_version"] for version in kept)
    compared = await compare_page(world.ledger, world.live, TenantScope("acme"), None)
    assert not compared.missing
    assert not compared.orphans


async def check_past(world, model: Model, lived: list[tuple[datetime, int]]) -> None:
    for moment, live in lived:
        found = await world.search("impeller", as_of=moment)
        assert sorted(found) == model.found_of(live), (moment, live)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("has_history", [False, True])
async def test_one_after_the_other_they_do_what_the_model_does(world, seed, has_history):
    model = Model()
    lived: list[tuple[datetime, int]] = []
    if has_history:
        await world.begin_history()
    for kind, version, number in steps(seed):
        match kind:
            case "batch":
                model.batch(version, number)
            case "fail":
                model.fail(version)
            case "hide" | "purge":
                model.hide(version)
            case _:
                pass
        await run(world, kind, version, number)
        assert sorted(await world.search("impeller")) == model.found, (kind, version, number)
        if has_history:
            lived.append((world.now(), model.live))
    await check_past(world, model, lived)
    await check_both_stores(world)
    await check_past(world, model, lived)
    await world.keep_history(0)
    await check_both_stores(world)
    assert not world.rows("superseded_versions")
    assert sorted(await world.search("impeller")) == model.found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("has_history", [False, True])
async def test_all_at_once_they_leave_both_stores_in_agreement(world, seed, has_history):
    if has_history:
        await world.begin_history()
    await asyncio.gather(*(run(world, *step) for step in steps(seed)))
    await check_both_stores(world)
