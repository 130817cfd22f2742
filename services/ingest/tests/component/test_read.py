"""What a tenant sees of its documents, and that it sees no other tenant's."""

import asyncio

import psycopg
import pytest

from chassis.base.errors import NotFoundError
from ingest.domain import State, View
from ingest.usecases.rows import PageQuery
from services.ingest.tests.conftest import NAME, TENANT, Rig


async def names(rig: Rig, *, collection: str = "", state: State | None = None) -> list[str]:
    """All pages of two, joined."""
    found: list[str] = []
    while True:
        after = found[-1] if found else ""
        query = PageQuery(collection=collection, state=state, after=after, limit=2)
        page = await rig.wired.rpc.list_page.run(TENANT, query)
        if not page:
            return [name.removeprefix("collections/") for name in found]
        found += [view.entry.name for view in page]


async def test_pages_hold_every_document_once_in_the_order_of_names(rig: Rig):
    for name in (
        "b/documents/1",
        "a/documents/z",
        "a/documents/B",
        "a.x/documents/1",
        "a/documents/a",
    ):
        await rig.upload(name=f"collections/{name}")
    everything = [
        "a.x/documents/1",
        "a/documents/B",
        "a/documents/a",
        "a/documents/z",
        "b/documents/1",
    ]
    assert await names(rig) == everything
    assert await names(rig, collection="a") == everything[1:4]
    assert await names(rig, collection="a.x") == everything[:1]
    assert await names(rig, collection="c") == []


async def test_a_filter_by_state_looks_at_the_newest_version(rig: Rig):
    await rig.index_version()
    other = "collections/reports/documents/other"
    await rig.index_version(name=other)
    await rig.upload(b"Newer.", name=other)
    short = [name.removeprefix("collections/") for name in (NAME, other)]
    assert await names(rig, state=State.INDEXED) == short[:1]
    assert await names(rig, state=State.ACCEPTED) == short[1:]
    assert sorted(await names(rig)) == sorted(short)


async def test_a_deleted_document_is_listed_only_when_asked_for(rig: Rig):
    await rig.index_version()
    await rig.delete()
    assert len(await names(rig)) == 1
    await rig.report_purged()
    assert await names(rig) == []
    assert len(await names(rig, state=State.DELETED)) == 1


async def test_another_tenant_sees_nothing(rig: Rig):
    await rig.index_version()
    with pytest.raises(NotFoundError) as foreign:
        await rig.get(tenant="globex")
    with pytest.raises(NotFoundError) as unknown:
        await rig.get("collections/reports/documents/none", tenant="globex")
    assert (foreign.value.reason, str(foreign.value)) == (unknown.value.reason, str(unknown.value))
    with pytest.raises(NotFoundError):
        await rig.wired.rpc.delete.run("globex", NAME)
    query = PageQuery(collection="", state=None, after="", limit=10)
    assert await rig.wired.rpc.list_page.run("globex", query) == []


@pytest.mark.parametrize(
    "table", ["tenants", "documents", "versions", "uploads", "chunks", "inbox", "outbox"]
)
async def test_the_database_itself_keeps_tenants_apart(rig: Rig, table: str):
    await rig.event()
    await rig.prepare()
    await rig.upload(b"More bytes.", request_id="r")
    assert rig.count(table) > 0
    async with rig.database.transaction("globex") as tx:
        row = await (await tx.execute(f"SELECT count(*) AS n FROM {table}")).fetchone()
        assert row == {"n": 0}
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            # A row of the right shape under another tenant's name.
            await tx.execute(
                f"INSERT INTO {table} SELECT (jsonb_populate_record(NULL::{table},"
                " jsonb_build_object('tenant_id', 'acme'))).*"
                if table != "outbox"
                else "INSERT INTO outbox (tenant_id, subject, headers, payload)"
                " VALUES ('acme', '', '{}', '')"
            )


async def test_the_sweeper_can_look_and_change_nothing_of_a_tenant(rig: Rig):
    await rig.event()
    await rig.prepare()
    async with rig.database.sweep() as tx:
        for table in ("documents", "chunks"):
            row = await (await tx.execute(f"SELECT count(*) AS n FROM {table}")).fetchone()
            assert row == {"n": 0}
        for change in (
            "UPDATE versions SET state = 'FAILED', reason = 'X'",
            "DELETE FROM versions",
            "DELETE FROM uploads",
            "UPDATE tenants SET suspended = true",
        ):
            assert (await tx.execute(change)).rowcount == 0


async def test_a_watch_shows_each_state_and_ends_after_the_last(rig: Rig):
    await rig.upload()
    seen: list[View] = []

    async def watching() -> None:
        async for view, _ in rig.wired.rpc.watch.run(TENANT, NAME):
            seen.append(view)

    async with asyncio.timeout(60):
        watch = asyncio.ensure_future(watching())
        while not seen:
            await asyncio.sleep(0.01)
        await rig.prepare()
        while len(seen) < 2:
            await asyncio.sleep(0.01)
        await rig.searchable()
        await watch
    assert [view.version.state for view in seen] == [
        State.ACCEPTED,
        State.PREPARED,
        State.INDEXED,
    ]


async def test_a_watch_of_a_finished_document_shows_it_once(rig: Rig):
    await rig.index_version()
    assert len([view async for view, _ in rig.wired.rpc.watch.run(TENANT, NAME)]) == 1


async def test_a_watch_of_an_unknown_document_is_refused(rig: Rig):
    with pytest.raises(NotFoundError):
        await anext(aiter(rig.wired.rpc.watch.run(TENANT, NAME)))


async def test_the_backlog_counts_unfinished_documents_by_tenant_and_state(rig: Rig):
    await rig.index_version()
    await rig.upload(name="collections/reports/documents/a")
    await rig.upload(tenant="globex")
    await rig.index_version(name="collections/reports/documents/b")
    await rig.delete("collections/reports/documents/b")
    found = {(b.tenant, b.state): b.documents for b in await rig.sweeper.count_backlog()}
    assert found == {
        ("acme", State.ACCEPTED): 1,
        ("acme", State.DELETING): 1,
        ("globex", State.ACCEPTED): 1,
    }
    assert all(b.oldest_age_s >= 0 for b in await rig.sweeper.count_backlog())
