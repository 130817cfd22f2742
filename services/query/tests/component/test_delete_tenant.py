"""Nothing is left of a deleted tenant but its tombstone, and nothing late brings it back."""

import pytest

from aquifer.auth.v1.auth_events_pb2 import TenantDeletionRequested
from aquifer.query.v1.tenant_events_pb2 import TenantPassagesRemoved
from chassis.base.errors import UnavailableError
from chassis.base.tenants import TenantDeletedError
from query.conversation import Owner, Settings
from query.domain import Version
from query.prompt import Content
from query.retrieval.vector_store import TenantScope
from query.usecases.send_message import NewMessage

TENANT, OTHER = "acme", "globex"
DOCUMENT = "collections/manuals/documents/pump"


async def order(world, attempt: int = 1):
    """The order to delete the tenant arrives."""
    return await world.deliver(TenantDeletionRequested(tenant=TENANT, attempt=attempt))


async def fill(world, tenant: str = TENANT) -> None:
    """Something in every table."""
    await world.deliver(world.embedded("impeller old", tenant=tenant))
    await world.deliver(world.embedded("impeller new", version=2, tenant=tenant))
    await world.deliver(
        world.embedded("part", version=3, batch_count=2, chunk_count=2, tenant=tenant)
    )
    inquiry = world.inquiry("impeller", tenant=tenant)
    assert [step async for step in world.ask.run(inquiry, "1" * 32)]
    owner = Owner(tenant=tenant, principal="user:ada")
    await world.prompts.create(tenant, "support", Content(template="Be kind."), "user:ada")
    conversation = await world.conversations.create(owner, Settings())
    message = NewMessage(
        owner=owner,
        held=None,
        conversation_id=conversation.conversation_id,
        question="impeller",
    )
    assert [step async for step in world.send.run(message, "1" * 32)]
    [[point_id, _], *_] = await world.ledger.list_passages(tenant, None, 1)
    async with world.begin(tenant) as work:
        await work.rows.put_vectors("another", {point_id: world.embedder.rows(["x"])[0]})
        await work.rows.begin_purge(
            Version(document="collections/manuals/documents/gone", number=1), 1
        )


def left(world, tenant: str = TENANT) -> dict[str, int]:
    """The tables with rows of a tenant, and their number."""
    tables = world.everything.execute(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = 'query' AND column_name = 'tenant_id'"
    ).fetchall()
    counts = {
        row["table_name"]: world.everything.execute(
            f"SELECT count(*) AS n FROM {row['table_name']} WHERE tenant_id = %s", [tenant]
        ).fetchone()["n"]
        for row in tables
    }
    return {table: count for table, count in counts.items() if count}


def report_of(world) -> TenantPassagesRemoved:
    [row] = world.everything.execute(
        "SELECT payload FROM outbox WHERE event LIKE '%TenantPassagesRemoved'"
    ).fetchall()
    return TenantPassagesRemoved.FromString(row["payload"])


async def test_nothing_is_left_but_the_tombstone(world):
    await fill(world)
    await fill(world, OTHER)
    before, kept = left(world), left(world, OTHER)
    assert before == kept
    assert before.keys() >= {"passages", "passage_vectors", "answers", "purges"}
    assert (before["conversations"], before["messages"]) == (1, 2)
    assert (before["prompts"], before["prompt_versions"]) == (1, 1)
    facts = before.pop("outbox")
    points = len(await world.points())
    world.dead_letters.kept = [(TENANT, DOCUMENT), (TENANT, "x"), (OTHER, DOCUMENT)]
    assert await order(world) == []
    assert await world.removal.remove_open() == 1
    report = report_of(world)
    removed = {one.store: one.count for one in report.removed}
    assert removed == before | {"points": points, "dead_letters": 2}
    assert left(world) == {"deleted_tenants": 1, "outbox": facts + 1}
    assert not await world.points()
    assert left(world, OTHER) == kept
    assert await world.points(OTHER)
    assert await world.search("impeller", tenant=OTHER)
    assert await world.search("impeller") == []


async def test_a_lost_store_is_rebuilt_while_a_tenant_is_being_removed(world):
    await fill(world)
    await fill(world, OTHER)
    found = await world.search("impeller", tenant=OTHER)
    await order(world)
    await world.vectors.drop()
    await world.rebuild.run()
    assert await world.search("impeller", tenant=OTHER) == found != []
    assert not await world.points()
    assert await world.ledger.list_tenants() == [OTHER]


async def test_labels_of_others_follow_while_a_tenant_is_being_removed(world):
    await fill(world)
    await fill(world, OTHER)
    world.everything.execute(
        "INSERT INTO relabelled_documents SELECT tenant_id, document FROM documents"
        " WHERE live_version > 0 ORDER BY tenant_id"
    )
    await order(world)
    assert await world.update.run() == 1
    assert await world.ledger.list_outdated(9) == []


async def test_no_late_batch_brings_a_point_or_passage_back(world):
    await order(world)
    for _ in range(2):
        with pytest.raises(TenantDeletedError):
            await world.deliver(world.embedded("impeller"))
        assert not await world.points()
    with pytest.raises(TenantDeletedError):
        await world.purge(1)
    with pytest.raises(TenantDeletedError):
        await world.describe("title")
    with pytest.raises(TenantDeletedError):
        await world.fail(1)
    assert left(world) == {"deleted_tenants": 1}


async def test_an_answer_of_a_deleted_tenant_is_not_kept(world):
    await fill(world)
    inquiry = world.inquiry("impeller")
    steps = world.ask.run(inquiry, "1" * 32)
    await anext(steps)
    await order(world)
    with pytest.raises(TenantDeletedError):
        assert [step async for step in steps]
    await world.removal.remove_open()
    assert "answers" not in left(world)


async def test_points_that_a_killed_process_leaves_are_removed_later(world):
    scope = TenantScope(TENANT)
    await fill(world)
    points = await world.points()
    await order(world)
    await world.removal.remove_open()
    batch = world.embedded("impeller", document="collections/manuals/documents/late")

    def die():
        raise KeyboardInterrupt

    world.vectors.after_upsert = die
    with pytest.raises(KeyboardInterrupt):
        await world.deliver(batch)
    world.vectors.after_upsert = None
    assert await world.vectors.count(scope) == 1
    assert await world.removal.remove_late() == 1
    assert await world.vectors.count(scope) == 0
    assert points


async def test_it_goes_on_after_the_vector_store_was_away(world):
    await fill(world)
    points = len(await world.points())
    await order(world)

    async def away(*_, **__):
        raise UnavailableError("VECTORS_UNAVAILABLE", "away")

    world.vectors.scroll, real = away, world.vectors.scroll
    assert await world.removal.remove_open() == 0
    world.vectors.scroll = real
    assert await world.removal.remove_open() == 1
    assert {one.store: one.count for one in report_of(world).removed}["points"] == points
