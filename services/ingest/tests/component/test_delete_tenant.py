"""Nothing is left of a deleted tenant but its tombstone, and nothing late brings it back."""

import asyncio
import hashlib
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from aquifer.auth.v1.auth_events_pb2 import TenantCreated, TenantDeletionRequested, TenantResumed
from aquifer.ingest.v1.document_events_pb2 import DocumentFailed
from aquifer.ingest.v1.tenant_events_pb2 import TenantDocumentsRemoved
from aquifer.ingest.v1.upload_events_pb2 import ContentReference, DocumentUploaded
from chassis.base.errors import InvalidInputError, OverloadedError, UnavailableError
from chassis.base.postgres import Database
from chassis.base.tenants import TenantDeletedError
from chassis.events import topology
from chassis.events.delivery import Unreadable
from chassis.events.envelope import Glimpse
from ingest.collections import CollectionSettings
from ingest.objects.keys import make_key
from ingest.references.reader import open_references
from ingest.steps import Step
from services.ingest.tests.conftest import NAME, TENANT, Rig, messages, open_rig

OTHER = "other"
WORK = [event.full_name for event in topology.events() if topology.is_work(event)]
LARGE = b"A sentence nobody may find again. " * 2_500
SMALL = b"Another sentence nobody may find again."
SIGNED = " ".join(f"word{number}" for number in range(100)).encode()
REMOTE = ContentReference(
    uri="https://files.example.com/q3.txt", sha256=hashlib.sha256(SMALL).hexdigest(), size_bytes=39
)


@pytest.fixture
async def web_rig(
    database: Database, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> Any:
    """A rig whose upload events may refer to another server, which nobody asks."""
    references = open_references(None, "https://files.example.com", "")
    async with open_rig(database, everything, tmp_path, references=references) as rig:
        yield rig


async def order(rig: Rig, attempt: int = 1) -> list[Any]:
    """The order to delete the tenant arrives."""
    return messages(await rig.deliver(TenantDeletionRequested(tenant=TENANT, attempt=attempt)))


async def fill(rig: Rig) -> None:
    """Something in every table, and an object."""
    settings = CollectionSettings(description="secret plans", steps=(Step.NEAR_DUPLICATES,))
    await rig.wired.rpc.create_collection.run(TENANT, "plans", settings)
    await rig.index_version(LARGE)
    await rig.index_version(SMALL, name="collections/reports/documents/other")
    await rig.wired.rpc.delete_collection.run(TENANT, "reports", force=True)
    await rig.index_version(SIGNED, name="collections/plans/documents/signed")
    await rig.event(SMALL, event_id="waits", name="collections/plans/documents/a")
    await rig.event(event_id="far", name="collections/plans/documents/b", reference=REMOTE)
    await start_upload(rig)


async def start_upload(rig: Rig) -> None:
    async with rig.begin(TENANT) as work:
        await work.documents.lock(NAME)
    rig.rows.execute(
        "INSERT INTO upload_sessions (tenant_id, upload_id, document, sha256, size_bytes,"
        " file_name, media_type, title, metadata, expires_at)"
        " VALUES (%s, 'u', %s, 's', 9, '', '', 'secret', '{}', now() + interval '1 day')",
        [TENANT, NAME],
    )
    rig.rows.execute(
        "INSERT INTO upload_parts (tenant_id, upload_id, start_byte, size_bytes, sha256,"
        " object_key) VALUES (%s, 'u', 0, 4, 's', %s)",
        [TENANT, f"{TENANT}/x/y"],
    )


def tables(rig: Rig) -> list[str]:
    """Every table with a tenant."""
    found = rig.rows.execute(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = 'ingest' AND column_name = 'tenant_id' ORDER BY table_name"
    )
    return [row["table_name"] for row in found]


def count_work(rig: Rig) -> int:
    """Stored events with text, or that only order work."""
    row = rig.rows.execute(
        "SELECT count(*) AS n FROM outbox WHERE event = ANY(%s)", [WORK]
    ).fetchone()
    assert row is not None
    return int(row["n"])


def left(rig: Rig, tenant: str = TENANT) -> dict[str, int]:
    """The tables with rows of a tenant."""
    counts = {}
    for table in tables(rig):
        row = rig.rows.execute(
            f"SELECT count(*) AS n FROM {table} WHERE tenant_id = %s", [tenant]
        ).fetchone()
        assert row is not None
        counts[table] = row["n"]
    return {table: count for table, count in counts.items() if count}


async def test_nothing_is_left_but_the_tombstone(web_rig: Rig):
    rig = web_rig
    await rig.deliver(TenantCreated(tenant=OTHER))
    await rig.upload(SMALL, tenant=OTHER)
    rig.clear_outbox()
    await fill(rig)
    assert left(rig)["outbox"] > count_work(rig) > 0
    rig.rows.execute("DELETE FROM outbox WHERE NOT event = ANY(%s)", [WORK])
    before, kept = left(rig), left(rig, OTHER)
    assert set(before) == set(tables(rig)) - {"deleted_tenants"}
    objects = await rig.objects.list(TENANT)
    assert objects
    rig.siblings.letters = 3
    assert await order(rig) == []
    assert await rig.tenant_removal.remove_open() == 1
    events = rig.outbox()
    failed = {one.upload_event_id: one for one in events if isinstance(one, DocumentFailed)}
    assert set(failed) == {"waits", "far"}
    assert {one.reason for one in failed.values()} == {"TENANT_DELETED"}
    [report] = [one for one in events if isinstance(one, TenantDocumentsRemoved)]
    assert len(events) == 3
    removed = {one.store: one.count for one in report.removed}
    assert removed == before | {"objects": len(objects), "dead_letters": 3}
    rig.clear_outbox()
    assert left(rig) == {"deleted_tenants": 1}
    assert await rig.objects.list(TENANT) == []
    assert left(rig, OTHER) == {table: count for table, count in kept.items() if table != "outbox"}
    assert await rig.tenant_removal.remove_open() == 0


LOOPS = [
    "repair",
    "repair_descriptions",
    "expire",
    "sweep_objects",
    "delete_old",
    "drop_versions",
    "forget_descriptions",
    "continue_deletions",
    "send_labels",
    "expire_uploads",
]


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_tenant_that_is_being_removed_delays_no_loop(web_rig: Rig, loop: str):
    rig = web_rig
    await fill(rig)
    await rig.deliver(TenantCreated(tenant=OTHER))
    await rig.upload(SMALL, tenant=OTHER)
    await order(rig)
    rig.clear_outbox()
    make_due(rig)
    done = await getattr(rig.wired.maintenance, loop).run()
    assert done == 1 or loop not in {"repair", "expire", "send_labels"}
    due = await rig.sweeper.list_due_fetches(9, 9, excluding=[])
    assert due == []


def make_due(rig: Rig) -> None:
    """Everything that a loop looks for is due, of all tenants."""
    rig.age_versions(seconds=10 * 86_400)
    rig.rows.execute("UPDATE versions SET description_due_at = now() - interval '1 day'")
    rig.rows.execute("UPDATE documents SET labels_due_at = now()")
    rig.rows.execute("UPDATE collections SET retention_s = 1")
    rig.rows.execute("UPDATE fetches SET due_at = now() - interval '1 day'")
    rig.rows.execute("UPDATE upload_sessions SET expires_at = now() - interval '1 day'")


async def test_late_events_leave_nothing_and_are_answered(rig: Rig):
    await rig.index_version()
    await order(rig)
    await rig.tenant_removal.remove_open()
    rig.clear_outbox()
    for late in (TenantCreated(tenant=TENANT), TenantResumed(tenant=TENANT, sequence=99)):
        with pytest.raises(TenantDeletedError):
            await rig.deliver(late)
    for work in (rig.prepare(), rig.searchable(), rig.reject(), rig.report_purged()):
        with pytest.raises(TenantDeletedError):
            await work
    await rig.event(event_id="late", correlation_id="c")
    await rig.description(event_id="late description", title="new")
    answers = messages(rig.siblings.published)
    assert [(one.upload_event_id, one.reason) for one in answers] == [
        ("late", "TENANT_DELETED"),
        ("late description", "TENANT_DELETED"),
    ]
    assert answers[0].correlation_id == "c"
    assert left(rig) == {"deleted_tenants": 1}


async def test_late_events_that_can_not_be_handled_are_answered_as_well(rig: Rig):
    """They are dropped, not dead letters, and their producer hears of it."""
    await order(rig)
    answers = rig.wired.use_cases.answers
    error = InvalidInputError("EVENT_INVALID", "it cannot be handled")
    late = DocumentUploaded(tenant=TENANT, document=NAME)
    with pytest.raises(TenantDeletedError):
        await rig.give_up(late, error, event_id="dead")
    seen = Glimpse(event_id="unreadable", source="/upstream")
    for one in (seen, Glimpse(event_id="no source")):
        event = Unreadable(tenant=TENANT, seen=one, sequence=1, stored_ns=1)
        with pytest.raises(TenantDeletedError):
            await answers.refuse_unreadable(event, error)
    [delivery] = rig.batch(late, event_id="too many")
    await answers.refuse(delivery, OverloadedError("BACKLOG_FULL", "too many"))
    told = messages(rig.siblings.published)
    assert [one.upload_event_id for one in told] == ["dead", "unreadable", "no source", "too many"]
    assert {one.reason for one in told} == {"TENANT_DELETED"}


async def test_an_upload_whose_bytes_were_stored_meanwhile_leaves_no_object(rig: Rig):
    await order(rig)
    await rig.tenant_removal.remove_open()
    with pytest.raises(TenantDeletedError):
        await rig.upload(LARGE)
    await rig.objects.put(make_key(TENANT, NAME), LARGE, max_bytes=len(LARGE))
    assert await rig.tenant_removal.remove_late() == 1
    assert await rig.objects.list(TENANT) == []
    assert await rig.tenant_removal.remove_late() == 0


async def test_an_answer_that_can_not_be_sent_is_tried_again(rig: Rig):
    await order(rig)
    rig.siblings.bus_is_away = True
    with pytest.raises(UnavailableError):
        await rig.event()
    rig.siblings.bus_is_away = False
    await rig.event()
    first, again = rig.siblings.published, await rig.event()
    assert again == []
    assert len({one.headers["ce-id"] for one in first}) == 1


async def test_it_goes_on_where_it_was_interrupted(rig: Rig):
    await rig.index_version(LARGE)
    await rig.index_version(SIGNED, name="collections/plans/documents/signed")
    await rig.event(SMALL, event_id="waits", name="collections/reports/documents/a")
    before = left(rig) | {"outbox": count_work(rig)}
    objects = len(await rig.objects.list(TENANT))
    await order(rig)
    rig.siblings.bus_is_away = True
    assert await rig.tenant_removal.remove_open() == 0
    assert set(left(rig)) == {"deleted_tenants", "outbox"}
    rig.siblings.bus_is_away = False
    assert await rig.tenant_removal.remove_open() == 1
    *_, report = rig.outbox()
    assert isinstance(report, TenantDocumentsRemoved)
    assert {one.store: one.count for one in report.removed} == before | {"objects": objects}
    assert sum(isinstance(one, DocumentFailed) for one in rig.outbox()) == 1


async def test_processes_at_the_same_time_count_and_report_once(rig: Rig):
    for number in range(3):
        await rig.upload(LARGE, name=f"collections/reports/documents/{number}")
    await order(rig)
    processes = [replace(rig.tenant_removal, _me=uuid.uuid4()) for _ in range(3)]
    done = await asyncio.gather(*(one.remove_open() for one in processes))
    assert sum(done) == 1
    [report] = [one for one in rig.outbox() if isinstance(one, TenantDocumentsRemoved)]
    assert {one.store: one.count for one in report.removed}["objects"] == 3


async def test_another_process_goes_on_after_a_crash(rig: Rig):
    await rig.index_version(LARGE)
    await order(rig)
    rig.siblings.bus_is_away = True
    assert await rig.tenant_removal.remove_open() == 0
    rig.siblings.bus_is_away = False
    other = replace(rig.tenant_removal, _me=uuid.uuid4())
    assert await other.remove_open() == 0
    rig.rows.execute("UPDATE deleted_tenants SET claimed_until = now()")
    assert await other.remove_open() == 1
    assert await rig.tenant_removal.remove_open() == 0


async def test_a_repeated_order_is_reported_again(rig: Rig):
    await rig.index_version()
    await order(rig)
    assert await order(rig, attempt=2) == []
    await rig.tenant_removal.remove_open()
    [report] = [one for one in rig.outbox() if isinstance(one, TenantDocumentsRemoved)]
    ids = {one.headers["ce-id"] for one in rig.outgoing()}
    assert await order(rig, attempt=3) == [report]
    assert len({one.headers["ce-id"] for one in rig.outgoing()} - ids) == 1


async def test_an_order_waits_for_open_transactions(rig: Rig):
    async with rig.begin(TENANT) as work:
        ordered = asyncio.create_task(order(rig))
        await asyncio.sleep(0.3)
        assert not ordered.done()
        await work.collections.create("plans", CollectionSettings(description="late"))
    await ordered
    await rig.tenant_removal.remove_open()
    assert left(rig) == {"deleted_tenants": 1, "outbox": 1}


async def test_an_unknown_tenant_is_deleted_too(rig: Rig):
    event = TenantDeletionRequested(tenant="nobody", attempt=1)
    await rig.deliver(event)
    assert await rig.tenant_removal.remove_open() == 1
    [report] = [one for one in rig.outbox() if isinstance(one, TenantDocumentsRemoved)]
    assert report == TenantDocumentsRemoved(tenant="nobody")
    with pytest.raises(TenantDeletedError):
        await rig.deliver(TenantCreated(tenant="nobody"))


async def test_a_late_refusal_repeats_the_answer_of_the_removal(rig: Rig):
    await rig.index_version(SIGNED, name="collections/plans/documents/signed")
    await rig.event(SMALL, event_id="waits")
    event = DocumentUploaded(tenant=TENANT, document=NAME, content=SMALL)
    await order(rig)
    await rig.tenant_removal.remove_open()
    [first] = [one for one in rig.outgoing() if one.headers["ce-type"].endswith("DocumentFailed")]
    await rig.deliver(event, event_id="waits")
    [again] = rig.siblings.published
    assert again.headers["ce-id"] == first.headers["ce-id"]
