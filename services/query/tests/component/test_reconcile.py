"""What `aquifer reconcile` finds between passages and points, and what query tells ingest."""

import asyncio
import uuid
from typing import Any

import pytest

from aquifer.ops.v1 import reconcile_service_pb2 as pb
from aquifer.query.v1 import query_service_pb2 as query_pb
from chassis.base.errors import InvalidInputError, UnavailableError
from chassis.base.paging import Page
from chassis.identity.tokens import Caller, admit
from chassis.process.reconcile import ReconcileRpc, Scope
from query.domain import Passage, Version
from query.retrieval.vector_store import TenantScope
from query.rpc import QueryRpc
from query.usecases.documents import HideDocuments
from query.usecases.export_answers import ExportAnswers
from query.usecases.points import make_point
from query.usecases.reconcile_points import SETTLED_S, ReconcilePoints

from .conftest import DOCUMENT, World

ACME = TenantScope("acme")
OTHER = "collections/minutes/documents/may"
CALLER = Caller(
    tenant="acme",
    principal="service:ingest",
    key_id="key1",
    scopes=frozenset({"operate", "internal"}),
    expires_at=float("inf"),
)
NO_CONTEXT: Any = None


async def reconcile(
    world: World, *, dry_run: bool = False, collection: str = "", settled_s: float = 0.0
) -> dict[str, tuple[int, int]]:
    """Number found and repaired of each kind, over all slices."""
    admit(CALLER, "")
    rpc = ReconcileRpc([world.reconciler(settled_s)])
    found: dict[str, tuple[int, int]] = {}
    token, calls = "", 0
    while token or not calls:
        request = pb.ReconcileRequest(dry_run=dry_run, collection=collection, page_token=token)
        response = await rpc.Reconcile(request, NO_CONTEXT)
        for one in response.differences:
            name = pb.DifferenceKind.Name(one.kind).removeprefix("DIFFERENCE_KIND_")
            count, repaired = found.get(name, (0, 0))
            found[name] = (count + one.count, repaired + one.repaired)
        token, calls = response.next_page_token, calls + 1
    return found


async def repair(world: World, expected: dict[str, tuple[int, int]]) -> None:
    """A dry run changes nothing, and finds what a repair then repairs, after which nothing is."""
    before = await world.points()
    assert await reconcile(world, dry_run=True) == expected
    assert await world.points() == before
    assert await reconcile(world) == expected
    assert await reconcile(world) == {}


async def add_point(world: World, document: str, version: int) -> str:
    """A point that no passage has."""
    passage = Passage(
        version=Version(document=document, number=version),
        ordinal=0,
        chunk_id=uuid.uuid4(),
        text="lost",
        title="",
        metadata={},
        start=0,
        end=4,
        page=0,
        page_breaks=(),
        ingest_trace_id="",
    )
    point_id = uuid.uuid4()
    [vector] = world.embedder.rows(["lost"])
    await world.vectors.upsert(ACME, [make_point(point_id, passage, vector)])
    return str(point_id)


async def test_nothing_differs_where_nothing_is_broken(world):
    await world.deliver(world.embedded("impeller one", "impeller two"))
    await repair(world, {})


async def test_missing_points_are_embedded_again(world):
    await world.deliver(world.embedded("impeller one", "impeller two"))
    await world.deliver(world.embedded("may", document=OTHER))
    before = await world.points()
    await world.vectors.delete_points(ACME, list(before))
    assert await reconcile(world, dry_run=True, collection="minutes") == {"POINT_MISSING": (1, 1)}
    await repair(world, {"POINT_MISSING": (3, 3)})
    assert await world.points() == before
    assert await world.search("impeller one") == ["impeller one", "impeller two", "may"]


async def test_missing_points_of_many_pages_are_all_found(world, monkeypatch):
    monkeypatch.setattr("query.usecases.compare_points.PAGE", 7)
    for number in range(4):
        name = f"collections/manuals/documents/d{number}"
        await world.deliver(world.embedded(*[f"{number} {n}" for n in range(10)], document=name))
    before = await world.points()
    await world.vectors.delete_points(ACME, sorted(before)[::3])
    await repair(world, {"POINT_MISSING": (14, 14)})
    assert await world.points() == before


async def test_many_points_without_passages_do_not_make_a_page_longer(world, monkeypatch):
    monkeypatch.setattr("query.usecases.compare_points.PAGE", 5)
    monkeypatch.setattr("query.usecases.compare_points.POINTS_MAX", 7)
    await world.deliver(world.embedded(*[f"text {n}" for n in range(12)], version=2))
    before = await world.points()
    for _ in range(20):
        await add_point(world, DOCUMENT, 1)
    lost = sorted(before)[::4]
    await world.vectors.delete_points(ACME, lost)
    await repair(world, {"POINT_ORPHANED": (20, 20), "POINT_MISSING": (len(lost), len(lost))})
    assert await world.points() == before


async def test_points_of_other_tenants_are_compared_too(world):
    await world.deliver(world.embedded("their impeller", tenant="globex"))
    await world.deliver(world.embedded("impeller"))
    before = await world.points("globex")
    await world.vectors.delete_points(TenantScope("globex"), list(before))
    await repair(world, {"POINT_MISSING": (1, 1)})
    assert await world.points("globex") == before


@pytest.mark.parametrize(
    ("document", "version"),
    [(DOCUMENT, 1), (DOCUMENT, 7), ("collections/manuals/documents/unknown", 1)],
)
async def test_a_point_that_has_no_passage_goes(world, document: str, version: int):
    await world.deliver(world.embedded("impeller one", version=2))
    await add_point(world, document, version)
    assert await reconcile(world, dry_run=True, collection="minutes") == {}
    await repair(world, {"POINT_ORPHANED": (1, 1)})
    assert len(await world.points()) == 1


async def test_a_point_whose_passage_is_about_to_be_stored_stays(world):
    """A batch has written its points, and its transaction has not ended."""
    await world.deliver(world.embedded("impeller one", document=OTHER))
    looked = asyncio.Event()

    async def look_meanwhile():
        world.vectors.after_upsert = None
        found = asyncio.create_task(reconcile(world, settled_s=1.0))
        await asyncio.sleep(0.3)
        looked.found = found  # type: ignore[attr-defined]

    world.vectors.after_upsert = look_meanwhile
    await world.deliver(world.embedded("impeller two"))
    assert await looked.found == {"POINT_ORPHANED": (1, 0)}  # type: ignore[attr-defined]
    assert len(await world.points()) == 2
    assert await reconcile(world, dry_run=True) == {}


async def test_a_point_of_a_wanted_version_goes_when_it_was_seen_long_ago(world):
    await world.deliver(world.embedded("impeller one"))
    await add_point(world, "collections/manuals/documents/unknown", 1)
    now_s = 100.0
    points = ReconcilePoints(
        begin=world.begin, ledger=world.ledger, indexes=world.indexes, clock=lambda: now_s
    )
    scope = Scope(tenant="acme", collection="", dry_run=False)

    async def look() -> tuple[int, int]:
        [orphaned] = [
            one
            for one in (await points.run(scope, "")).findings
            if one.kind == pb.DIFFERENCE_KIND_POINT_ORPHANED
        ]
        return orphaned.count, orphaned.repaired

    assert await look() == (1, 0)
    now_s += SETTLED_S - 1
    assert await look() == (1, 0)
    now_s += 1
    assert await look() == (1, 1)
    assert len(await world.points()) == 1
    assert await look() == (0, 0)


async def test_a_passage_without_its_vector_gets_one(world):
    await world.deliver(world.embedded("impeller one", "impeller two"))
    world.everything.execute("UPDATE passages SET vector = NULL")
    await repair(world, {"POINT_MISSING": (2, 2)})
    ids = [point_id for point_id, _ in await world.ledger.list_passages("acme", None, 9)]
    assert await world.ledger.list_with_vector("acme", world.profile, ids) == set(ids)


async def test_passages_of_a_running_delete_need_no_points(world):
    await world.deliver(world.embedded("impeller one"))
    discard = world.dead_letters.discard_document

    async def compare_meanwhile(tenant, document):
        assert await reconcile(world) == {}
        return await discard(tenant, document)

    world.dead_letters.discard_document = compare_meanwhile
    await world.purge(1)
    assert await world.points() == {}


async def test_a_store_that_is_being_rebuilt_is_not_compared(world):
    await world.deliver(world.embedded("impeller one"))
    await world.records.forget(world.profile.name)
    with pytest.raises(UnavailableError) as refused:
        await reconcile(world)
    assert refused.value.reason == "VECTORS_REBUILDING"


def make_rpc(world: World) -> QueryRpc:
    admit(CALLER, "")
    return QueryRpc(
        find=world.find,
        ask=world.ask,
        answers=world.answers,
        export=ExportAnswers(world.exchanges),
        facets=world.facets,
        hide=world.hide,
        hide_many=HideDocuments(world.begin),
        label=world.label,
        ledger=world.ledger,
    )


async def test_ingest_is_told_what_is_known_of_its_documents(world):
    await world.deliver(world.embedded("impeller one", "impeller two", version=3))
    await world.deliver(world.embedded("may", document=OTHER))
    await world.deliver(world.embedded("theirs", tenant="globex"))
    rpc = make_rpc(world)
    request = query_pb.InspectDocumentsRequest(documents=[DOCUMENT, "collections/c/documents/no"])
    response = await rpc.InspectDocuments(request, NO_CONTEXT)
    live = query_pb.InspectedDocument(document=DOCUMENT, live_version=3, passages=2)
    assert list(response.documents) == [live]
    await world.hide.run("acme", Version(document=DOCUMENT, number=3))
    response = await rpc.InspectDocuments(request, NO_CONTEXT)
    [hidden] = response.documents
    assert (hidden.tombstone_version, hidden.deleted_passages) == (3, 2)


@pytest.mark.parametrize(("collection", "known"), [("", 5), ("manuals", 4), ("minutes", 1)])
async def test_documents_are_listed_page_by_page(world, collection: str, known: int):
    for number in range(4):
        name = f"collections/manuals/documents/d{number}"
        await world.deliver(world.embedded("impeller", document=name))
    await world.deliver(world.embedded("may", document=OTHER))
    rpc = make_rpc(world)
    found: list[str] = []
    pages = 0
    while len(found) == 2 * pages:
        request = query_pb.InspectDocumentsRequest(
            collection=collection, page_size=2, after=found[-1] if found else ""
        )
        page = await rpc.InspectDocuments(request, NO_CONTEXT)
        found += [one.document for one in page.documents]
        pages += 1
    assert found == sorted(set(found))
    assert len(found) == known


async def test_a_position_that_no_slice_returned_is_refused(world):
    admit(CALLER, "")
    rpc = ReconcileRpc([world.reconciler()])
    page = Page(size=1, after=(), bound=("", "False"))
    for position in (("points", "acme", "x"), ("other", "acme", "")):
        await world.deliver(world.embedded("impeller one"))
        request = pb.ReconcileRequest(page_token=page.make_token(*position))
        with pytest.raises(InvalidInputError) as refused:
            await rpc.Reconcile(request, NO_CONTEXT)
        assert refused.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("collection", ["a\0b", "a/b", "c" * 129, "%"])
async def test_what_cannot_be_a_collection_is_refused(world, collection: str):
    with pytest.raises(InvalidInputError) as refused:
        await reconcile(world, collection=collection)
    assert refused.value.reason == "COLLECTION_NAME"
