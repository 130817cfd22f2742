"""Searches with a filter: what is found, how points follow changes, and what stays hidden."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aquifer.ingest.v1.document_events_pb2 import DescriptionChanged
from aquifer.ingest.v1.document_pb2 import Description
from chassis.base.errors import InvalidInputError
from chassis.base.filters import MetadataCondition, Operator
from chassis.process.reconcile import Scope
from query.filters.facts import NO_FACTS
from query.filters.language import parse_filter
from query.labels import Labels
from query.names import name_collections
from query.retrieval.vector_store import TenantScope
from query.usecases.ports import Wanted
from services.query.tests.filters import (
    DESCRIBED,
    EXPRESSIONS,
    NUMBERS,
    TEXTS,
    TIMES,
    Described,
    matches,
    write,
)

from .conftest import DOCUMENT

SCOPE = TenantScope("acme")


def labels(*names: str, order: int = 1) -> Labels:
    return Labels(names=names, order=order)


async def find(world, text: str, **options) -> list[str]:
    return sorted(await world.search("impeller", where=parse_filter(text), **options))


async def look_up(world, where, collection: str = "") -> list[str]:
    """What the database says of all points, whatever they know."""
    points = list(await world.points())
    wanted = Wanted(
        held=None,
        point_ids=points,
        scores=[1.0] * len(points),
        collections=name_collections(collection, ()),
        limit=1_000,
        one_per_document=False,
        where=where,
    )
    found = await world.ledger.look_up("acme", world.profile.name, wanted)
    return sorted(hit.passage.text for hit in found.hits)


async def upload(world, name: str, **said) -> None:
    document = f"collections/{name[0]}/documents/{name}"
    await world.deliver(world.embedded(f"impeller {name}", document=document, **said))


@pytest.fixture
async def filled(world):
    await upload(world, "a1", title="Pump", metadata={"year": 2020, "tags": ["draft", 7]})
    await upload(
        world, "a2", title="", metadata={"year": "2020", "due": "2024-05-01T02:00:00+02:00"}
    )
    await upload(world, "b1", metadata={"year": 2021, "done": True}, labels=labels("hr"))
    return world


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "a1 a2 b1"),
        ("metadata.year = 2020", "a1"),
        ('metadata.year = "2020"', "a2"),
        ("metadata.year >= 2020", "a1 b1"),
        ("metadata.year != 2020", "a2 b1"),
        ("NOT metadata.year:*", ""),
        ("metadata.tags:draft OR metadata.tags:8", "a1"),
        ("metadata.tags:7", "a1"),
        ("metadata.due <= 2024-05-01T00:00:00Z", "a2"),
        ("metadata.done = true", "b1"),
        ("metadata.done != true", "a1 a2"),
        ("title = Pump OR document = b1", "a1 b1"),
        ("NOT title:*", "a2"),
        ("collection = a AND version = 1", "a1 a2"),
        ("document = collections/b/documents/b1", "b1"),
        ("labels:hr", "b1"),
        ("NOT labels:*", "a1 a2"),
        ("""title = "x' OR '1'='1\"""", ""),
        ('metadata."%(tenant)s" = "{}"', ""),
    ],
)
async def test_a_filter_finds_what_it_says(filled, text, found):
    expected = [f"impeller {name}" for name in found.split()]
    assert await find(filled, text) == expected
    assert await look_up(filled, parse_filter(text)) == expected


@given(st.lists(DESCRIBED, min_size=1, max_size=8), st.lists(EXPRESSIONS, max_size=30))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_the_database_and_the_points_agree(world, described, expressions):
    """Random descriptions and filters; every example has documents of its own."""
    collection = f"c-{next(world.event_ids)}"
    told = {}
    for number, one in enumerate(described):
        document = f"collections/{collection}/documents/{one.document[-1]}-{number}"
        await world.deliver(
            world.embedded(
                f"impeller {document}",
                document=document,
                title=one.title,
                metadata=one.metadata,
                labels=labels(*one.labels),
                created_at=one.created_at,
            )
        )
        told[document] = replace(one, document=document, version=1)
    for expression in expressions:
        expected = sorted(
            f"impeller {name}" for name, one in told.items() if matches(one, expression)
        )
        assert await look_up(world, expression, collection) == expected, expression
        options = {"collection": collection, "where": expression, "limit": 100}
        assert sorted(await world.search("impeller", **options)) == expected, expression


async def test_each_value_is_compared_with_each(world):
    """All values of the random tests with each other, by the database and by the points."""
    values = [*TIMES, *TEXTS, *NUMBERS, True, False]
    told = {}
    for number, value in enumerate(values):
        for kind, given_value in (("one", value), ("list", [value, "z"])):
            name = f"collections/c/documents/{kind}-{number}"
            told[name] = Described(name, metadata={"k": given_value})
    events = [
        world.embedded(f"impeller {name}", document=name, metadata=one.metadata)
        for name, one in told.items()
    ]
    await world.deliver(*events)
    for value in values:
        for operator in Operator:
            try:
                expression = parse_filter(write(MetadataCondition("k", operator, value)))
            except InvalidInputError:
                continue  # texts have no order
            expected = sorted(
                f"impeller {n}" for n, one in told.items() if matches(one, expression)
            )
            assert await look_up(world, expression) == expected, expression
            found = await world.search("impeller", where=expression, limit=100)
            assert sorted(found) == expected, expression


async def test_a_search_is_not_crowded_out(world):
    """More passages that do not match are better than a search takes candidates."""
    for number in range(40):
        document = f"collections/c/documents/d{number}"
        await world.deliver(world.embedded(*["impeller impeller"] * 8, document=document))
    await upload(world, "a1", metadata={"year": 2020})
    assert await find(world, "metadata.year = 2020") == ["impeller a1"]


async def test_an_answer_quotes_only_what_the_filter_finds(filled):
    inquiry = filled.inquiry("impeller", where=parse_filter("metadata.year = 2020"))
    _ = [step async for step in filled.ask.run(inquiry, "trace")]
    [prompt] = filled.generator.prompts
    assert [passage.text for passage in prompt.passages] == ["impeller a1"]


async def test_a_filter_finds_nothing_of_another_tenant(filled):
    theirs = filled.embedded("impeller theirs", tenant="globex", metadata={"year": 2020})
    await filled.deliver(theirs)
    for text in ("metadata.year = 2020", "NOT metadata.year = 1", "document = pump OR version = 1"):
        assert "impeller theirs" not in await find(filled, text)
        assert await find(filled, text, tenant="globex") == ["impeller theirs"]


async def test_a_filter_opens_nothing_that_labels_close(filled):
    held = frozenset({"eng"})
    for text in ("labels:hr", "NOT labels:eng", "metadata.year = 2021 OR version = 1"):
        assert "impeller b1" not in await find(filled, text, held=held)
        assert "impeller b1" in await find(filled, text, held=frozenset({"hr"}))


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


async def test_times_of_versions_are_compared(world):
    await upload(world, "a1", created_at=NOON)
    await upload(world, "a2", created_at=NOON + timedelta(microseconds=1))
    await upload(world, "b1", metadata={"create_time": "2026-01-31T12:00:00Z"})
    for text, found in {
        "create_time = 2026-01-31T12:00:00Z": "a1",
        "create_time = 2026-01-31T13:00:00+01:00": "a1",
        "create_time > 2026-01-31T12:00:00Z": "a2",
        "create_time >= 2026-01-31T12:00:00Z": "a1 a2",
        "create_time < 2026-01-31T12:00:00.000001Z": "a1",
        "create_time <= 2026-01-31T12:00:00Z AND collection = a": "a1",
        # It is missing: every comparison is false, also the equal one in `!=`.
        "create_time != 2026-01-31T12:00:00Z": "a2 b1",
        "NOT create_time > 2026-01-31T12:00:00Z": "a1 b1",
    }.items():
        expected = [f"impeller {name}" for name in found.split()]
        assert await find(world, text) == expected, text
        assert await look_up(world, parse_filter(text)) == expected, text


async def test_a_new_version_has_its_own_time(world):
    await upload(world, "a1", created_at=NOON)
    await upload(world, "a1", version=2, created_at=NOON + timedelta(days=1))
    assert await find(world, "create_time = 2026-01-31T12:00:00Z") == []
    assert await find(world, "create_time = 2026-02-01T12:00:00Z") == ["impeller a1"]


async def test_a_version_without_a_time_gets_it_with_its_next_description(world):
    """As of versions from before times were told; a description without does not take it away."""
    await world.deliver(world.embedded("impeller", revision=1))
    assert await find(world, "create_time = 2026-01-31T12:00:00Z") == []
    for revision, time in ((2, NOON), (3, None)):
        described = Description(title="Pump", revision=revision, create_time=time)
        event = DescriptionChanged(
            tenant="acme", document=DOCUMENT, version=1, description=described
        )
        await world.deliver(event)
        await world.update.run()
        assert await find(world, "create_time = 2026-01-31T12:00:00Z") == ["impeller"]


async def test_repaired_and_rebuilt_points_know_the_time(world):
    await world.deliver(world.embedded("impeller", created_at=NOON))
    entry = (await world.vectors.scroll(SCOPE)).entries[0]
    await world.vectors.describe(SCOPE, DOCUMENT, (), {1: NO_FACTS})
    assert await find(world, "create_time = 2026-01-31T12:00:00Z") == []
    await world.reconciler().run(Scope(tenant="acme", collection="", dry_run=False), "")
    assert (await world.vectors.scroll(SCOPE)).entries == (entry,)
    await world.vectors.drop()
    await world.rebuild.run()
    assert (await world.vectors.scroll(SCOPE)).entries == (entry,)
    assert await find(world, "create_time = 2026-01-31T12:00:00Z") == ["impeller"]


async def change(world, revision: int, **metadata) -> None:
    await world.deliver(
        DescriptionChanged(
            tenant="acme",
            document=DOCUMENT,
            version=1,
            description=Description(title="Pump", metadata=metadata, revision=revision),
        )
    )


async def test_points_follow_a_description(world):
    await world.deliver(world.embedded("impeller", metadata={"year": 2020}, revision=1))
    await change(world, 2, year=2021)
    # The database decides at once; then the points follow.
    assert await find(world, "metadata.year = 2020") == []
    assert await look_up(world, parse_filter("metadata.year = 2021")) == ["impeller"]
    assert await world.update.run() == 1
    assert await find(world, "metadata.year = 2021") == ["impeller"]
    assert await find(world, "NOT metadata.year:*") == []
    assert await world.update.run() == 0


async def test_the_latest_description_stays_in_any_order(world):
    await change(world, 5, year=2025)
    await world.deliver(world.embedded("impeller", metadata={"year": 2020}, revision=1))
    await change(world, 4, year=2024)
    await world.update.run()
    assert await find(world, "metadata.year = 2025") == ["impeller"]


async def test_a_change_while_points_are_written_reaches_them(world):
    async def changed():
        world.vectors.after_upsert = None
        await change(world, 2, year=2021)

    world.vectors.after_upsert = changed
    await world.deliver(world.embedded("impeller", metadata={"year": 2020}, revision=1))
    await world.update.run()
    assert await find(world, "metadata.year = 2021") == ["impeller"]


async def test_a_repeated_batch_does_not_leave_an_old_description(world):
    event = world.embedded("impeller", metadata={"year": 2020}, revision=1)
    await world.deliver(event, ids=["one"])
    await change(world, 2, year=2021)
    await world.update.run()
    await world.deliver(event, ids=["one"])
    await world.update.run()
    assert await find(world, "metadata.year = 2021") == ["impeller"]


async def test_batches_of_a_version_end_with_its_latest_description(world):
    said = {"batch_count": 2, "chunk_count": 2}
    old = world.embedded("impeller one", metadata={"year": 2020}, revision=1, **said)
    new = world.embedded(
        "impeller two", batch=1, first=1, metadata={"year": 2021}, revision=2, **said
    )
    await world.deliver(old, new)
    await world.update.run()
    assert await find(world, "metadata.year = 2021") == ["impeller one", "impeller two"]


async def test_the_reconciler_repairs_what_points_know(world):
    await world.deliver(world.embedded("impeller", metadata={"year": 2020}))
    entry = (await world.vectors.scroll(SCOPE)).entries[0]
    await world.vectors.describe(SCOPE, DOCUMENT, (), {1: NO_FACTS})
    assert await find(world, "metadata.year = 2020") == []
    scope = Scope(tenant="acme", collection="", dry_run=False)
    page = await world.reconciler().run(scope, "")
    assert [(one.count, one.repaired) for one in page.findings] == [(1, 1), (0, 0)]
    assert (await world.vectors.scroll(SCOPE)).entries == (entry,)
    assert await find(world, "metadata.year = 2020") == ["impeller"]


async def test_a_rebuilt_store_knows_the_descriptions(world):
    await world.deliver(world.embedded("impeller", metadata={"year": 2020}, revision=1))
    await change(world, 2, year=2021)
    await world.vectors.drop()
    await world.rebuild.run()
    assert await find(world, "metadata.year = 2021") == ["impeller"]
