"""What every vector store must do, run over the embedded engine's process and the Qdrant client.

The latter runs in its in-memory mode: the same client code and queries as against a server, which
was not available.
"""

import asyncio
import math
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import mmh3
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import AsyncQdrantClient

from chassis.base.errors import FailedPreconditionError, InvalidInputError, UnavailableError
from query.filters.facts import list_facts
from query.filters.language import parse_filter
from query.filters.points import ask_history, ask_points
from query.retrieval.fusion import Candidates, Ranked, fuse
from query.retrieval.lexical import (
    ANALYSER,
    SparseVector,
    encode_passage,
    encode_question,
    read_words,
)
from query.retrieval.vector_store import CURRENT, Filter, Point, Probe, TenantScope, VectorStore
from query.vectors import engine_client
from query.vectors.qdrant import QdrantVectors
from query.words.terms import FORM_WEIGHT
from services.query.tests.filters import DESCRIBED, EXPRESSIONS, Described, matches

WIDTH = 4
ACME, EVIL = TenantScope("acme"), TenantScope("evil")
NOTHING = SparseVector((), ())

pytestmark = [
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """The socket of a running vector process."""
    folder = tmp_path_factory.mktemp("vectors")
    socket = folder / "socket"
    command = [sys.executable, "-m", "query.vectors", "--socket", socket, "--data", folder / "data"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield socket
    process.terminate()
    assert process.wait(60) == 0


@asynccontextmanager
async def engine_store(socket, profile, width):
    async with engine_client.open_channel(f"unix:{socket}") as channel:
        async with asyncio.timeout(60):
            await channel.channel_ready()
        yield engine_client.EngineVectors(channel, profile=profile, dimensions=width)


@pytest.fixture(params=["engine", "qdrant"])
async def opened(request):
    """Opens stores of one place by profile and width."""
    if request.param == "engine":
        socket = request.getfixturevalue("engine")
        yield lambda profile, width: engine_store(socket, profile, width)
        return
    client = AsyncQdrantClient(":memory:")

    @asynccontextmanager
    async def qdrant_store(profile, width):
        yield QdrantVectors(client, profile=profile, dimensions=width, new_id=uuid.uuid4)

    yield qdrant_store
    await client.close()


@pytest.fixture
async def store(opened):
    async with opened(f"p{uuid.uuid4().hex}", WIDTH) as one:
        await one.prepare()
        yield one
        await one.drop()


def unit(*numbers: float) -> np.ndarray:
    vector = np.array(numbers, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def point(number: int, text: str = "", dense=(1, 0, 0, 0), **changed) -> Point:
    given = {
        "point_id": str(uuid.UUID(int=number)),
        "document": f"collections/c/documents/d{number}",
        "version": 1,
        "ordinal": 0,
        "dense": unit(*dense),
        "sparse": encode_passage(text),
    }
    return Point(**{**given, **changed})


def meaning(*numbers: float, **kwargs) -> Probe:
    return Probe(dense=unit(*numbers), sparse=NOTHING, **kwargs)


def words(text: str, **kwargs) -> Probe:
    return Probe(dense=None, sparse=encode_question(text), **kwargs)


def numbers(entries) -> list[int]:
    return [uuid.UUID(one.point_id).int for one in entries]


def listed(found: Ranked, column: str) -> dict[int, float]:
    """What one of the two lists holds: scores by number, best first."""
    rows = zip(found.point_ids, getattr(found, column), strict=True)
    scores = {uuid.UUID(point_id).int: score for point_id, score in rows if not math.isnan(score)}
    return dict(sorted(scores.items(), key=lambda row: (-row[1], row[0])))


def by_meaning(found: Ranked) -> list[int]:
    return list(listed(found, "cosines"))


def by_words(found: Ranked) -> list[int]:
    return list(listed(found, "bm25s"))


def order(found: Ranked) -> list[int]:
    return [uuid.UUID(point_id).int for point_id in found.point_ids]


async def test_preparing_again_changes_nothing(store: VectorStore):
    first = await store.prepare()
    await store.upsert(ACME, [point(1)])
    second = await store.prepare()
    assert (first.points, second.points) == (0, 1)
    assert (first.store_id, first.dimensions) == (second.store_id, WIDTH)
    assert await store.info() == second


async def test_a_store_of_another_width_is_refused(opened):
    async with opened("narrow", 4) as narrow, opened("narrow", 5) as wide:
        await narrow.prepare()
        with pytest.raises(FailedPreconditionError) as refused:
            await wide.prepare()
        assert refused.value.reason == "DIMENSIONS_DIFFER"
        await narrow.drop()


async def test_without_its_store_every_call_fails_rather_than_find_nothing(opened):
    async with opened("absent", WIDTH) as absent:
        await absent.drop()
        for call in (
            absent.info(),
            absent.count(ACME),
            absent.search(ACME, meaning(1, 0, 0, 0)),
            absent.upsert(ACME, [point(1)]),
            absent.delete_points(ACME, [point(1).point_id]),
            absent.delete_document(ACME, point(1).document),
            absent.scroll(ACME),
        ):
            with pytest.raises(UnavailableError) as refused:
                await call
            assert refused.value.reason == "VECTORS_STORE_MISSING"


async def test_a_store_that_comes_back_has_another_id(store: VectorStore):
    first = await store.prepare()
    await store.upsert(ACME, [point(1)])
    await store.drop()
    second = await store.prepare()
    assert second.store_id != first.store_id
    assert await store.count(ACME) == 0


async def test_profiles_do_not_share_points(store: VectorStore, opened):
    await store.upsert(ACME, [point(1)])
    async with opened("other", WIDTH) as other:
        await other.prepare()
        assert await other.count(ACME) == 0
        await other.drop()


async def test_points_are_found_by_meaning(store: VectorStore):
    rows = {1: (1, 0, 0, 0), 2: (1, 1, 0, 0), 3: (0, 1, 0, 0)}
    await store.upsert(ACME, [point(number, dense=row) for number, row in rows.items()])
    found = await store.search(ACME, meaning(1, 0, 0, 0))
    cosines = {1: 1, 2: math.sqrt(0.5), 3: 0}
    assert order(found) == [1, 2, 3]
    assert listed(found, "cosines") == pytest.approx(cosines, abs=1e-5)
    assert by_words(found) == []


async def test_points_are_found_by_words_with_their_bm25(store: VectorStore):
    await store.upsert(ACME, [point(1, "pump valve"), point(2, "pump"), point(3, "seal")])
    found = await store.search(ACME, words("Which of the valve?"))
    assert order(found) == by_words(found) == [1]
    assert by_meaning(found) == []
    sparse = encode_passage("pump valve")
    weight = dict(zip(sparse.indices, sparse.values, strict=True))[mmh3.hash("valv", signed=False)]
    rarity = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    # Its stem and the word itself, which both are as rare.
    assert listed(found, "bm25s")[1] == pytest.approx((1 + FORM_WEIGHT) * weight * rarity, rel=1e-4)


async def test_nothing_stored_is_nothing_found(store: VectorStore):
    probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump"))
    assert order(await store.search(ACME, probe)) == []


async def test_both_lists_are_bounded(store: VectorStore):
    await store.upsert(ACME, [point(n, "pump", dense=(n, 1, 0, 0)) for n in range(1, 31)])
    probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump"), depth=7)
    found = await store.search(ACME, probe)
    assert by_meaning(found) == [30, 29, 28, 27, 26, 25, 24]
    assert len(by_words(found)) == 7
    assert sorted(order(found)) == sorted({*by_meaning(found), *by_words(found)})


async def test_equal_scores_come_in_the_order_of_ids(store: VectorStore):
    await store.upsert(ACME, [point(n, "pump") for n in (5, 2, 9, 1)])
    probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump"))
    found = await store.search(ACME, probe)
    assert order(found) == by_meaning(found) == by_words(found) == [1, 2, 5, 9]


async def test_the_order_is_the_fusion_of_both_lists_with_the_points_vectors(store: VectorStore):
    """Also where vectors were just written, and where they were replaced by others."""
    rng = np.random.default_rng(5)
    texts = ["pump seal", "valve", "pump", "seal valve pump", "bearing"]
    points = [
        point(n, texts[n % 5], dense=rng.standard_normal(WIDTH).tolist()) for n in range(1, 41)
    ]
    probe = Probe(dense=unit(1, 2, 3, 4), sparse=encode_question("pump seal"), limit=10)
    moved = [replace(one, dense=-one.dense) for one in points[:20]]
    for written in (points, moved):
        await store.upsert(ACME, written)
        points = [*written, *points[len(written) :]]
        vectors = {one.point_id: one.dense for one in points}
        for _ in range(2):
            found = await store.search(ACME, probe)
            table = Candidates.merge(
                *(
                    {str(uuid.UUID(int=n)): score for n, score in listed(found, column).items()}
                    for column in ("cosines", "bm25s")
                )
            )
            rows = np.stack([vectors[point_id] for point_id in table.point_ids])
            expected = fuse(table, rows, depth=probe.depth, limit=probe.limit)
            assert found.point_ids == expected.point_ids
            assert found.scores == pytest.approx(expected.scores, abs=1e-5)


async def test_a_repeated_upsert_changes_nothing(store: VectorStore):
    points = [point(n, "pump") for n in range(1, 4)]
    await store.upsert(ACME, points)
    before = await store.search(ACME, words("pump"))
    await store.upsert(ACME, points)
    after = await store.search(ACME, words("pump"))
    assert (after.point_ids, after.scores) == (before.point_ids, before.scores)
    assert after.bm25s == before.bm25s
    assert await store.count(ACME) == 3


async def test_an_upsert_may_be_longer_than_one_batch(store: VectorStore):
    await store.upsert(ACME, [point(n) for n in range(1, 601)])
    assert await store.count(ACME) == 600


async def test_tenants_never_meet(store: VectorStore):
    await store.upsert(ACME, [point(1, "pump")])
    await store.upsert(EVIL, [point(2, "pump")])
    probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump"))
    found = await store.search(ACME, probe)
    assert order(found) == by_meaning(found) == by_words(found) == [1]
    named = Filter(documents=frozenset({point(2).document}))
    assert await store.count(ACME, named) == 0
    assert (await store.scroll(ACME, named)).entries == ()
    assert await store.delete_points(ACME, [point(2).point_id]) == 0
    assert await store.delete_document(ACME, point(2).document) == 0
    assert await store.count(EVIL) == 1


async def test_a_tenant_cannot_replace_anothers_point(store: VectorStore):
    await store.upsert(ACME, [point(1, "pump")])
    theirs = point(1, "seal", dense=(0, 1, 0, 0), version=9)
    await store.upsert(EVIL, [theirs, point(2, "seal")])
    assert (await store.scroll(ACME)).entries[0].version == 1
    assert await store.count(ACME) == 1
    assert await store.count(EVIL) == 1
    found = await store.search(ACME, meaning(1, 0, 0, 0))
    assert listed(found, "cosines") == pytest.approx({1: 1.0})


async def test_what_others_write_does_not_move_a_tenants_scores(store: VectorStore):
    await store.upsert(ACME, [point(1, "pump seal"), point(2, "seal")])
    before = await store.search(ACME, words("pump seal"))
    await store.upsert(EVIL, [point(n, "pump") for n in range(100, 200)])
    after = await store.search(ACME, words("pump seal"))
    assert (after.point_ids, after.bm25s) == (before.point_ids, before.bm25s)


async def test_filters_narrow_every_way_to_look(store: VectorStore):
    await store.upsert(
        ACME,
        [
            point(1, "pump", document="collections/a/documents/x"),
            point(2, "pump", document="collections/a/documents/y", version=2),
            point(3, "pump", document="collections/b/documents/x", version=2),
        ],
    )
    cases = {
        Filter(): [1, 2, 3],
        Filter(collections=frozenset({"collections/a"})): [1, 2],
        Filter(collections=frozenset({"collections/a", "collections/b"})): [1, 2, 3],
        Filter(documents=frozenset({"collections/b/documents/x"})): [3],
        Filter(version=2): [2, 3],
        Filter(collections=frozenset({"collections/a"}), version=2): [2],
        Filter(collections=frozenset({"collections/z"})): [],
    }
    for within, expected in cases.items():
        probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump"), within=within)
        found = await store.search(ACME, probe)
        assert order(found) == by_meaning(found) == by_words(found) == expected
        assert await store.count(ACME, within) == len(expected)
        assert numbers((await store.scroll(ACME, within)).entries) == expected


async def test_a_narrowed_search_keeps_the_tenants_word_rarity(store: VectorStore):
    await store.upsert(ACME, [point(n, "pump") for n in range(1, 5)])
    everywhere = await store.search(ACME, words("pump"))
    within = Filter(documents=frozenset({point(1).document}))
    narrowed = await store.search(ACME, words("pump", within=within))
    assert listed(narrowed, "bm25s")[1] == pytest.approx(listed(everywhere, "bm25s")[1])


def spelled(word: str, **kwargs) -> Probe:
    read = read_words(f"where is the {word}")
    return Probe(dense=None, sparse=read.vector, spellings=read.spellings, **kwargs)


async def test_a_word_that_no_point_has_finds_words_that_look_alike(store: VectorStore):
    await store.upsert(ACME, [point(1, "the receipt of a pump"), point(2, "a boring lecture")])
    for text in ("reciept", "recceipt", "raceipt"):
        assert by_words(await store.search(ACME, spelled(text)))[0] == 1
    assert by_words(await store.search(ACME, words("where is the reciept"))) == []


async def test_a_word_that_a_point_has_finds_no_other(store: VectorStore):
    await store.upsert(ACME, [point(1, "the receipt of a pump"), point(2, "the reciept")])
    assert by_words(await store.search(ACME, spelled("reciept"))) == [2]


async def test_a_word_is_unknown_if_only_other_tenants_or_collections_have_it(store: VectorStore):
    await store.upsert(ACME, [point(1, "the receipt of a pump")])
    await store.upsert(ACME, [point(2, "the reciept", document="collections/x/documents/d")])
    await store.upsert(EVIL, [point(3, "the reciept")])
    within = Filter(collections=frozenset({"collections/c"}))
    assert by_words(await store.search(ACME, spelled("reciept", within=within))) == [1]
    await store.delete_points(ACME, [str(uuid.UUID(int=2))])
    assert by_words(await store.search(ACME, spelled("reciept"))) == [1]


async def test_a_word_is_known_if_only_a_point_beside_the_filter_has_it(store: VectorStore):
    await store.upsert(ACME, [point(1, "the receipt of a pump"), point(2, "the reciept")])
    within = Filter(documents=frozenset({point(1).document}))
    assert by_words(await store.search(ACME, spelled("reciept", within=within))) == []
    assert by_words(await store.search(ACME, spelled("raceipt", within=within))) == [1]


async def test_a_word_is_unknown_to_whom_may_not_see_the_points_that_have_it(store: VectorStore):
    """Otherwise a search would tell which words hidden points have."""
    hidden = point(2, "the reciept", labels=("hr",))
    await store.upsert(ACME, [point(1, "the receipt of a pump"), hidden])
    within = Filter(documents=frozenset({point(1).document, hidden.document}))
    for probe in (spelled("reciept"), spelled("reciept", within=within)):
        assert by_words(await store.search(HR, probe)) == [2]
        assert by_words(await store.search(BARE, probe)) == [1]
        assert by_words(await store.search(ENG, probe)) == [1]


async def test_a_hidden_word_corrects_no_typing_error(store: VectorStore):
    await store.upsert(ACME, [point(1, "the receipt of a pump", labels=("hr",)), point(2, "pump")])
    assert by_words(await store.search(HR, spelled("reciept"))) == [1]
    assert by_words(await store.search(BARE, spelled("reciept"))) == []


async def test_several_collections_are_searched_as_if_there_were_no_other(store: VectorStore):
    """The same points in the same order with the same scores; rarity counts these alone."""
    a, b, c = (f"collections/{name}/documents/d" for name in "abc")
    await store.upsert(
        ACME, [point(1, "pump", document=a), point(2, "pump valve", document=b), point(3, "valve")]
    )
    await store.delete_points(ACME, [point(3).point_id])
    within = Filter(collections=frozenset({"collections/a", "collections/b"}))
    probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump valve"), within=within)
    alone = await store.search(ACME, probe)
    assert sorted(by_words(alone)) == [1, 2]
    await store.upsert(ACME, [point(n, "valve", document=c) for n in range(10, 60)])
    await store.upsert(EVIL, [point(n, "valve", document=a) for n in range(60, 90)])
    crowded = await store.search(ACME, probe)
    assert crowded.point_ids == alone.point_ids
    assert listed(crowded, "bm25s") == listed(alone, "bm25s")
    assert crowded.scores == alone.scores
    assert await store.count(ACME, within) == 2


async def test_spellings_are_bounded(store: VectorStore):
    (one,) = read_words("reciept").spellings
    with pytest.raises(InvalidInputError) as refusal:
        Probe(dense=None, sparse=NOTHING, spellings=[one] * 65)
    assert refusal.value.reason == "SPELLINGS_COUNT"


async def test_points_are_removed_by_id(store: VectorStore):
    await store.upsert(ACME, [point(n) for n in range(1, 301)])
    ids = [point(n).point_id for n in range(1, 290)]
    assert await store.delete_points(ACME, [*ids, str(uuid.uuid4())]) == 289
    assert await store.delete_points(ACME, ids) == 0
    assert await store.delete_points(ACME, []) == 0
    assert numbers((await store.scroll(ACME)).entries) == list(range(290, 301))


async def test_a_version_is_removed_and_the_others_stay(store: VectorStore):
    name = "collections/c/documents/long"
    old = [point(n, "pump", document=name, ordinal=n) for n in range(1, 301)]
    new = [point(1000 + n, "pump", document=name, version=2, ordinal=n) for n in range(1, 11)]
    await store.upsert(ACME, [*old, *new, point(5000, "pump")])
    assert await store.delete_document(ACME, name, 1) == 300
    assert await store.delete_document(ACME, name, 1) == 0
    assert await store.count(ACME, Filter(documents=frozenset({name}))) == 10
    assert await store.delete_document(ACME, name) == 10
    found = await store.search(ACME, words("pump"))
    assert by_words(found) == [5000]


async def test_pages_show_every_point_once_in_the_order_of_ids(store: VectorStore):
    await store.upsert(ACME, [point(n) for n in (7, 3, 5, 1, 6, 2, 4)])
    await store.upsert(EVIL, [point(n) for n in range(20, 25)])
    seen, start = [], None
    while True:
        page = await store.scroll(ACME, start=start, limit=3)
        seen.append(numbers(page.entries))
        if (start := page.next_id) is None:
            break
    assert seen == [[1, 2, 3], [4, 5, 6], [7]]


async def test_vectors_of_another_width_are_refused(store: VectorStore):
    for call in (
        store.upsert(ACME, [point(1, dense=(1, 0))]),
        store.search(ACME, meaning(1, 0)),
    ):
        with pytest.raises(InvalidInputError) as refused:
            await call
        assert refused.value.reason == "VECTOR_WIDTH"
    assert await store.count(ACME) == 0


async def test_a_page_is_bounded(store: VectorStore):
    for limit in (0, 1001):
        with pytest.raises(InvalidInputError):
            await store.scroll(ACME, limit=limit)


HR, ENG = TenantScope("acme", frozenset({"hr"})), TenantScope("acme", frozenset({"eng"}))
BARE = TenantScope("acme", frozenset())


async def found_by(store, scope, probe) -> set[int]:
    return {uuid.UUID(one).int for one in (await store.search(scope, probe)).point_ids}


async def test_a_search_with_labels_finds_what_it_may_see(store):
    await store.upsert(
        ACME,
        [
            point(1, "pump"),
            point(2, "pump", labels=("hr",)),
            point(3, "pump", labels=("eng", "hr")),
            point(4, "pump", labels=("law",)),
        ],
    )
    await store.upsert(EVIL, [point(9, "pump", labels=("hr",))])
    for probe in (meaning(1, 0, 0, 0), words("pump")):
        assert await found_by(store, ACME, probe) == {1, 2, 3, 4}
        assert await found_by(store, HR, probe) == {1, 2, 3}
        assert await found_by(store, ENG, probe) == {1, 3}
        assert await found_by(store, BARE, probe) == {1}
    everything = frozenset({"eng", "hr", "law"})
    assert await found_by(store, TenantScope("acme", everything), words("pump")) == {1, 2, 3, 4}


async def test_labels_narrow_within_a_collection_and_the_depth(store):
    crowd = [point(n, "pump", labels=("hr",)) for n in range(1, 60)]
    other = point(99, "pump", document="collections/other/documents/d")
    await store.upsert(ACME, [*crowd, point(90, "pump", dense=(1, 1, 0, 0)), other])
    probe = meaning(1, 0, 0, 0, depth=5, within=Filter(collections=frozenset({"collections/c"})))
    assert await found_by(store, ENG, probe) == {90}


async def test_the_rarity_of_a_word_says_nothing_of_invisible_points(store):
    await store.upsert(ACME, [point(1, "pump"), point(2, "valve")])
    before = await store.search(BARE, words("pump"))
    await store.upsert(ACME, [point(n, "pump", labels=("hr",)) for n in range(3, 40)])
    after = await store.search(BARE, words("pump"))
    assert after.bm25s == before.bm25s


async def test_labels_of_a_document_are_replaced_in_all_its_points(store):
    document = "collections/c/documents/d"
    await store.upsert(
        ACME, [point(n, "pump", document=document, version=n, labels=("hr",)) for n in (1, 2)]
    )
    await store.upsert(ACME, [point(3, "pump")])
    await store.upsert(EVIL, [point(4, "pump", document=document, labels=("hr",))])
    before = await store.search(ACME, meaning(1, 0, 0, 0))
    await store.describe(ACME, document, ("eng", "law"), {})
    assert await found_by(store, ENG, words("pump")) == {1, 2, 3}
    assert await found_by(store, HR, words("pump")) == {3}
    assert [one.labels for one in (await store.scroll(ACME)).entries] == [
        ("eng", "law"),
        ("eng", "law"),
        (),
    ]
    assert [one.labels for one in (await store.scroll(EVIL)).entries] == [("hr",)]
    assert (await store.search(ACME, meaning(1, 0, 0, 0))).scores == before.scores
    await store.describe(ACME, document, (), {})
    assert await found_by(store, BARE, words("pump")) == {1, 2, 3}


async def test_labels_of_an_unknown_document_change_nothing(store):
    await store.upsert(ACME, [point(1, "pump", labels=("hr",))])
    await store.describe(ACME, "collections/c/documents/unknown", ("eng",), {})
    assert await found_by(store, HR, words("pump")) == {1}


def described_point(number: int, one: Described, **changed) -> Point:
    return point(
        number,
        "pump",
        document=one.document,
        version=one.version,
        labels=one.labels,
        facts=list_facts(one.document, one.title, one.metadata, one.created_at),
        **changed,
    )


def where(text: str) -> Filter:
    expression = parse_filter(text)
    assert expression is not None
    return Filter(where=ask_points(expression))


X, Y = "collections/a/documents/x", "collections/b/documents/y"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metadata.year = 2020", [1]),
        ('metadata.year = "2020"', [2]),
        ("metadata.year != 2020", [2, 3, 4]),
        ("metadata.year >= 2020", [1, 4]),
        ("metadata.year > 2020 AND metadata.year < 2022", [4]),
        ("NOT metadata.year >= 2020", [2, 3]),
        ("metadata.year:*", [1, 2, 4]),
        ("metadata.tags:draft", [1, 3]),
        ("metadata.tags:draft OR metadata.tags:final", [1, 2, 3]),
        ("metadata.tags = draft", [3]),
        ("metadata.due < 2024-05-01T00:00:00Z", [2]),
        ("metadata.due = 2024-05-01T00:00:00Z", [1]),
        ("metadata.done = true", [3]),
        ('metadata."a key" = "x"', [4]),
        ("title = Pump", [1]),
        ("title:*", [1, 2]),
        ('title = ""', [3, 4]),
        ("document = x", [1, 3]),
        (f"document = {Y}", [2]),
        ("collection = a", [1, 3]),
        ("collection != a AND version = 2", [4]),
        ("version >= 2", [3, 4]),
        ("labels:hr", [2, 3]),
        ("NOT labels:*", [1, 4]),
        ("(metadata.year = 2020 OR labels:hr) AND NOT document = y", [1, 3]),
        ("collection = z", []),
        ("create_time >= 2026-01-31T12:00:00Z", [1]),
        ("create_time = 2026-01-31T13:00:00+01:00", [1]),
        ("create_time != 2026-01-31T12:00:00Z", [2, 3, 4]),
        ("create_time > 2026-01-31T11:00:00Z AND create_time < 2026-01-31T12:00:00Z", [2]),
        ("NOT create_time < 2026-01-31T12:00:00Z", [1, 3, 4]),
        ("metadata.create_time < 2026-02-01T00:00:00Z", []),
    ],
)
async def test_a_filter_finds_what_it_says(store: VectorStore, text, expected):
    described = [
        Described(
            X,
            title="Pump",
            metadata={"year": 2020, "tags": ["draft", 1], "due": "2024-05-01T02:00:00+02:00"},
            created_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        ),
        Described(
            Y,
            title="Valve",
            metadata={"year": "2020", "tags": "final", "due": "2024-04-30T23:59:59.999999Z"},
            labels=("hr",),
            created_at=datetime(2026, 1, 31, 11, 59, 59, 999_999, tzinfo=UTC),
        ),
        Described(X, version=2, metadata={"tags": "draft", "done": True}, labels=("eng", "hr")),
        Described("collections/c/documents/z", version=2, metadata={"year": 2021, "a key": "x"}),
    ]
    await store.upsert(ACME, [described_point(n, one) for n, one in enumerate(described, 1)])
    await store.upsert(EVIL, [described_point(9, described[0])])
    within = where(text)
    probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump"), within=within)
    found = await store.search(ACME, probe)
    assert order(found) == by_meaning(found) == by_words(found) == expected
    assert await store.count(ACME, within) == len(expected)
    assert numbers((await store.scroll(ACME, within)).entries) == expected


@given(st.lists(DESCRIBED, min_size=1, max_size=30), st.lists(EXPRESSIONS, max_size=20))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_every_filter_finds_what_it_says(store: VectorStore, described, expressions):
    await store.delete_points(ACME, [point(n).point_id for n in range(1, 31)])
    await store.upsert(ACME, [described_point(n, one) for n, one in enumerate(described, 1)])
    for expression in expressions:
        expected = [n for n, one in enumerate(described, 1) if matches(one, expression)]
        within = Filter(where=ask_points(expression))
        assert numbers((await store.scroll(ACME, within)).entries) == expected, expression


async def test_a_filter_narrows_within_the_depth(store: VectorStore):
    one, other = Described(X, metadata={"year": 2020}), Described(Y, metadata={"year": 2021})
    crowd = [described_point(n, one) for n in range(1, 60)]
    await store.upsert(ACME, [*crowd, described_point(90, other, dense=(1, 1, 0, 0))])
    within = where("metadata.year > 2020")
    probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump"), depth=5, within=within)
    assert order(await store.search(ACME, probe)) == [90]


async def test_descriptions_are_replaced_in_the_points_of_their_version(store: VectorStore):
    old = Described(X, title="Pump", metadata={"year": 2020, "tags": ["a"]}, labels=("hr",))
    await store.upsert(ACME, [described_point(n, replace(old, version=n)) for n in (1, 2)])
    await store.upsert(EVIL, [described_point(9, old)])
    new = list_facts(X, "", {"year": 2021})
    await store.describe(ACME, X, ("hr",), {2: new})
    assert numbers((await store.scroll(ACME, where("metadata.year = 2020"))).entries) == [1]
    assert numbers((await store.scroll(ACME, where("metadata.year > 2020"))).entries) == [2]
    assert numbers((await store.scroll(ACME, where("title:* OR metadata.tags:a"))).entries) == [1]
    before = list_facts(X, "Pump", old.metadata).digest
    assert [one.described for one in (await store.scroll(ACME)).entries] == [before, new.digest]
    assert [one.described for one in (await store.scroll(EVIL)).entries] == [before]


SUPERSEDED = datetime(2026, 2, 1, tzinfo=UTC)
ACCEPTED = datetime(2026, 1, 1, tzinfo=UTC)
LIVE = Filter(live_only=True)


def past(as_of: datetime, **more) -> Filter:
    return Filter(where=ask_history(as_of), **more)


async def test_superseded_versions_are_left_out_of_searches_of_live_points(store: VectorStore):
    old = Described(X, metadata={"year": 2020}, labels=("hr",), created_at=ACCEPTED)
    await store.upsert(ACME, [described_point(n, replace(old, version=n)) for n in (1, 2)])
    await store.upsert(EVIL, [described_point(9, old)])
    facts = list_facts(X, "", old.metadata, ACCEPTED, superseded_at=SUPERSEDED)
    await store.describe(ACME, X, ("hr",), {1: facts})
    for scope in (ACME, HR):
        for within in (LIVE, replace(LIVE, collections=frozenset({"collections/a"}))):
            probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump"), within=within)
            assert order(await store.search(scope, probe)) == [2]
    in_collection = where("collection = a AND metadata.year = 2020")
    assert await store.count(ACME, replace(in_collection, live_only=True)) == 1
    assert await store.count(ACME, in_collection) == await store.count(ACME) == 2
    assert await found_by(store, ENG, words("pump")) == set()
    assert await found_by(store, HR, words("pump")) == {1, 2}
    old_entry, new_entry = (await store.scroll(ACME)).entries
    assert (old_entry.version, old_entry.described, new_entry.version) == (1, facts.digest, 2)
    # It is written and removed like others, and no other tenant sees it.
    await store.upsert(ACME, [replace(described_point(1, old), facts=facts, labels=())])
    await store.upsert(EVIL, [described_point(1, old)])
    assert await store.count(ACME, LIVE) == await store.count(EVIL) == 1
    assert await found_by(store, BARE, words("pump")) == {1}
    assert await store.delete_document(ACME, X, 1) == 1
    assert numbers((await store.scroll(ACME)).entries) == [2]


async def test_the_past_is_what_was_live_or_accepted_and_not_superseded(store: VectorStore):
    day, moment = timedelta(days=1), timedelta(microseconds=1)
    live_at = ACCEPTED + timedelta(hours=1)
    old = Described(X, created_at=ACCEPTED)
    new = Described(X, version=2, created_at=SUPERSEDED - timedelta(seconds=5))
    await store.upsert(ACME, [described_point(1, old), described_point(2, new)])
    await store.upsert(ACME, [described_point(3, Described(Y))])  # accepted at an unknown time
    facts = list_facts(X, "", {}, ACCEPTED, live_at=live_at, superseded_at=SUPERSEDED)
    await store.describe(ACME, X, (), {1: facts})
    for as_of, expected in (
        (ACCEPTED - day, [3]),
        (ACCEPTED, [3]),
        (live_at - moment, [3]),
        (live_at, [1, 3]),
        (SUPERSEDED - day, [1, 3]),
        # Which of the two was live is for Postgres to say.
        (SUPERSEDED - moment, [1, 2, 3]),
        (SUPERSEDED, [2, 3]),
        (SUPERSEDED + day, [2, 3]),
    ):
        assert numbers((await store.scroll(ACME, past(as_of))).entries) == expected, as_of
        probe = Probe(dense=unit(1, 0, 0, 0), sparse=encode_question("pump"), within=past(as_of))
        assert order(await store.search(ACME, probe)) == expected


async def test_superseded_versions_do_not_count_for_the_rarity_of_words(store: VectorStore):
    await store.upsert(ACME, [point(1, "pump seal"), point(2, "pump valve")])
    before = await store.search(ACME, words("pump seal", within=LIVE))
    gone = list_facts(X, "", {}, ACCEPTED, superseded_at=SUPERSEDED)
    await store.upsert(ACME, [point(n, "seal", document=X, facts=gone) for n in (3, 4, 5)])
    after = await store.search(ACME, words("pump seal", within=LIVE))
    assert (after.point_ids, after.bm25s) == (before.point_ids, before.bm25s)
    assert len((await store.search(ACME, words("pump seal"))).point_ids) == 5


async def test_points_say_which_analyser_made_their_terms(store: VectorStore):
    versions = (ANALYSER - 1, ANALYSER, ANALYSER + 1)
    await store.upsert(ACME, [point(n, "word", analyser=one) for n, one in enumerate(versions, 1)])
    page = await store.scroll(ACME)
    assert [entry.analyser for entry in page.entries] == list(versions)
    assert await store.count(ACME) == 3
    assert await store.count(ACME, CURRENT) == 2
    assert await store.count(ACME, Filter(analyser=ANALYSER + 1)) == 1
    assert numbers((await store.scroll(ACME, CURRENT)).entries) == [2, 3]


async def test_diverse_points_come_before_those_that_repeat(store: VectorStore):
    near = [point(n, "", dense=(1, 0.01 * n, 0, 0)) for n in (1, 2, 3)]
    await store.upsert(ACME, [*near, point(4, "", dense=(0.7, 0, 0.7, 0))])
    plain = await store.search(ACME, meaning(1, 0, 0, 0, limit=2))
    assert [uuid.UUID(one).int for one in plain.point_ids[:2]] == [1, 2]
    diverse = await store.search(ACME, meaning(1, 0, 0, 0, limit=2, diversity=0.9))
    assert [uuid.UUID(one).int for one in diverse.point_ids[:2]] == [1, 4]
    assert sorted(diverse.point_ids) == sorted(plain.point_ids)
    with pytest.raises(InvalidInputError) as refused:
        meaning(1, 0, 0, 0, diversity=1.5)
    assert refused.value.reason == "DIVERSITY_RANGE"
