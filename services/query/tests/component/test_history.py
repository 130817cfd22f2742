"""Searches of the past: the versions that were live at a time, for as long as they are kept."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typing_extensions import override

from chassis.base.errors import FailedPreconditionError, InvalidInputError
from chassis.process.reconcile import Scope
from query.domain import Question, Version
from query.filters.language import parse_filter
from query.labels import Labels
from query.retrieval.vector_store import TenantScope
from query.store.ledger import PostgresLedger
from query.usecases.compare_points import compare_page

DOCUMENT = "collections/manuals/documents/pump"
MOMENT = timedelta(microseconds=1)


@pytest.fixture
async def kept(world):
    """A world that keeps what is superseded."""
    await world.begin_history()
    return world


async def supersede(world, *texts: str, version: int = 2, **more) -> datetime:
    """Another version goes live; returns when the one before it still was."""
    before = world.now()
    await world.deliver(world.embedded(*texts, version=version, **more))
    await world.update.run()
    return before


async def agree(world) -> None:
    """Both stores hold the same."""
    await world.update.run()
    await world.remove_points.run()
    passages = {str(row["point_id"]): row["version"] for row in world.rows("passages")}
    assert await world.points() == passages
    compared = await compare_page(world.ledger, world.live, TenantScope("acme"), None)
    assert not compared.missing
    assert not compared.orphans


async def test_a_search_finds_the_version_of_its_time_alone(kept):
    before_all = kept.now()
    await kept.deliver(kept.embedded("the old impeller"))
    before = await supersede(kept, "the new impeller")
    assert await kept.search("impeller") == ["the new impeller"]
    assert await kept.search("impeller", as_of=before) == ["the old impeller"]
    assert await kept.search("impeller", as_of=kept.now()) == ["the new impeller"]
    assert await kept.search("impeller", as_of=before_all) == []
    await agree(kept)


async def test_one_moment_ends_a_version_and_begins_the_next(kept):
    await kept.deliver(kept.embedded("impeller one"))
    await supersede(kept, "impeller two")
    [old] = kept.rows("superseded_versions")
    [document] = kept.rows("documents")
    assert old["superseded_at"] == document["live_at"]
    assert await kept.search("impeller", as_of=old["superseded_at"]) == ["impeller two"]
    assert await kept.search("impeller", as_of=old["superseded_at"] - MOMENT) == ["impeller one"]
    assert await kept.search("impeller", as_of=old["live_at"]) == ["impeller one"]
    assert await kept.search("impeller", as_of=old["live_at"] - MOMENT) == []


async def test_old_versions_are_found_by_their_own_description_and_todays_labels(kept):
    await kept.deliver(
        kept.embedded("impeller one", title="First", labels=Labels(names=("hr",), order=1))
    )
    before = await supersede(
        kept, "impeller two", title="Second", labels=Labels(names=("hr",), order=2)
    )

    async def find(where: str, held: frozenset[str] | None = None) -> list[str]:
        return await kept.search("impeller", as_of=before, where=parse_filter(where), held=held)

    assert await find("title = First") == ["impeller one"]
    assert await find("title = Second") == []
    assert await find("collection = manuals", frozenset({"hr"})) == ["impeller one"]
    assert await find("version = 1", frozenset({"eng"})) == []
    await kept.label.run("acme", [(DOCUMENT, Labels(names=("eng",), order=3))])
    assert await find("version = 1", frozenset({"hr"})) == []
    assert await find("version = 1", frozenset({"eng"})) == ["impeller one"]
    await agree(kept)


async def test_neighbours_are_of_the_version_that_was_live(kept):
    await kept.deliver(kept.embedded("before it", "the impeller", "after it"))
    before = await supersede(kept, "now before it", "the impeller", "now after it")
    question = Question(
        tenant="acme", held=None, text="impeller", limit=1, neighbours=1, as_of=before
    )
    [hit] = (await kept.find.run(question)).hits
    assert [one.text for one in (*hit.before, *hit.after)] == ["before it", "after it"]


async def test_nothing_of_a_deleted_document_is_found_in_the_past(kept):
    await kept.deliver(kept.embedded("impeller one"))
    before = await supersede(kept, "impeller two")
    [purged] = await kept.purge(2)
    assert (purged.passages, purged.points) == (2, 2)
    assert await kept.search("impeller", as_of=before) == []
    await kept.deliver(kept.embedded("impeller three", version=3))
    assert await kept.search("impeller", as_of=before) == []
    assert await kept.search("impeller", as_of=kept.now()) == ["impeller three"]
    assert not kept.rows("superseded_versions")
    await agree(kept)


async def test_the_version_before_a_tombstone_is_not_kept_by_the_next_upload(kept):
    await kept.deliver(kept.embedded("impeller one"))
    before = kept.now()
    await kept.deliver(kept.embedded("impeller two", version=2))
    await kept.hide.run("acme", Version(document=DOCUMENT, number=2))
    await kept.deliver(kept.embedded("impeller three", version=3))
    assert [row["version"] for row in kept.rows("superseded_versions")] == [1]
    assert await kept.search("impeller", as_of=before) == []
    await kept.purge(2)
    assert not kept.rows("superseded_versions")
    await agree(kept)


async def test_a_batch_that_comes_again_leaves_a_kept_version_as_it_is(kept):
    first = kept.embedded("impeller one")
    await kept.deliver(first, ids=["first"])
    before = await supersede(kept, "impeller two")
    for ids in (["first"], ["again"]):
        await kept.deliver(first, ids=ids)
        await agree(kept)
        assert await kept.search("impeller", as_of=before) == ["impeller one"]
        assert await kept.search("impeller") == ["impeller two"]


async def test_a_batch_that_comes_again_during_a_deletion_brings_no_points_back(kept):
    first = kept.embedded("impeller one")
    await kept.deliver(first, ids=["first"])
    await supersede(kept, "impeller two")
    await kept.hide.run("acme", Version(document=DOCUMENT, number=2))
    for ids in (["first"], ["again"]):
        await kept.deliver(first, ids=ids)
        assert set((await kept.points()).values()) == {2}
    await kept.purge(2)
    await agree(kept)


async def test_points_of_a_kept_version_are_written_once(kept):
    """Otherwise each version of a document would take longer than the one before it."""

    async def list_to_write() -> list[int]:
        async with kept.begin("acme") as work:
            return sorted((await work.rows.share_attributes(DOCUMENT)).descriptions)

    first = kept.embedded("impeller one")
    await kept.deliver(first, ids=["first"])
    await kept.deliver(kept.embedded("impeller two", version=2))
    assert await list_to_write() == [1, 2]
    await kept.update.run()
    assert await list_to_write() == [2]
    for ids in (["first"], ["again"]):
        await kept.deliver(first, ids=ids)
        assert await list_to_write() == [1, 2]
        await agree(kept)
    await kept.label.run("acme", [(DOCUMENT, Labels(names=("hr",), order=1))])
    await agree(kept)


async def test_versions_that_were_accepted_soon_after_crowd_nothing_out(kept):
    other = "collections/manuals/documents/valve"
    worse = "a valve with many other parts besides its impeller, which nobody has ever counted"
    await kept.deliver(kept.embedded(worse, document=other, created_at=kept.now()))
    texts = [f"impeller {n}" for n in range(10)]
    for version in range(1, 41):
        await kept.deliver(kept.embedded(*texts, version=version, created_at=kept.now()))
        if version == 10:
            before = kept.now()
    await kept.update.run()
    question = Question(tenant="acme", held=None, text="impeller", limit=11, as_of=before)
    hits = (await kept.find.run(question)).hits
    found = {(hit.passage.version.number, hit.passage.text) for hit in hits}
    assert found == {(1, worse), *((10, text) for text in texts)}


async def test_lost_points_come_back_as_those_of_a_superseded_version(kept):
    await kept.deliver(kept.embedded("impeller one"))
    before = await supersede(kept, "impeller two")
    await kept.vectors.drop()
    await kept.rebuild.run()
    await agree(kept)
    assert await kept.search("impeller", as_of=before) == ["impeller one"]
    assert await kept.search("impeller") == ["impeller two"]


async def test_points_of_a_version_that_was_stored_and_superseded_meanwhile_stay(kept):
    """A comparison reads passages before points, so it may see only the points of a version."""

    class SlowLedger(PostgresLedger):
        """Two versions become live after a page of passages was read."""

        @override
        async def list_passages(self, tenant, after, limit):
            page = await super().list_passages(tenant, after, limit)
            await kept.deliver(kept.embedded("impeller one"))
            await kept.deliver(kept.embedded("impeller two", version=2))
            return page

    reconciler = replace(kept.reconciler(), ledger=SlowLedger(kept.database))
    await reconciler.run(Scope(tenant="acme", collection="", dry_run=False), "")
    assert sorted((await kept.points()).values()) == [1, 2]
    await agree(kept)


async def test_what_is_too_old_goes_and_can_not_be_searched(kept):
    await kept.deliver(kept.embedded("impeller one"))
    before = await supersede(kept, "impeller two")
    await kept.deliver(kept.embedded("valve one", document="collections/manuals/documents/valve"))
    kept.everything.execute(
        "UPDATE superseded_versions SET superseded_at = superseded_at - interval '2 days'"
    )
    await kept.keep_history(1)
    assert await kept.search("impeller", as_of=before) == []  # it was kept all the time
    assert not kept.rows("superseded_versions")
    assert sorted(row["text"] for row in kept.rows("passages")) == ["impeller two", "valve one"]
    await agree(kept)
    kept.everything.execute("UPDATE history SET since = since - interval '3 days'")
    await kept.keep_history(1)
    [history] = kept.rows("history")
    assert timedelta(0) <= kept.now() - timedelta(days=1) - history["since"] < timedelta(minutes=1)
    with pytest.raises(InvalidInputError) as refused:
        await kept.search("impeller", as_of=history["since"] - MOMENT)
    assert refused.value.reason == "AS_OF_RANGE"
    assert refused.value.facts["earliest"] == history["since"].isoformat()


async def test_a_shorter_window_forgets_and_a_longer_one_brings_nothing_back(kept):
    kept.everything.execute("UPDATE history SET since = since - interval '9 days'")
    await kept.keep_history(5)
    [five] = kept.rows("history")
    await kept.keep_history(30)
    assert kept.rows("history") == [five]


async def test_the_earliest_time_that_a_refusal_tells_can_be_searched(kept):
    since = kept.now().replace(microsecond=1) - timedelta(minutes=1)
    kept.everything.execute("UPDATE history SET since = %s", [since])
    with pytest.raises(InvalidInputError) as refused:
        await kept.search("impeller", as_of=since - MOMENT)
    told = datetime.fromisoformat(refused.value.detail.split()[5].rstrip(","))
    assert told - since == timedelta(seconds=1) - MOMENT
    assert await kept.search("impeller", as_of=told) == []


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
async def test_the_first_and_last_times_that_there_are_are_refused(kept, moment):
    with pytest.raises(InvalidInputError) as refused:
        await kept.search("impeller", as_of=datetime.fromisoformat(moment))
    assert refused.value.reason == "AS_OF_RANGE"


async def test_the_future_is_refused_beyond_what_clocks_differ(kept):
    await kept.deliver(kept.embedded("impeller one"))
    assert await kept.search("impeller", as_of=kept.now() + timedelta(seconds=30))
    with pytest.raises(InvalidInputError) as refused:
        await kept.search("impeller", as_of=kept.now() + timedelta(minutes=2))
    assert refused.value.reason == "AS_OF_RANGE"


async def test_without_a_history_superseded_versions_go_and_the_past_is_refused(world):
    await world.keep_history(0)
    await world.deliver(world.embedded("impeller one"))
    before = await supersede(world, "impeller two")
    with pytest.raises(FailedPreconditionError) as refused:
        await world.search("impeller", as_of=before)
    assert refused.value.reason == "HISTORY_NOT_KEPT"
    assert not world.rows("superseded_versions")
    await agree(world)


async def test_a_history_begins_after_transactions_that_know_of_none(world):
    await world.keep_history(7)
    [history] = world.rows("history")
    assert history["since"] > datetime.now(UTC) + timedelta(seconds=50)
    with pytest.raises(InvalidInputError):
        await world.search("impeller", as_of=world.now())
    # What is superseded before that is kept all the same.
    await world.deliver(world.embedded("impeller one"))
    await supersede(world, "impeller two")
    await world.keep_history(7)
    assert len(world.rows("superseded_versions")) == 1


async def test_an_answer_about_the_past_cites_the_old_version_and_says_so(kept):
    await kept.deliver(kept.embedded("the impeller turns at 2,900 rpm"))
    before = await supersede(kept, "the impeller turns at 1,450 rpm")
    inquiry = kept.inquiry("how fast does the impeller turn?", as_of=before)
    steps = [step async for step in kept.ask.run(inquiry, "0" * 32)]
    answer = await kept.answers.find("acme", steps[0].answer_id, None)
    assert answer.settings.as_of == before
    [citation] = answer.citations
    assert citation.passage.version.number == 1
    assert "2,900" in citation.passage.text
