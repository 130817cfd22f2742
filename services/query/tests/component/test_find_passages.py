"""What is found is the caller's, live and looked up again; the order is always the same."""

import asyncio
import uuid
from dataclasses import replace

import numpy as np
import pytest

from chassis.base.errors import InvalidInputError, NotFoundError, UnavailableError
from query.domain import Question, Ranking
from query.filters.language import parse_filter
from query.names import name_collections
from query.profile import Profile
from query.retrieval.lexical import encode_passage
from query.retrieval.vector_store import Point, TenantScope
from query.usecases.ports import Wanted

PUMP = "collections/manuals/documents/pump"


async def plant(world, tenant: str, point_id: str, document: str = PUMP) -> None:
    """A point that the vector store should not hold."""
    await world.vectors.upsert(
        TenantScope(tenant),
        [
            Point(
                point_id=point_id,
                document=document,
                version=1,
                ordinal=0,
                dense=world.embedder.rows(["impeller"])[0],
                sparse=encode_passage("impeller"),
            )
        ],
    )


async def test_a_foreign_passage_is_refused_by_the_database(world):
    await world.deliver(world.embedded("their impeller", tenant="globex"))
    [theirs] = await world.points("globex")
    await world.vectors.delete_points(TenantScope("globex"), [theirs])
    await plant(world, "acme", theirs)
    assert list(await world.points("acme")) == [theirs]
    assert await world.search("impeller") == []


async def test_a_point_nobody_knows_is_refused_by_the_database(world):
    await world.deliver(world.embedded("our impeller"))
    await plant(world, "acme", str(uuid.uuid4()))
    assert await world.search("impeller") == ["our impeller"]


async def test_points_of_versions_that_are_not_live_are_not_found(world):
    await world.deliver(world.embedded("impeller one"))
    await world.deliver(world.embedded("impeller two", version=2, batch_count=2, chunk_count=2))
    assert len(await world.points()) == 2
    assert await world.search("impeller") == ["impeller one"]


async def test_the_best_comes_first_and_the_limit_holds(world):
    await world.deliver(
        world.embedded("impeller wear and seals", "impeller wear", "bearing grease", "oil change")
    )
    assert await world.search("impeller wear", limit=2) == [
        "impeller wear",
        "impeller wear and seals",
    ]


async def test_one_per_document_keeps_the_best_of_each(world):
    await world.deliver(world.embedded("impeller wear", "impeller, oil and grease"))
    valve = "collections/manuals/documents/valve"
    await world.deliver(world.embedded("valve and impeller", document=valve))
    found = await world.search("impeller wear", one_per_document=True)
    assert found == ["impeller wear", "valve and impeller"]


async def test_one_per_document_falls_back_to_a_passage_that_stands(world):
    """The best candidate of a document is stale: its next one is found instead of none."""
    await world.deliver(world.embedded("impeller", "impeller wear and much else", "oil"))
    await world.deliver(world.embedded("impeller of the second version", version=2))
    found = await world.search("impeller", one_per_document=True)
    assert found == ["impeller of the second version"]


async def test_a_collection_narrows_the_search(world):
    await world.deliver(world.embedded("impeller in the manual"))
    await world.deliver(
        world.embedded("impeller in the mail", document="collections/mail/documents/m1")
    )
    assert await world.search("impeller", collection="mail") == ["impeller in the mail"]
    assert len(await world.search("impeller")) == 2
    assert await world.search("impeller", collection="none") == []


async def test_several_collections_are_searched_and_no_other(world):
    """Better passages of other collections and tenants neither appear nor take a place."""
    for collection in ("a", "b"):
        document = f"collections/{collection}/documents/d"
        await world.deliver(world.embedded(f"a worn impeller in {collection}", document=document))
    for number in range(40):
        document = f"collections/c/documents/d{number}"
        await world.deliver(world.embedded(*["impeller impeller"] * 8, document=document))
    theirs = "collections/a/documents/d"
    await world.deliver(world.embedded("impeller theirs", document=theirs, tenant="globex"))
    await world.deliver(
        world.embedded("impeller of d", document="collections/d/documents/d", tenant="globex")
    )
    both = ["a worn impeller in a", "a worn impeller in b"]
    assert sorted(await world.search("impeller", collections=("a", "b"))) == both
    assert sorted(await world.search("impeller", collection="b", collections=("a",))) == both
    assert await world.search("impeller", collections=("b", "none")) == both[1:]
    assert await world.search("impeller", collections=("d",)) == []
    where = parse_filter("NOT collection = a")
    assert await world.search("impeller", collections=("a", "b"), where=where) == both[1:]
    assert await world.search("impeller", collections=("a", "b"), tenant="globex") == [
        "impeller theirs"
    ]


async def test_the_database_decides_which_collections_a_passage_is_of(world):
    """Whatever an index says, no passage of another collection is shown."""
    await world.deliver(world.embedded("impeller", document="collections/a/documents/d"))
    for collections, found in ((("a", "b"), 1), (("b", "c"), 0)):
        wanted = Wanted(
            held=None,
            point_ids=list(await world.points()),
            scores=[1.0],
            collections=name_collections("", collections),
            limit=10,
            one_per_document=False,
        )
        looked_up = await world.ledger.look_up("acme", world.profile.name, wanted)
        assert len(looked_up.hits) == found


async def test_equal_passages_come_in_the_same_order_each_time(world):
    for number in range(12):
        name = f"collections/manuals/documents/d{number}"
        await world.deliver(world.embedded("impeller wear", document=name))
    question = Question(tenant="acme", held=None, text="impeller", limit=12)
    first = [hit.passage.chunk_id for hit in (await world.find.run(question)).hits]
    for _ in range(3):
        assert [hit.passage.chunk_id for hit in (await world.find.run(question)).hits] == first


async def test_a_hit_carries_what_a_citation_needs(world):
    metadata = {"author": "Ada", "year": 1843, "public": True, "tags": ["a", 0.5]}
    await world.deliver(world.embedded("first", "the impeller wears", metadata=metadata))
    result = await world.find.run(Question(tenant="acme", held=None, text="impeller", limit=2))
    [hit, _] = result.hits
    passage = hit.passage
    assert (passage.version.document, passage.version.number, passage.ordinal) == (PUMP, 1, 1)
    assert (passage.title, passage.start, passage.end, passage.page) == ("Pump manual", 100, 118, 2)
    assert passage.metadata == metadata
    assert [row["metadata"] for row in world.rows("descriptions")] == [metadata]
    assert passage.ingest_trace_id == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": ""}, "QUESTION_LENGTH"),
        ({"text": " \n"}, "QUESTION_LENGTH"),
        ({"text": "x" * 4001}, "QUESTION_LENGTH"),
        ({"text": "a\0"}, "QUESTION_LENGTH"),
        ({"limit": 0}, "LIMIT_RANGE"),
        ({"limit": 101}, "LIMIT_RANGE"),
        ({"limit": -1}, "LIMIT_RANGE"),
        ({"wordings": ("a",) * 5}, "WORDINGS_COUNT"),
        ({"wordings": ("pump", " ")}, "QUESTION_LENGTH"),
        ({"wordings": ("x" * 4_001,)}, "QUESTION_LENGTH"),
        ({"diversity": -0.1}, "DIVERSITY_RANGE"),
        ({"diversity": 1.1}, "DIVERSITY_RANGE"),
        ({"diversity": float("nan")}, "DIVERSITY_RANGE"),
        ({"neighbours": -1}, "NEIGHBOURS_RANGE"),
        ({"neighbours": 4}, "NEIGHBOURS_RANGE"),
        ({"collection": "a/b"}, "COLLECTION_NAME"),
        ({"collection": "x" * 129}, "COLLECTION_NAME"),
        ({"collections": ("a", "a/b")}, "COLLECTION_NAME"),
        ({"collections": ("",)}, "COLLECTION_NAME"),
        ({"collections": ("a", "a")}, "COLLECTIONS_COUNT"),
        ({"collections": ("a",), "collection": "a"}, "COLLECTIONS_COUNT"),
        ({"collections": tuple(f"c{n}" for n in range(101))}, "COLLECTIONS_COUNT"),
        ({"collections": tuple(f"c{n}" for n in range(100)), "collection": "a"}, "COLLECTIONS_C"),
    ],
)
def test_a_question_out_of_range_is_refused(changes, reason):
    with pytest.raises(InvalidInputError) as refused:
        Question(**{"tenant": "acme", "held": None, "text": "why", "limit": 10} | changes)
    assert refused.value.reason.startswith(reason)


async def test_nothing_is_found_before_a_whole_store_was_seen(world):
    world.serving.store_id = None
    with pytest.raises(UnavailableError) as refused:
        await world.search("impeller")
    assert refused.value.reason == "VECTORS_REBUILDING"


async def test_a_question_without_any_known_word_still_finds_by_meaning(world):
    await world.deliver(world.embedded("impeller"))
    assert await world.search("the of and") == ["impeller"]


async def test_vectors_of_another_width_are_told_as_such(world):
    other = Profile(name=world.profile.name, dimensions=3)
    event = world.embedded("text")
    event.dimensions = 3
    event.vectors = np.full(3, 3**-0.5, dtype="<f4").tobytes()
    assert other.dimensions == event.dimensions
    [rejected] = await world.deliver(event)
    assert rejected.reason == "PROFILE_MISMATCH"


async def test_copies_are_one_hit_unless_asked_for(world):
    for number in range(8):
        name = f"collections/manuals/documents/d{number}"
        await world.deliver(world.embedded("impeller wear", document=name))
    await world.deliver(world.embedded("impeller and its seal"))
    question = Question(tenant="acme", held=None, text="impeller wear", limit=2)
    first, second = (await world.find.run(question)).hits
    assert (first.passage.text, len(first.copies)) == ("impeller wear", 7)
    assert (second.passage.text, second.copies) == ("impeller and its seal", ())
    hits = (await world.find.run(replace(question, join_copies=False, limit=9))).hits
    assert [len(hit.copies) for hit in hits] == [0] * 9


async def test_a_copy_that_may_not_be_seen_is_not_counted(world):
    for number in range(3):
        name = f"collections/manuals/documents/d{number}"
        await world.deliver(world.embedded("impeller wear", document=name))
    await world.purge(1, "collections/manuals/documents/d1")
    question = Question(tenant="acme", held=None, text="impeller", limit=5)
    [hit] = (await world.find.run(question)).hits
    assert len(hit.copies) == 1


async def test_a_hit_tells_its_scores_by_meaning_and_by_words(world):
    await world.deliver(world.embedded("impeller wear", "oil and grease"))
    question = Question(tenant="acme", held=None, text="impeller", limit=2)
    result = await world.find.run(question)
    assert result.ranking is Ranking.MEANING_AND_WORDS
    first, second = result.hits
    assert first.cosine > second.cosine
    assert first.bm25 > 0
    assert second.bm25 is None


async def test_a_question_in_an_unknown_script_is_ranked_by_words_alone(world):
    await world.deliver(world.embedded("\u6c34\u6cf5 impeller", "impeller", "impeller impeller"))
    question = Question(tenant="acme", held=None, text="\u6c34\u6cf5", limit=5)
    result = await world.find.run(question)
    assert result.ranking is Ranking.WORDS
    assert [(hit.passage.text, hit.cosine) for hit in result.hits] == [
        ("\u6c34\u6cf5 impeller", None)
    ]


async def test_a_reranker_orders_more_than_the_limit_again(world):
    texts = [f"impeller wear and much else that number {n} says" for n in range(20)]
    await world.deliver(world.embedded(*texts, "wear of the impeller"))
    question = Question(tenant="acme", held=None, text="impeller wear", limit=1)
    hits = (await world.find.run(replace(question, reranker=""))).hits
    assert [hit.passage.text for hit in hits] == ["wear of the impeller"]
    assert hits[0].rerank_score > 0
    assert (await world.find.run(question)).hits[0].rerank_score is None


async def test_an_unknown_reranker_is_refused(world):
    await world.deliver(world.embedded("impeller wear"))
    question = Question(tenant="acme", held=None, text="impeller", limit=1, reranker="nobody")
    with pytest.raises(NotFoundError) as refused:
        await world.find.run(question)
    assert refused.value.reason == "MODEL_UNKNOWN"


async def test_nothing_found_needs_no_reranker(world):
    question = Question(tenant="acme", held=None, text="impeller", limit=1, reranker="nobody")
    assert (await world.find.run(question)).hits == []


async def find(world, text, **options):
    options = {"tenant": "acme", "held": None, "limit": 10} | options
    return await world.find.run(Question(text=text, **options))


async def test_hits_come_with_the_passages_around_them(world):
    parts = [f"part {number}" for number in range(4)]
    await world.deliver(world.embedded(parts[0], "the impeller", *parts[1:]))
    [hit, *_] = (await find(world, "impeller", neighbours=2)).hits
    assert hit.passage.text == "the impeller"
    assert [one.text for one in hit.before] == ["part 0"]
    assert [one.text for one in hit.after] == ["part 1", "part 2"]
    [alone, *_] = (await find(world, "impeller")).hits
    assert (alone.before, alone.after) == ((), ())


async def test_neighbours_are_of_the_same_version_and_document(world):
    await world.deliver(world.embedded("an impeller", "old words"))
    await world.deliver(world.embedded("an impeller", "new words", version=2))
    valve = "collections/manuals/documents/valve"
    await world.deliver(world.embedded("valve", "of another document", document=valve))
    [hit, *_] = (await find(world, "impeller", neighbours=3)).hits
    assert [one.text for one in (*hit.before, *hit.after)] == ["new words"]


async def test_neighbours_of_a_document_hidden_meanwhile_are_not_read(world):
    await world.deliver(world.embedded("the impeller", "its neighbour"))
    [hit] = (await find(world, "impeller", limit=1)).hits
    around = await world.ledger.list_neighbours("acme", None, [hit.passage], 3)
    assert [[one.text for one in some] for some in around] == [["its neighbour"]]
    assert await world.ledger.list_neighbours("globex", None, [hit.passage], 3) == [[]]
    world.everything.execute("UPDATE documents SET labels = '{hr}'")
    held = frozenset({"sales"})
    assert await world.ledger.list_neighbours("acme", held, [hit.passage], 3) == [[]]
    world.everything.execute("UPDATE documents SET tombstone_version = live_version")
    assert await world.ledger.list_neighbours("acme", None, [hit.passage], 3) == [[]]


async def test_other_wordings_find_what_the_question_misses(world):
    filler = [f"bearing grease number {number}" for number in range(30)]
    await world.deliver(world.embedded("impeller wear", "worn rotor blades", *filler))
    question = {"limit": 2, "wordings": ("rotor blades",)}
    found = {hit.passage.text for hit in (await find(world, "impeller", **question)).hits}
    assert found == {"impeller wear", "worn rotor blades"}


async def test_a_failed_search_for_several_wordings_is_one_error_and_leaves_no_task(world):
    await world.deliver(world.embedded("impeller wear"))
    assert await world.search("impeller") == ["impeller wear"]
    await world.vectors.drop()
    running = asyncio.all_tasks()
    with pytest.raises(UnavailableError) as failed:
        await find(world, "impeller", wordings=("rotor blades", "worn rotor"))
    assert failed.value.reason == "VECTORS_REBUILDING"
    assert asyncio.all_tasks() == running


async def test_diverse_hits_leave_out_what_repeats_in_other_words(world):
    await world.deliver(
        world.embedded("impeller wear", "impeller wear a", "impeller wear b", "impeller and oil")
    )
    plain = [hit.passage.text for hit in (await find(world, "impeller wear", limit=2)).hits]
    diverse = (await find(world, "impeller wear", limit=2, diversity=0.9)).hits
    assert diverse[0].passage.text == plain[0]
    assert diverse[1].passage.text == "impeller and oil"


async def test_an_explained_search_says_how_its_order_came_about(world):
    await world.deliver(world.embedded("impeller wear", "bearing grease"))
    found = await find(world, "impeller wear", explain=True, neighbours=1)
    assert found.explanation is not None
    assert [one.name for one in found.explanation.stages] == [
        "embed the question",
        "rank candidates",
        "look up passages",
        "read neighbours",
    ]
    assert all(one.seconds > 0 for one in found.explanation.stages)
    assert found.explanation.profile == world.profile.name
    assert {"impel", "wear"} & {term for term, _ in found.explanation.terms}
    best = found.hits[0].explained
    assert best is not None
    assert (best.meaning_rank, best.words_rank, best.fused_rank) == (1, 1, 1)
    assert best.meaning + best.words + best.neighbours == pytest.approx(found.hits[0].score)
    plain = await find(world, "impeller wear")
    assert plain.explanation is None
    assert plain.hits[0].explained is None
