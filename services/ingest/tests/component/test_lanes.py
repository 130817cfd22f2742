"""A document that someone waits for goes ahead of those of an import."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aquifer.ingest.v1 import document_pb2 as pb
from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from chassis.base.errors import OverloadedError
from ingest.lanes import INTERACTIVE_BATCHES_MAX, INTERACTIVE_MAX, Lane
from ingest.settings import TenantLimits
from ingest.usecases.versions.prepare_document import ROOM_MIN_BYTES
from ingest.usecases.work import Work
from services.ingest.tests.conftest import NAME, Rig, messages, open_rig


def lanes_of_outbox(rig: Rig) -> list[bool]:
    """Whether each event on its way out is interactive."""
    return [
        row["interactive"]
        for row in rig.rows.execute("SELECT interactive FROM outbox ORDER BY outbox_id")
    ]


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        (pb.LANE_UNSPECIFIED, "INTERACTIVE"),
        (pb.LANE_INTERACTIVE, "INTERACTIVE"),
        (pb.LANE_BULK, "BULK"),
    ],
)
async def test_an_upload_event_says_its_lane(rig: Rig, asked: pb.Lane.ValueType, stored: str):
    rig.clear_outbox()
    await rig.event(lane=asked)
    assert rig.version()["lane"] == stored
    # Its acknowledgement delays no work, so it needs no lane.
    assert lanes_of_outbox(rig) == [False, stored == "INTERACTIVE"]


@pytest.mark.parametrize("lane", list(Lane))
async def test_the_lane_goes_on_with_the_chunks(rig: Rig, lane: Lane):
    await rig.upload(lane=lane)
    rig.clear_outbox()
    [prepared] = messages(await rig.prepare())
    assert prepared.lane == lane.number
    assert lanes_of_outbox(rig) == [lane is Lane.INTERACTIVE]


@pytest.mark.parametrize("lane", list(Lane))
async def test_small_text_that_is_cut_at_once_has_its_lane(quick: Rig, lane: Lane):
    quick.clear_outbox()
    await quick.upload(lane=lane)
    [prepared] = quick.outbox()
    assert isinstance(prepared, ChunksPrepared)
    assert prepared.lane == lane.number
    assert lanes_of_outbox(quick) == [lane is Lane.INTERACTIVE]


async def test_a_step_that_is_repeated_keeps_its_lane(rig: Rig):
    await rig.upload()
    rig.clear_outbox()
    rig.age_versions()
    rig.siblings.handled["VersionAccepted"] = 1
    await rig.wired.maintenance.repair.run()
    assert lanes_of_outbox(rig) == [True]


async def test_a_long_document_is_embedded_as_bulk(rig: Rig):
    paragraph = ("Water finds its way. " * 5).encode()
    fits, long = 32 * INTERACTIVE_BATCHES_MAX, 32 * (INTERACTIVE_BATCHES_MAX + 1)
    for number, paragraphs in enumerate((fits, long), 1):
        await rig.upload(b"\n\n".join([paragraph] * paragraphs))
        sent = messages(await rig.prepare(number))
        expected = pb.LANE_INTERACTIVE if len(sent) <= INTERACTIVE_BATCHES_MAX else pb.LANE_BULK
        assert {event.lane for event in sent} == {expected}
        assert (len(sent) > INTERACTIVE_BATCHES_MAX) == (number == 2)


async def test_many_interactive_documents_of_a_tenant_are_an_import(rig: Rig):
    names = [f"collections/reports/documents/{number}" for number in range(INTERACTIVE_MAX + 3)]
    for name in names:
        await rig.upload(name=name)
    stored = [rig.version(name=name)["lane"] for name in names]
    assert stored == ["INTERACTIVE"] * INTERACTIVE_MAX + ["BULK"] * 3
    # Those of another tenant, and its own once some are finished, are interactive again.
    assert (await rig.upload(tenant="globex")).version.lane is Lane.INTERACTIVE
    rig.rows.execute("UPDATE versions SET state = 'SUPERSEDED', step_due_at = NULL")
    await asyncio.sleep(1.1)
    assert (await rig.upload(b"More.")).version.lane is Lane.INTERACTIVE


async def test_a_single_upload_is_not_recorded_behind_an_import(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    record, held, begun = rig.wired.rpc.accept.record, asyncio.Event(), 0
    begin = record.begin

    @asynccontextmanager
    async def begin_late(tenant: str) -> AsyncIterator[Work]:
        nonlocal begun
        begun += 1
        if begun == 1:
            await held.wait()
        async with begin(tenant) as work:
            yield work

    monkeypatch.setattr(record, "begin", begin_late)
    names = [f"collections/reports/documents/{number}" for number in range(100)]
    async with asyncio.TaskGroup() as group:
        importing = [group.create_task(rig.upload(name=name, lane=Lane.BULK)) for name in names]
        async with asyncio.timeout(20):
            while not begun:
                await asyncio.sleep(0.01)
            await rig.upload()
        assert not any(task.done() for task in importing)
        held.set()
    assert rig.count("versions") == 101


async def test_a_tenant_has_its_own_limits(database, everything, tmp_path):
    own = {"acme": TenantLimits(documents=2), "globex": TenantLimits(bytes=10)}
    async with open_rig(database, everything, tmp_path, tenant_limits=own, backlog_max=4) as rig:
        for tenant, limit in (("acme", 2), ("initech", 4)):
            for number in range(limit):
                await rig.upload(name=f"collections/c/documents/{number}", tenant=tenant)
            with pytest.raises(OverloadedError) as refused:
                await rig.upload(name="collections/c/documents/more", tenant=tenant)
            assert refused.value.reason == "BACKLOG_FULL"
            assert refused.value.retry_after_s > 0
            assert refused.value.facts["limit"] == str(limit)


async def test_the_bytes_of_a_backlog_are_limited(database, everything, tmp_path):
    own = {"acme": TenantLimits(bytes=10)}
    async with open_rig(database, everything, tmp_path, tenant_limits=own) as rig:
        await rig.upload(b"Twelve bytes")
        await asyncio.sleep(1.1)
        with pytest.raises(OverloadedError) as refused:
            await rig.upload(b"More.", name="collections/c/documents/more")
        assert refused.value.reason == "BACKLOG_FULL"
        assert refused.value.retry_after_s > 0
        await rig.prepare()
        await rig.searchable()
        await asyncio.sleep(0.2)
        await rig.upload(b"More.", name="collections/c/documents/more")


async def test_bytes_are_read_only_when_there_is_room(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """Every released order to parse is taken at once, few documents are in memory."""
    prepare = rig.wired.use_cases.prepare
    names = [f"collections/reports/documents/{number}" for number in range(30)]
    for name in names:
        await rig.upload(b"Water. " * 100, name=name, lane=Lane.BULK)
    await rig.upload()
    reading, most, order, free = 0, 0, [], asyncio.Event()
    parse = prepare.parse

    async def hold(version, *rest):
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        order.append(version.document)
        await free.wait()
        reading -= 1
        return await parse(version, *rest)

    monkeypatch.setattr(type(prepare), "parse", property(lambda _: hold), raising=False)
    tasks = [asyncio.create_task(rig.prepare(name=name)) for name in [*names, NAME]]
    async with asyncio.timeout(20):
        while NAME not in order:
            await asyncio.sleep(0.02)
    assert 2 <= most <= (192 << 20) // ROOM_MIN_BYTES
    assert len(order) < len(names)
    free.set()
    await asyncio.gather(*tasks)
    assert {rig.version(name=name)["state"] for name in names} == {"PREPARED"}


def test_limits_are_read_from_json(monkeypatch: pytest.MonkeyPatch):
    limits = TenantLimits.model_validate_json('{"weight": 4, "documents": 50000}')
    assert (limits.weight, limits.documents, limits.bytes) == (4, 50_000, None)
    for wrong in ('{"weight": 0}', '{"documents": 0}', '{"wieght": 2}'):
        with pytest.raises(ValueError, match="validation error"):
            TenantLimits.model_validate_json(wrong)
