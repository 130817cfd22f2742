"""Labels: who finds a document, from the commit of a change on, and in every index."""

import asyncio

import pytest

from chassis.base.errors import InvalidInputError, UnavailableError
from chassis.base.labels import hold
from chassis.process.reconcile import Scope
from query.answer import Started
from query.labels import Labels
from query.retrieval.vector_store import TenantScope

from .conftest import DOCUMENT

HR = frozenset({"hr"})
ENG = frozenset({"eng"})
NONE: frozenset[str] = frozenset()
PLAIN = "collections/manuals/documents/plain"


def labels(*names: str, order: int = 1) -> Labels:
    return Labels(names=names, order=order)


async def entries(world):
    page = await world.vectors.scroll(TenantScope("acme"))
    return {(one.document, one.labels) for one in page.entries}


async def finds(world, held) -> bool:
    """Whether a search with these labels finds the document; asks both layers on their own."""
    found = "the salaries" in await world.search("salaries", held=held)
    hold(held)
    try:  # the policy of the database alone
        by_policy = "the salaries" in await world.search("salaries")
    finally:
        hold(None)
    assert found == by_policy
    return found


async def test_one_label_in_common_is_enough(world):
    await world.deliver(world.embedded("the salaries", labels=labels("hr", "law")))
    await world.deliver(world.embedded("the pump", document=PLAIN))
    assert await finds(world, None)
    assert await finds(world, HR)
    assert await finds(world, frozenset({"eng", "law"}))
    assert not await finds(world, ENG)
    assert not await finds(world, NONE)
    for held in (None, HR, ENG, NONE):
        assert "the pump" in await world.search("pump", held=held)


async def test_a_search_with_few_labels_is_not_crowded_out(world):
    """More labelled points match better than a search takes candidates."""
    await world.deliver(
        *(
            world.embedded(
                *["salaries salaries"] * 8, document=f"{DOCUMENT}{n}", labels=labels("hr")
            )
            for n in range(40)
        )
    )
    await world.deliver(world.embedded("about salaries and a pump", document=PLAIN))
    assert await world.search("salaries", held=ENG) == ["about salaries and a pump"]


async def test_a_change_holds_when_it_is_acknowledged(world):
    await world.deliver(world.embedded("the salaries"))
    assert await finds(world, ENG)
    await world.label.run("acme", [(DOCUMENT, labels("hr"))])
    assert not await finds(world, ENG)
    assert await finds(world, HR)
    await world.label.run("acme", [(DOCUMENT, labels("eng", order=2))])
    assert await finds(world, ENG)
    assert not await finds(world, HR)
    await world.label.run("acme", [(DOCUMENT, labels(order=3))])
    assert await finds(world, NONE)


async def test_the_latest_labels_stay_in_any_order(world):
    await world.label.run("acme", [(DOCUMENT, labels("hr", order=5))])
    await world.label.run("acme", [(DOCUMENT, labels("eng", order=4))])
    await world.deliver(world.embedded("the salaries", labels=labels("law", order=3)))
    assert await entries(world) == {(DOCUMENT, ("law",))}
    assert not await finds(world, frozenset({"eng", "law"}))
    assert await world.update.run() == 1
    assert await entries(world) == {(DOCUMENT, ("hr",))}
    assert await world.update.run() == 0
    assert await finds(world, HR)


async def test_a_change_while_points_are_written_reaches_them(world):
    async def change():
        world.vectors.after_upsert = None
        await world.label.run("acme", [(DOCUMENT, labels("hr", order=9))])

    world.vectors.after_upsert = change
    await world.deliver(world.embedded("the salaries"))
    assert not await finds(world, ENG)
    await world.update.run()
    assert await entries(world) == {(DOCUMENT, ("hr",))}
    assert await finds(world, HR)


async def test_a_repeated_batch_does_not_leave_old_labels(world):
    event = world.embedded("the salaries", labels=labels("hr"))
    await world.deliver(event, ids=["one"])
    await world.label.run("acme", [(DOCUMENT, labels("eng", order=2))])
    await world.deliver(event, ids=["one"])
    await world.update.run()
    assert await entries(world) == {(DOCUMENT, ("eng",))}


async def test_a_new_version_brings_its_labels_to_the_old_one(world):
    await world.deliver(world.embedded("the salaries"))
    batch = world.embedded(
        "the salaries", version=2, batch_count=2, chunk_count=2, labels=labels("hr")
    )
    await world.deliver(batch)
    assert not await finds(world, ENG)
    await world.update.run()
    assert await finds(world, HR)


async def test_points_follow_after_the_vector_store_was_away(world, monkeypatch):
    await world.deliver(world.embedded("the salaries"))

    async def fail(*_):
        raise UnavailableError("VECTORS_UNAVAILABLE", "away")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.vectors), "describe", fail)
        await world.label.run("acme", [(DOCUMENT, labels("hr"))])
    assert not await finds(world, ENG)
    assert await entries(world) == {(DOCUMENT, ())}
    await world.update.run()
    assert await entries(world) == {(DOCUMENT, ("hr",))}


async def test_changes_at_the_same_time_end_with_the_latest(world):
    await world.deliver(world.embedded("the salaries"))
    changes = [labels(f"l{n}", order=n + 1) for n in range(20)]
    await asyncio.gather(*(world.label.run("acme", [(DOCUMENT, one)]) for one in changes))
    await world.update.run()
    assert await entries(world) == {(DOCUMENT, ("l19",))}


async def test_the_reconciler_repairs_labels_of_points(world):
    await world.deliver(world.embedded("the salaries", labels=labels("hr")))
    await world.vectors.describe(TenantScope("acme"), DOCUMENT, ("eng",), {})
    scope = Scope(tenant="acme", collection="", dry_run=False)
    page = await world.reconciler().run(scope, "")
    assert [(one.count, one.repaired) for one in page.findings] == [(1, 1), (0, 0)]
    assert await entries(world) == {(DOCUMENT, ("hr",))}


async def test_a_rebuilt_store_has_the_labels(world):
    await world.deliver(world.embedded("the salaries", labels=labels("hr")))
    await world.vectors.drop()
    await world.rebuild.run()
    assert await finds(world, HR)
    assert not await finds(world, ENG)


async def ask(world, held):
    steps = [step async for step in world.ask.run(world.inquiry("salaries", held=held), "trace")]
    [started] = [step for step in steps if isinstance(step, Started)]
    return started.answer_id


async def test_an_answer_is_unknown_to_who_may_not_see_its_source(world):
    await world.deliver(world.embedded("the salaries", labels=labels("hr")))
    answer_id = await ask(world, HR)
    assert (await world.answers.find("acme", answer_id, HR)).citations
    assert (await world.answers.find("acme", answer_id, None)).citations
    assert await world.answers.find("acme", answer_id, ENG) is None
    hold(ENG)
    try:
        assert await world.answers.find("acme", answer_id, None) is None
    finally:
        hold(None)
    await world.label.run("acme", [(DOCUMENT, labels("eng", order=2))])
    assert await world.answers.find("acme", answer_id, HR) is None
    other = await ask(world, HR)
    assert not (await world.answers.find("acme", other, HR)).citations


@pytest.mark.parametrize("count", [0, 1_001])
async def test_the_number_of_documents_is_limited(world, count):
    many = [(f"collections/c/documents/d{n}", labels("hr")) for n in range(count)]
    with pytest.raises(InvalidInputError, match="1 to 1000"):
        await world.label.run("acme", many)
