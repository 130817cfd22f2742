"""Documents are counted by their values: visible ones, live ones, each once."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.base.errors import InvalidInputError
from chassis.base.labels import hold
from query.domain import Version
from query.filters.facets import Facets, read_fields
from query.filters.language import parse_filter
from query.labels import Labels
from query.store import facets as store
from services.query.tests.filters import METADATA


async def count(world, *fields: str, where: str = "", **changed):
    given = {"tenant": "acme", "held": None, "collection": "", "limit": 10} | changed
    asked = Facets(fields=read_fields(fields), where=parse_filter(where), **given)
    return await world.facets.run(asked)


async def values(world, *fields: str, **changed):
    return [facet.values for facet in (await count(world, *fields, **changed)).facets]


async def upload(world, name: str, *, tenant: str = "acme", **said) -> str:
    document = f"collections/{name[0]}/documents/{name}"
    await world.deliver(
        world.embedded("impeller one", "impeller two", document=document, tenant=tenant, **said)
    )
    return document


@pytest.fixture
async def filled(world):
    hr = Labels(names=("hr", "law"), order=1)
    await upload(world, "a1", metadata={"year": 2020, "tags": ["x", "y", "x"]})
    await upload(world, "a2", metadata={"year": 2020.0, "tags": "x", "a key": True})
    await upload(world, "b1", metadata={"year": "2020", "tags": []}, labels=hr)
    await upload(world, "c1", tenant="globex", metadata={"year": 2020})
    return world


async def test_values_are_counted_by_document(filled):
    counted = await count(filled, "metadata.year", "metadata.tags", 'metadata."a key"', "labels")
    assert [facet.field.name for facet in counted.facets] == [
        "metadata.year",
        "metadata.tags",
        'metadata."a key"',
        "labels",
    ]
    assert [facet.values for facet in counted.facets] == [
        [(2020, 2), ("2020", 1)],
        [("x", 2), ("y", 1)],
        [(True, 1)],
        [("hr", 1), ("law", 1)],
    ]
    assert [facet.distinct for facet in counted.facets] == [2, 2, 1, 2]
    assert (counted.documents, counted.partial) == (3, False)
    assert await values(filled, "collection") == [[("a", 2), ("b", 1)]]
    assert await values(filled, "metadata.none") == [[]]


async def test_a_filter_a_collection_and_a_limit_narrow_the_count(filled):
    assert await values(filled, "metadata.tags", where="metadata.year = 2020") == [
        [("x", 2), ("y", 1)]
    ]
    assert await values(filled, "metadata.year", where="labels:hr") == [[("2020", 1)]]
    assert await values(filled, "metadata.year", collection="b") == [[("2020", 1)]]
    assert await values(filled, "collection", collections=("b", "c")) == [[("b", 1)]]
    assert await values(filled, "collection", collections=("b",), collection="a") == [
        [("a", 2), ("b", 1)]
    ]
    counted = await count(filled, "metadata.tags", limit=1)
    assert [(facet.values, facet.distinct) for facet in counted.facets] == [([("x", 2)], 2)]
    assert (await count(filled, "labels", where="version = 2")).documents == 0


async def test_a_time_narrows_the_count(world):
    for day in (1, 2, 3):
        await upload(world, f"a{day}", created_at=datetime(2026, 1, day, tzinfo=UTC))
    await upload(world, "b1")
    counted = await count(world, "labels", where="create_time >= 2026-01-02T00:00:00Z")
    assert counted.documents == 2


async def test_only_what_the_caller_may_see_is_counted(filled):
    outsider = frozenset({"eng"})
    assert await values(filled, "labels", "metadata.year", held=outsider) == [[], [(2020, 2)]]
    hold(outsider)
    try:  # the policy of the database alone
        assert await values(filled, "metadata.year") == [[(2020, 2)]]
    finally:
        hold(None)
    assert await values(filled, "metadata.year", tenant="globex") == [[(2020, 1)]]


async def test_only_live_documents_are_counted(filled):
    name = await upload(filled, "a1", version=2, metadata={"year": 2021})
    await upload(filled, "d1", batch_count=2, chunk_count=4, metadata={"year": 1999})
    assert await values(filled, "metadata.year") == [[("2020", 1), (2020, 1), (2021, 1)]]
    await filled.hide.run("acme", Version(document=name, number=2))
    assert (await count(filled, "metadata.year")).documents == 2


async def test_a_count_is_bounded(filled, monkeypatch):
    monkeypatch.setattr(store, "DOCUMENTS_MAX", 2)
    counted = await count(filled, "collection")
    assert (counted.documents, counted.partial) == (2, True)


@given(st.lists(METADATA, min_size=1, max_size=8))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_counts_are_those_of_a_simple_count(world, described):
    collection = f"c-{next(world.event_ids)}"
    expected: Counter[tuple[type, object]] = Counter()
    for number, metadata in enumerate(described):
        document = f"collections/{collection}/documents/d{number}"
        await world.deliver(world.embedded("impeller", document=document, metadata=metadata))
        found = metadata.get("tags", [])
        expected.update({_typed(one) for one in (found if isinstance(found, list) else [found])})
    [facet] = (await count(world, "metadata.tags", collection=collection, limit=100)).facets
    assert {_typed(value): number for value, number in facet.values} == expected
    assert facet.distinct == len(expected)
    numbers = [number for _, number in facet.values]
    assert numbers == sorted(numbers, reverse=True)


def _typed(value):
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float, float(value)
    return type(value), value


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["title"],
        ["metadata"],
        ["metadata."],
        ["metadata.a.b"],
        ['metadata."a'],
        ['metadata.""'],
        ["metadata.x" + "y" * 64],
        ["labels", "labels"],
        [f"metadata.k{n}" for n in range(11)],
    ],
)
def test_other_fields_are_refused(fields):
    with pytest.raises(InvalidInputError) as refused:
        read_fields(fields)
    assert refused.value.reason == "FACET_FIELD"
    assert refused.value.fields[0].field == "fields"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"limit": 0}, "LIMIT_RANGE"),
        ({"limit": 101}, "LIMIT_RANGE"),
        ({"collection": "a/b"}, "COLLECTION_NAME"),
        ({"collections": ("a/b",)}, "COLLECTION_NAME"),
        ({"collections": ("a", "a")}, "COLLECTIONS_COUNT"),
    ],
)
async def test_a_count_out_of_range_is_refused(world, changed, reason):
    with pytest.raises(InvalidInputError) as refused:
        await count(world, "labels", **changed)
    assert refused.value.reason == reason
