"""A second profile is built beside the live one, made live and dropped, while the stack is used."""

import asyncio
import time
from dataclasses import dataclass

import pytest

from chassis.base.errors import (
    ConflictError,
    FailedPreconditionError,
    NotFoundError,
    UnavailableError,
)
from query.profile import Profile
from query.retrieval.vector_store import TenantScope
from query.usecases.compare_profiles import CompareProfiles
from query.usecases.find_passages import FindPassages
from query.usecases.points import make_point
from query.usecases.profiles import (
    BuildProfile,
    DropProfile,
    FlipProfile,
    ListProfiles,
    ProfileState,
)
from query.usecases.rebuild_vectors import KeepIndexes
from query.usecases.remove_dropped import RemoveDropped
from services.query.tests.shared_words import SharedWords

ACME = TenantScope("acme")
# As wide as the first one, so that only its values tell a mixture; and one of another width.
OTHER = Profile(name="other-words", dimensions=64)
WIDE = Profile(name="wide-words", dimensions=96)


class Served:
    """What inference offers in these tests."""

    async def list_profiles(self):
        return [Profile(name="hashed-words", dimensions=64), OTHER, WIDE]


@dataclass
class Operator:
    """The use cases of an operator, as one process has them; `restart` makes those of a new one."""

    world: object

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        world = self.world
        self.indexes = world.new_indexes()
        stores = {"ledger": world.ledger, "records": world.records, "indexes": self.indexes}
        self.keep = KeepIndexes(begin=world.begin, **stores, repair_s=0.0, clock=time.monotonic)
        self.remove = RemoveDropped(begin=world.begin, **stores)
        self.listing = ListProfiles(**stores, catalogue=Served())
        self.build = BuildProfile(
            indexes=self.indexes,
            records=world.records,
            profiles=world.profiles,
            catalogue=Served(),
        )
        self.compare = CompareProfiles(
            indexes=self.indexes, profiles=world.profiles, ledger=world.ledger
        )
        self.flip = FlipProfile(indexes=self.indexes, profiles=world.profiles)
        self.drop = DropProfile(profiles=world.profiles, remove=self.remove)
        self.find = FindPassages(self.indexes, world.ledger, SharedWords())

    async def fill(self) -> None:
        """One round of both loops."""
        for place in (0, 1):
            await self.keep.run(place)

    async def build_whole(self, profile: Profile = OTHER) -> None:
        await self.build.run(profile.name)
        await self.fill()

    async def states(self) -> dict[str, ProfileState]:
        return {one.name: one.state for one in (await self.listing.run()).profiles}

    async def points(self, profile: Profile) -> dict[str, int]:
        page = await self.indexes.open(profile).vectors.scroll(ACME)
        return {entry.point_id: entry.version for entry in page.entries}


@pytest.fixture
async def operator(world):
    operator = Operator(world)
    yield operator
    for profile in (OTHER, WIDE):
        await operator.indexes.open(profile).vectors.drop()


def document(number: int) -> str:
    return f"collections/manuals/documents/d{number}"


async def upload(world, number: int, *texts: str, version: int = 1) -> None:
    await world.deliver(world.embedded(*texts, document=document(number), version=version))


async def stored_vectors(world, profile: Profile) -> dict[str, list[float]]:
    ids = [point_id for point_id, _ in await world.ledger.list_passages("acme", None, 100)]
    found = await world.ledger.read_vectors("acme", profile.name, ids)
    return {str(point_id): vector.tolist() for point_id, vector in found.items()}


async def test_a_profile_is_built_flipped_flipped_back_and_dropped(world, operator):
    await upload(world, 1, "impeller one", "impeller two")
    before = await world.search("impeller")
    assert (await operator.states())[OTHER.name] is ProfileState.AVAILABLE
    await operator.build.run(OTHER.name)
    assert (await operator.states())[OTHER.name] is ProfileState.BUILDING
    await operator.fill()
    assert (await operator.states())[OTHER.name] is ProfileState.READY
    assert await operator.points(OTHER) == await world.points()
    await operator.flip.run(OTHER.name)
    assert await operator.states() == {
        OTHER.name: ProfileState.LIVE,
        world.profile.name: ProfileState.READY,
        WIDE.name: ProfileState.AVAILABLE,
    }
    assert sorted(await world.search("impeller")) == sorted(before)
    await operator.flip.run(world.profile.name)
    assert await world.search("impeller") == before
    await operator.flip.run(OTHER.name)
    await operator.drop.run(world.profile.name)
    assert (await operator.states())[world.profile.name] is ProfileState.AVAILABLE
    assert sorted(await world.search("impeller")) == sorted(before)
    with pytest.raises(UnavailableError):
        await world.vectors.info()


async def test_the_question_is_embedded_under_the_profile_that_is_searched(world, operator):
    """Under the wrong profile a question would find the passages in no sensible order."""
    texts = [f"word{number}" for number in range(20)]
    for number, text in enumerate(texts):
        await upload(world, number, text)
    await operator.build_whole()
    for profile in (OTHER, world.profile, OTHER):
        await operator.flip.run(profile.name)
        for text in texts:
            [best] = await world.search(text, limit=1)
            assert best == text


async def test_vectors_may_have_another_width(world, operator):
    await upload(world, 1, "impeller one")
    await operator.build_whole(WIDE)
    await operator.flip.run(WIDE.name)
    await upload(world, 2, "impeller two")
    assert sorted(await world.search("impeller")) == ["impeller one", "impeller two"]


async def test_uploads_new_versions_and_deletes_reach_both_indexes(world, operator):
    for number in (1, 2, 3):
        await upload(world, number, f"impeller {number}")
    await operator.build.run(OTHER.name)
    await upload(world, 4, "impeller 4")
    await upload(world, 1, "impeller 1 again", version=2)
    await world.purge(1, document(2))
    await operator.fill()
    await upload(world, 5, "impeller 5")
    await upload(world, 3, "impeller 3 again", version=2)
    await world.purge(1, document(4))
    await world.remove_points.run()
    expected = await world.points()
    assert len(expected) == 3
    assert await operator.points(OTHER) == expected
    assert (await stored_vectors(world, OTHER)).keys() == expected.keys()
    await operator.flip.run(OTHER.name)
    found = await world.search("impeller")
    assert sorted(found) == ["impeller 1 again", "impeller 3 again", "impeller 5"]


async def test_the_receipt_of_a_delete_counts_the_points_of_both_indexes(world, operator):
    await upload(world, 1, "impeller one", "impeller two")
    await operator.build_whole()
    [purged] = await world.purge(1, document(1))
    assert (purged.passages, purged.points) == (2, 4)
    assert await operator.points(OTHER) == {}
    assert world.rows("passage_vectors") == []


async def test_a_batch_under_way_when_a_build_begins_gets_points_in_both(world, operator):
    """Its points are only in the live index when the build begins: it is stored later, with both.

    A build that has passed its place would never see it otherwise.
    """
    begun = False

    async def build_meanwhile():
        nonlocal begun
        if not begun:
            begun = True
            await operator.build_whole()

    world.vectors.after_upsert = build_meanwhile
    with pytest.raises(ConflictError) as conflict:
        await upload(world, 1, "impeller one")
    assert conflict.value.reason == "PROFILES_CHANGED"
    assert world.rows("passages") == []
    await upload(world, 1, "impeller one")
    assert await operator.points(OTHER) == await world.points() != {}


async def test_a_build_waits_for_batches_that_are_being_stored(world, operator):
    await upload(world, 1, "impeller one")
    async with world.begin("acme") as work:
        await work.rows.lock_profiles()
        building = asyncio.create_task(operator.build.run(OTHER.name))
        await asyncio.sleep(0.3)
        assert not building.done()
    await building


async def test_searches_during_everything_find_what_they_should(world, operator):
    """No empty answer, no error, no mixture: the best hit of a word is always its passage."""
    texts = {f"word{number} shared" for number in range(12)}
    for number, text in enumerate(sorted(texts)):
        await upload(world, number, text)
    stop, failures, searches = asyncio.Event(), [], 0
    other_process = Operator(world).find

    async def search_always(find):
        nonlocal searches
        while not stop.is_set():
            for text in sorted(texts):
                world.find = find
                found = await world.search(text, limit=20)
                if found[0] != text or not texts <= {*found}:
                    failures.append((text, found))
                searches += 1

    searching = [
        asyncio.create_task(search_always(find)) for find in (operator.find, other_process)
    ]
    first = world.profile
    await operator.build_whole()
    for number in range(12, 18):
        await upload(world, number, f"late{number} shared")
        await operator.flip.run((OTHER if number % 2 == 0 else first).name)
    await operator.flip.run(OTHER.name)
    await operator.drop.run(first.name)
    await operator.build_whole(WIDE)
    await operator.flip.run(WIDE.name)
    await operator.drop.run(OTHER.name)
    stop.set()
    await asyncio.gather(*searching)
    assert failures == []
    assert searches > 12


async def test_another_process_follows_a_flip_at_once(world, operator):
    await upload(world, 1, "impeller one")
    other = Operator(world)
    assert (await other.indexes.find_live()).profile == world.profile
    await operator.build_whole()
    await operator.flip.run(OTHER.name)
    await operator.drop.run(world.profile.name)
    world.find = other.find
    assert await world.search("impeller") == ["impeller one"]
    assert (await other.indexes.find_live()).profile == OTHER


async def test_a_killed_build_goes_on_in_another_process(world, operator, monkeypatch):
    monkeypatch.setattr("query.usecases.rebuild_vectors.RESTORED_TOGETHER", 4)
    for number in range(10):
        await upload(world, number, f"impeller {number}")
    await operator.build.run(OTHER.name)
    vectors = operator.indexes.open(OTHER).vectors
    portions = 0

    async def end():
        nonlocal portions
        portions += 1
        if portions == 2:
            raise KeyboardInterrupt

    vectors.before_upsert = end
    with pytest.raises(KeyboardInterrupt):
        await operator.fill()
    assert len(await operator.points(OTHER)) == 4
    operator.restart()
    with pytest.raises(FailedPreconditionError) as refused:
        await operator.flip.run(OTHER.name)
    assert refused.value.reason == "PROFILE_INCOMPLETE"
    world.embedder.under(OTHER).embedded.clear()
    await operator.fill()
    # The vectors of the second portion were stored before its points.
    assert len(world.embedder.under(OTHER).embedded) == 2
    await operator.flip.run(OTHER.name)
    assert len(await world.search("impeller", limit=20)) == 10


async def test_a_point_that_came_late_has_its_vector_stored_by_the_build(world, operator):
    """A process that was stopped for long wrote it into the new store; it stores nothing else."""
    await upload(world, 1, "impeller one")
    await operator.build.run(OTHER.name)
    [(point_id, passage)] = await world.ledger.list_passages("acme", None, 9)
    vector = world.embedder.under(OTHER).rows(["impeller one"])[0]
    await operator.indexes.open(OTHER).vectors.upsert(ACME, [make_point(point_id, passage, vector)])
    await operator.fill()
    assert await world.ledger.list_with_vector("acme", OTHER, [point_id]) == {point_id}


async def test_a_build_that_died_before_it_was_in_use_begins_anew(world, operator):
    await upload(world, 1, "impeller one")

    async def end(*_):
        raise KeyboardInterrupt

    begin_build, world.profiles.begin_build = world.profiles.begin_build, end
    with pytest.raises(KeyboardInterrupt):
        await operator.build.run(OTHER.name)
    world.profiles.begin_build = begin_build
    operator.restart()
    await operator.fill()
    assert (await operator.states())[OTHER.name] is ProfileState.AVAILABLE
    await operator.build_whole()
    await operator.flip.run(OTHER.name)
    assert await world.search("impeller") == ["impeller one"]


async def test_a_drop_that_died_is_finished_by_another_process(world, operator):
    await upload(world, 1, "impeller one", "impeller two")
    await operator.build_whole()
    await operator.flip.run(OTHER.name)

    async def end():
        raise KeyboardInterrupt

    list_tenants, world.ledger.list_tenants = world.ledger.list_tenants, end
    with pytest.raises(KeyboardInterrupt):
        await operator.drop.run(world.profile.name)
    world.ledger.list_tenants = list_tenants
    operator.restart()
    assert (await operator.states())[world.profile.name] is ProfileState.DROPPED
    with pytest.raises(FailedPreconditionError) as refused:
        await operator.build.run(world.profile.name)
    assert refused.value.reason == "PROFILE_DROPPED"
    await operator.remove.run()
    assert (await operator.states())[world.profile.name] is ProfileState.AVAILABLE
    await operator.build_whole(world.profile)
    assert (await operator.states())[world.profile.name] is ProfileState.READY


async def test_after_a_drop_each_passage_has_the_vector_of_the_live_profile_alone(world, operator):
    await upload(world, 1, "impeller one", "impeller two")
    await operator.build_whole()
    expected = await stored_vectors(world, OTHER)
    await operator.flip.run(OTHER.name)
    await upload(world, 2, "impeller three")
    await operator.drop.run(world.profile.name)
    assert {row["vector_profile"] for row in world.rows("passages")} == {OTHER.name}
    assert world.rows("passage_vectors") == []
    kept = await stored_vectors(world, OTHER)
    assert len(kept) == 3
    assert kept.items() >= expected.items()


async def test_lost_stores_of_both_profiles_are_filled_without_the_model(world, operator):
    await upload(world, 1, "impeller one")
    await operator.build_whole()
    await upload(world, 2, "impeller two")
    await operator.flip.run(OTHER.name)
    await upload(world, 3, "impeller three")
    before = await world.points()
    embedders = [world.embedder, world.embedder.under(OTHER)]
    for profile, embedder in zip((world.profile, OTHER), embedders, strict=True):
        await operator.indexes.open(profile).vectors.drop()
        embedder.embedded.clear()
    await operator.fill()
    assert [embedder.embedded for embedder in embedders] == [[], []]
    assert await world.points() == await operator.points(OTHER) == before
    assert len(await world.search("impeller")) == 3


async def test_a_lost_store_of_the_other_profile_does_not_stop_searches(world, operator):
    await upload(world, 1, "impeller one")
    await operator.build_whole()
    await operator.indexes.open(OTHER).vectors.drop()
    assert await world.search("impeller") == ["impeller one"]
    with pytest.raises(FailedPreconditionError) as refused:
        await operator.flip.run(OTHER.name)
    assert refused.value.reason == "PROFILE_INCOMPLETE"


async def test_the_comparison_shows_a_good_index_and_a_bad_one(world, operator):
    for number in range(12):
        await upload(world, number, f"impeller number{number} of pump{number}")
    await operator.build_whole()
    good = await operator.compare.run(OTHER.name, 10, 5)
    assert (good.passages, good.samples, good.live.points, good.other.points) == (12, 10, 12, 12)
    assert good.live.found_first == good.other.found_first == 10
    assert 0.2 < good.overlap <= 1
    other = operator.indexes.open(OTHER)
    points = sorted(await operator.points(OTHER))
    await other.vectors.delete_points(ACME, points)
    bad = await operator.compare.run(OTHER.name, 10, 5)
    assert (bad.other.points, bad.other.found_first, bad.overlap) == (0, 0, 0.0)


async def test_a_comparison_of_nothing_has_no_samples(operator):
    await operator.build_whole()
    found = await operator.compare.run(OTHER.name, 10, 5)
    assert (found.passages, found.samples, found.overlap) == (0, 0, 0.0)


async def test_a_batch_under_a_profile_that_is_not_in_use_is_embedded_here(world):
    """Inference was given another default before the flip, or still has the old one after it."""
    event = world.embedded("impeller one")
    event.profile, event.dimensions, event.vectors = "gone", 3, b"x"
    await world.deliver(event)
    assert world.embedder.embedded == ["impeller one"]
    assert await world.search("impeller") == ["impeller one"]


@pytest.mark.parametrize(
    ("call", "name", "kind", "reason"),
    [
        ("build", "hashed-words", FailedPreconditionError, "PROFILE_LIVE"),
        ("build", "nobody", NotFoundError, "PROFILE_UNKNOWN"),
        ("flip", "hashed-words", FailedPreconditionError, "PROFILE_LIVE"),
        ("flip", OTHER.name, FailedPreconditionError, "PROFILE_NOT_BUILT"),
        ("flip", "", FailedPreconditionError, "PROFILE_NOT_BUILT"),
        ("drop", "hashed-words", FailedPreconditionError, "PROFILE_LIVE"),
        ("drop", OTHER.name, FailedPreconditionError, "PROFILE_NOT_BUILT"),
    ],
)
async def test_what_is_not_possible_is_refused(operator, call, name, kind, reason):
    with pytest.raises(kind) as refused:
        await getattr(operator, call).run(name)
    assert refused.value.reason == reason


async def test_only_one_profile_is_beside_the_live_one(operator):
    await operator.build_whole()
    await operator.build.run(OTHER.name)
    assert (await operator.states())[OTHER.name] is ProfileState.READY
    with pytest.raises(FailedPreconditionError) as refused:
        await operator.build.run(WIDE.name)
    assert refused.value.reason == "PROFILE_BESIDE"
    with pytest.raises(FailedPreconditionError) as refused:
        await operator.compare.run(WIDE.name, 10, 5)
    assert refused.value.reason == "PROFILE_NOT_BUILT"


async def test_of_two_flips_at_the_same_time_one_is_made(world, operator):
    await upload(world, 1, "impeller one")
    await operator.build_whole()
    other = Operator(world)
    done = await asyncio.gather(
        operator.flip.run(OTHER.name), other.flip.run(OTHER.name), return_exceptions=True
    )
    assert [one for one in done if one is None] == [None]
    assert (await operator.states())[OTHER.name] is ProfileState.LIVE
