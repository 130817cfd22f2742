"""A lost vector store comes back whole, searches wait for it, and single points are repaired."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from chassis.base.errors import UnavailableError
from query.domain import Question, Version
from query.retrieval.lexical import ANALYSER, encode_passage
from query.retrieval.vector_store import CURRENT, TenantScope
from query.usecases.points import make_point

ACME = TenantScope("acme")


async def find_refusal(world) -> str:
    with pytest.raises(UnavailableError) as error:
        await world.search("impeller")
    return error.value.reason


async def test_a_lost_store_is_rebuilt_from_the_passages(world):
    await world.deliver(world.embedded("impeller one", "impeller two"))
    await world.deliver(world.embedded("their impeller", tenant="globex"))
    before, found = await world.points(), await world.search("impeller")
    await world.vectors.drop()
    assert await find_refusal(world) == "VECTORS_REBUILDING"
    await world.rebuild.run()
    assert await world.points() == before
    assert await world.search("impeller") == found
    assert await world.search("impeller", tenant="globex") == ["their impeller"]
    assert world.embedder.embedded == []


async def test_a_search_that_misses_the_store_asks_for_a_check(world):
    await world.deliver(world.embedded("impeller one"))
    assert not any(wake.is_set() for wake in world.indexes.wakes)
    await world.vectors.drop()
    assert await find_refusal(world) == "VECTORS_REBUILDING"
    assert all(wake.is_set() for wake in world.indexes.wakes)


async def test_a_rebuilt_point_has_the_vector_it_had(world):
    await world.deliver(world.embedded("impeller one", "impeller two"))
    before = await find_nearest(world)
    await world.vectors.drop()
    await world.rebuild.run()
    assert await find_nearest(world) == before


async def find_nearest(world):
    hits = (
        await world.find.run(Question(tenant="acme", held=None, text="impeller one", limit=10))
    ).hits
    return [(hit.passage.chunk_id, hit.score) for hit in hits]


async def test_passages_without_a_vector_are_embedded(world):
    await world.deliver(world.embedded("impeller one", "impeller two", "impeller three"))
    before, found = await world.points(), await world.search("impeller")
    world.everything.execute("UPDATE passages SET vector = NULL WHERE ordinal < 2")
    await world.vectors.drop()
    await world.rebuild.run()
    assert await world.points() == before
    assert await world.search("impeller") == found
    assert sorted(world.embedder.embedded) == ["impeller one", "impeller two"]


async def test_vectors_of_another_profile_are_not_used(world):
    await world.deliver(world.embedded("impeller one"))
    world.everything.execute("UPDATE passages SET vector_profile = 'another'")
    await world.vectors.drop()
    await world.rebuild.run()
    assert world.embedder.embedded == ["impeller one"]
    assert await world.search("impeller") == ["impeller one"]


async def test_versions_on_their_way_in_are_rebuilt_too(world):
    await world.deliver(world.embedded("part 0", batch_count=2, chunk_count=2))
    await world.vectors.drop()
    await world.rebuild.run()
    await world.deliver(world.embedded("part 1", batch=1, batch_count=2, chunk_count=2, first=1))
    assert sorted(await world.search("part")) == ["part 0", "part 1"]


async def test_searches_wait_for_the_whole_index(world):
    await world.deliver(world.embedded("impeller one"))
    await world.vectors.drop()
    seen = []

    async def search():
        seen.append(await find_refusal(world))

    world.vectors.before_upsert = search
    await world.rebuild.run()
    world.vectors.before_upsert = None
    assert seen == ["VECTORS_REBUILDING"]
    assert await world.search("impeller") == ["impeller one"]


async def test_a_process_that_has_not_noticed_yet_is_stopped_by_the_database(world):
    """Another process rebuilds: ours still believes in the old store and must not answer."""
    await world.deliver(world.embedded("impeller one"))
    ours = world.serving.store_id
    await world.vectors.drop()
    await world.records.forget(world.profile.name)
    await world.vectors.prepare()
    assert world.serving.store_id == ours
    assert await find_refusal(world) == "VECTORS_REBUILDING"


async def test_an_interrupted_rebuild_goes_on_where_it_ended(world, monkeypatch):
    monkeypatch.setattr("query.usecases.rebuild_vectors.RESTORED_TOGETHER", 32)
    texts = [f"impeller {n}" for n in range(80)]
    for first in range(0, 80, 20):
        name = f"collections/manuals/documents/d{first}"
        await world.deliver(world.embedded(*texts[first : first + 20], document=name))
    world.everything.execute("UPDATE passages SET vector = NULL")
    await world.vectors.drop()
    portions = 0

    async def fail_in_the_third():
        nonlocal portions
        portions += 1
        if portions == 3:
            raise UnavailableError("VECTORS_UNAVAILABLE", "x")

    world.vectors.before_upsert = fail_in_the_third
    with pytest.raises(UnavailableError):
        await world.rebuild.run()
    world.vectors.before_upsert = None
    assert len(await world.points()) == 64
    assert await find_refusal(world) == "VECTORS_REBUILDING"
    world.embedder.embedded.clear()
    await world.rebuild.run()
    # The vectors of the third portion were stored before its points.
    assert len(world.embedder.embedded) == 0
    assert len(await world.points()) == 80


async def test_a_rebuild_killed_behind_its_points_has_stored_their_vectors(world):
    """A later comparison finds these points, and does not embed their passages again."""
    await world.deliver(world.embedded("impeller one", "impeller two"))
    world.everything.execute("UPDATE passages SET vector = NULL")
    await world.vectors.drop()

    async def fail():
        raise UnavailableError("VECTORS_UNAVAILABLE", "x")

    world.vectors.after_upsert = fail
    with pytest.raises(UnavailableError):
        await world.rebuild.run()
    world.vectors.after_upsert = None
    assert len(await world.points()) == 2
    await world.rebuild.run()
    stored = "SELECT point_id FROM passage_vectors ORDER BY 1"
    assert [str(row["point_id"]) for row in world.everything.execute(stored)] == sorted(
        map(str, await world.points())
    )


async def test_a_rebuild_says_how_far_it_is_and_never_goes_back(world, monkeypatch):
    monkeypatch.setattr("query.usecases.rebuild_vectors.RESTORED_TOGETHER", 32)
    for tenant in ("acme", "globex"):
        await world.deliver(world.embedded(*(f"impeller {n}" for n in range(32)), tenant=tenant))
    await world.vectors.drop()
    seen = []

    async def look():
        seen.append((world.serving.problem, world.serving.progress))
        if len(seen) == 2:
            raise UnavailableError("VECTORS_UNAVAILABLE", "x")

    world.vectors.before_upsert = look
    with pytest.raises(UnavailableError):
        await world.rebuild.run()
    await world.rebuild.run()
    rebuilding = "vector store is being rebuilt: {} of 64 passages"
    assert seen == [
        (rebuilding.format(0), 1),
        (rebuilding.format(32), 33),
        (rebuilding.format(32), 33),
    ]
    assert (world.serving.problem, world.serving.progress) == ("", 65)


async def test_only_one_process_rebuilds(world):
    await world.deliver(world.embedded("impeller one"))
    await world.vectors.drop()
    async with world.records.begin_rebuild(world.profile.name):
        await world.rebuild.run()
        assert await find_refusal(world) == "VECTORS_REBUILDING"
    await world.rebuild.run()
    assert await world.search("impeller") == ["impeller one"]


async def test_a_process_that_waited_for_its_turn_finds_the_work_done(world):
    """The right becomes free just as the rebuild is complete: nothing is begun again."""
    await world.deliver(world.embedded("impeller one"))
    world.everything.execute("UPDATE passages SET vector = NULL")
    await world.vectors.drop()
    late = world.rebuilder(records=Overtaken(world.records, world.rebuild.run))
    await late.run()
    assert len(world.embedder.embedded) == 1
    assert await world.search("impeller") == ["impeller one"]


class Overtaken:
    """The real records; someone else rebuilds between the look and the right."""

    def __init__(self, records, rebuild) -> None:
        self.read, self.forget = records.read, records.forget
        self._records, self._rebuild = records, rebuild

    @asynccontextmanager
    async def begin_rebuild(self, profile):
        await self._rebuild()
        async with self._records.begin_rebuild(profile) as right:
            yield right


async def test_a_rebuild_whose_right_is_lost_stops(world):
    """As when the process was frozen for a minute: the server has ended its transaction."""
    await world.deliver(world.embedded("impeller one"))
    await world.vectors.drop()

    async def end_transaction():
        world.everything.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        )

    world.vectors.before_upsert = end_transaction
    with pytest.raises(UnavailableError):
        await world.rebuild.run()
    world.vectors.before_upsert = None
    assert await find_refusal(world) == "VECTORS_REBUILDING"
    await world.rebuild.run()
    assert await world.search("impeller") == ["impeller one"]


async def test_a_document_deleted_during_the_rebuild_stays_gone(world):
    await world.deliver(world.embedded("impeller one"))
    await world.deliver(
        world.embedded("impeller two", document="collections/manuals/documents/other")
    )
    world.everything.execute("UPDATE passages SET vector = NULL")
    await world.vectors.drop()
    embed = world.embedder.embed_passages

    async def embed_and_delete(tenant, texts):
        rows = await embed(tenant, texts)
        await world.purge(1)
        return rows

    world.embedder.embed_passages = embed_and_delete
    await world.rebuild.run()
    assert await world.search("impeller") == ["impeller two"]
    assert len(await world.points()) == 1


async def test_a_delete_waits_for_the_points_being_restored_and_takes_them(world):
    await world.deliver(world.embedded("impeller one"))
    await world.vectors.drop()
    purges = []

    async def delete_meanwhile():
        world.vectors.before_upsert = None
        purges.append(asyncio.create_task(world.purge(1)))
        await asyncio.sleep(0.2)
        assert not purges[0].done()

    world.vectors.before_upsert = delete_meanwhile
    await world.rebuild.run()
    await purges[0]
    assert await world.points() == {}


async def test_points_of_a_delete_that_is_not_finished_are_not_restored(world):
    """A delete that waits for the broker has removed its points, and not yet its passages."""
    await world.deliver(world.embedded("impeller one"))
    await world.deliver(
        world.embedded("impeller two", document="collections/manuals/documents/other")
    )
    discard = world.dead_letters.discard_document

    async def compare_meanwhile(tenant, document):
        await world.rebuild.run()
        return await discard(tenant, document)

    world.dead_letters.discard_document = compare_meanwhile
    await world.purge(1)
    assert await world.search("impeller") == ["impeller two"]
    assert len(await world.points()) == 1


async def test_a_single_missing_point_is_repaired(world):
    await world.deliver(world.embedded("impeller one", "impeller two"))
    before = await world.points()
    await world.vectors.delete_points(ACME, [min(before)])
    await world.rebuild.run()
    assert await world.points() == before


async def test_a_point_without_passage_goes_when_it_was_seen_twice(world):
    await world.deliver(world.embedded("impeller one", "impeller two"))
    world.everything.execute("DELETE FROM passages WHERE ordinal = 1")
    await world.rebuild.run()
    assert len(await world.points()) == 2
    await world.rebuild.run()
    assert len(await world.points()) == 1
    assert await world.search("impeller") == ["impeller one"]


async def test_counts_that_agree_are_left_alone_until_it_is_time(world):
    await world.deliver(world.embedded("impeller one"))
    now = 1_000.0
    rebuild = world.rebuilder(repair_s=300.0, clock=lambda: now)
    await rebuild.run()
    await world.vectors.delete_points(ACME, list(await world.points()))
    await rebuild.run()
    assert await world.points() == {}
    now += 301.0
    await rebuild.run()
    assert len(await world.points()) == 1


async def test_a_tenant_larger_than_a_page_is_compared_whole(world, monkeypatch):
    monkeypatch.setattr("query.usecases.compare_points.PAGE", 7)
    for number in range(4):
        name = f"collections/manuals/documents/d{number}"
        await world.deliver(
            world.embedded(*[f"text {number} {n}" for n in range(10)], document=name)
        )
    before = await world.points()
    lost = sorted(before)[::3]
    await world.vectors.delete_points(ACME, lost)
    await world.rebuild.run()
    assert await world.points() == before


async def test_a_store_that_is_away_is_no_lost_store(world):
    away = world.rebuilder(index=replace(world.live, vectors=Away(world.vectors)))
    with pytest.raises(UnavailableError):
        await away.run()
    assert world.serving.problem == "vector store: VECTORS_UNAVAILABLE"
    assert world.serving.store_id is not None
    await world.rebuild.run()
    assert world.serving.problem == ""


class Away:
    """The real store behind a connection that does not answer."""

    def __init__(self, store) -> None:
        self.store = store

    async def info(self):
        raise UnavailableError("VECTORS_UNAVAILABLE", "x")


async def test_the_backlog_is_the_documents_of_which_batches_are_missing(world):
    await world.deliver(world.embedded("part 0", batch_count=2, chunk_count=2))
    await world.deliver(world.embedded("whole", document="collections/manuals/documents/d"))
    [stage] = await world.ledger.count_backlog()
    assert (stage.name, stage.tenant, stage.documents) == ("INDEXING", "acme", 1)
    assert 0 <= stage.oldest_age_s < 60


def test_a_version_counts_from_one():
    assert Version(document="collections/c/documents/d", number=1).collection == "collections/c"


async def write_points(world, *, analyser: int, words: str, tenant: str = "acme") -> None:
    """Writes all points of a tenant as an analyser of that version would, which makes `words`."""
    rows = await world.ledger.list_passages(tenant, None, 1_000)
    ids = [point_id for point_id, _ in rows]
    dense = await world.ledger.read_vectors(tenant, world.profile.name, ids)
    points = [make_point(point_id, passage, dense[point_id]) for point_id, passage in rows]
    sparse = encode_passage(words)
    await world.vectors.upsert(
        TenantScope(tenant), [replace(one, analyser=analyser, sparse=sparse) for one in points]
    )


async def ask_words(world):
    found = await world.find.run(Question(tenant="acme", held=None, text="impeller", limit=10))
    return found.words_outdated, [hit.bm25 is not None for hit in found.hits]


async def test_points_of_an_earlier_analyser_are_written_again_while_searches_go_on(world):
    await world.deliver(world.embedded("impeller one", "impeller two"))
    before = await world.points()
    await write_points(world, analyser=ANALYSER - 1, words="other terms")
    seen = []

    async def search():
        seen.append(await ask_words(world))

    world.vectors.before_upsert = search
    await world.rebuild.run()
    world.vectors.before_upsert = None
    assert seen == [(True, [False, False])]
    assert await ask_words(world) == (False, [True, True])
    assert await world.points() == before
    assert await world.vectors.count(ACME, CURRENT) == 2
    assert world.embedder.embedded == []


async def test_points_of_a_later_analyser_are_left(world):
    """Processes of two versions run side by side during an update, and must not undo each other."""
    await world.deliver(world.embedded("impeller one"))
    await write_points(world, analyser=ANALYSER + 1, words="later terms")
    await world.rebuild.run()
    assert await ask_words(world) == (False, [False])


async def test_one_process_writes_outdated_points_again_and_others_say_that_it_is_due(world):
    await world.deliver(world.embedded("impeller one"))
    await write_points(world, analyser=ANALYSER - 1, words="other terms")
    async with world.records.begin_rebuild(world.profile.name):
        await world.rebuild.run()
        assert await ask_words(world) == (True, [False])
    await world.rebuilder().run()
    assert await ask_words(world) == (False, [True])


async def test_a_stopped_rewriting_goes_on_where_it_ended(world, monkeypatch):
    monkeypatch.setattr("query.usecases.rebuild_vectors.RESTORED_TOGETHER", 1)
    await world.deliver(world.embedded("impeller one", "impeller two"))
    await write_points(world, analyser=ANALYSER - 1, words="other terms")
    written = 0

    async def fail_at_the_second():
        nonlocal written
        written += 1
        if written == 2:
            raise UnavailableError("VECTORS_UNAVAILABLE", "x")

    world.vectors.before_upsert = fail_at_the_second
    with pytest.raises(UnavailableError):
        await world.rebuild.run()
    world.vectors.before_upsert = None
    assert await world.vectors.count(ACME, CURRENT) == 1
    await world.rebuild.run()
    assert written == 2
    assert await world.vectors.count(ACME, CURRENT) == 2
