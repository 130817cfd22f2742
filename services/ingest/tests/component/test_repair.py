"""Lost work is found and sent again as new events; work that only waits is left alone."""

from typing import Any

import pytest

from aquifer.ingest.v1.document_events_pb2 import (
    ChunksPrepared,
    DocumentDeletionRequested,
    DocumentFailed,
    VersionAccepted,
)
from aquifer.query.v1.passage_events_pb2 import VersionDescribed
from chassis.base.errors import UnavailableError
from ingest.domain import State
from services.ingest.tests.conftest import NAME, TENANT, TRACE, Rig, ids, messages
from testkit.pdf import lines, pdf

LONG = " ".join(f"Sentence number {n} says something of its own." for n in range(400)).encode()


async def lose_events(rig: Rig, *, hours: int = 1) -> None:
    """The relay has sent everything, some time passes, and every queue is empty."""
    rig.clear_outbox()
    rig.age_versions(seconds=hours * 3_600)


async def repair(rig: Rig) -> list[Any]:
    """What one look sends again."""
    before = rig.last_outgoing()
    await rig.wired.maintenance.repair.run()
    return messages(rig.outgoing(before))


async def test_a_lost_order_is_sent_again_as_a_new_event(rig: Rig):
    first = ids(await rig.event())
    await lose_events(rig)
    before = rig.last_outgoing()
    assert await rig.wired.maintenance.repair.run() == 1
    again = rig.outgoing(before)
    assert messages(again) == [VersionAccepted(tenant=TENANT, document=NAME, version=1, attempt=1)]
    assert not set(ids(again)) & set(first)


PDF = pdf(*(lines(*[b"Page %d says something of its own." % n] * 40) for n in range(1, 30)))


@pytest.mark.parametrize(("content", "has_lines"), [(LONG, False), (PDF, True)])
async def test_lost_chunks_are_rebuilt_from_their_rows(
    rig: Rig, content: bytes, *, has_lines: bool
):
    await rig.upload(content)
    first = await rig.prepare()
    assert all(bool(one.lines) == has_lines for event in messages(first) for one in event.chunks)
    await lose_events(rig)
    again = await repair(rig)
    for before, after in zip(messages(first), again, strict=True):
        assert isinstance(after, ChunksPrepared)
        assert after.attempt == 1
        before.attempt = 1
        assert after == before


async def test_what_is_sent_again_is_in_the_trace_of_its_version(rig: Rig):
    await rig.upload()
    await lose_events(rig)
    await rig.wired.maintenance.repair.run()
    [row] = rig.outgoing()
    assert row.headers.get("traceparent", f"00-{TRACE}-")[3:35] == TRACE


async def test_a_lost_deletion_is_asked_for_again_until_it_is_answered(rig: Rig):
    await rig.index_version()
    await rig.delete()
    for attempt in (1, 2):
        await lose_events(rig)
        assert await repair(rig) == [
            DocumentDeletionRequested(tenant=TENANT, document=NAME, version=1, attempt=attempt)
        ]
    await rig.report_purged()
    await lose_events(rig)
    assert await repair(rig) == []


async def describe(rig: Rig, **header: Any) -> list[Any]:
    """The same bytes with another description; what it sends."""
    before = rig.last_outgoing()
    await rig.upload(**header)
    return messages(rig.outgoing(before))


async def repair_descriptions(rig: Rig) -> list[Any]:
    before = rig.last_outgoing()
    await rig.wired.maintenance.repair_descriptions.run()
    return messages(rig.outgoing(before))


async def confirm(rig: Rig, revision: int, version: int = 1) -> None:
    event = VersionDescribed(tenant=TENANT, document=NAME, version=version, revision=revision)
    await rig.deliver(event)


async def test_a_lost_description_is_sent_again_until_query_confirms_it(rig: Rig):
    await rig.index_version()
    [sent] = await describe(rig, title="New", metadata={"year": 2020})
    known = ids(rig.outgoing())
    for attempt in (1, 2):
        await lose_events(rig)
        sent.attempt = attempt
        assert await repair_descriptions(rig) == [sent]
        assert not set(ids(rig.outgoing())) & set(known)
        known += ids(rig.outgoing())
    await confirm(rig, 1)
    await lose_events(rig)
    assert await repair_descriptions(rig) == []


async def test_a_confirmation_counts_for_no_later_description(rig: Rig):
    await rig.index_version()
    await describe(rig, title="First")
    await describe(rig, title="Second")
    await confirm(rig, 1)
    await lose_events(rig)
    [again] = await repair_descriptions(rig)
    assert (again.description.title, again.description.revision) == ("Second", 2)
    await rig.deliver(
        *(
            VersionDescribed(tenant=TENANT, document=NAME, version=1, revision=revision)
            for revision in (2, 1)
        )
    )
    await lose_events(rig)
    assert await repair_descriptions(rig) == []


async def test_a_description_that_waits_anywhere_is_not_sent_twice(rig: Rig):
    await rig.index_version()
    await describe(rig, title="New")
    assert await repair_descriptions(rig) == []
    rig.age_versions()
    assert await repair_descriptions(rig) == []
    rig.clear_outbox()
    rig.siblings.last = dict.fromkeys(("DescriptionChanged", "VersionDescribed"), 9)
    rig.siblings.handled = {"DescriptionChanged": 9, "VersionDescribed": 8}
    rig.wired.maintenance.repair_descriptions.handled._until.clear()
    assert await repair_descriptions(rig) == []
    rig.siblings.handled["VersionDescribed"] = 9
    assert len(await repair_descriptions(rig)) == 1


async def test_chunks_bring_their_description_and_nothing_else_is_waited_for(rig: Rig):
    await rig.upload()
    await describe(rig, title="New")
    await lose_events(rig)
    assert await repair_descriptions(rig) == []


async def test_a_deleted_document_is_described_to_nobody(rig: Rig):
    await rig.index_version()
    await describe(rig, title="New")
    await rig.delete()
    await lose_events(rig)
    assert await repair_descriptions(rig) == []


async def test_what_is_not_due_is_left_alone(rig: Rig):
    await rig.upload()
    rig.clear_outbox()
    assert await repair(rig) == []


async def test_what_waits_in_the_outbox_is_not_lost(rig: Rig):
    await rig.upload()
    rig.age_versions()
    assert await repair(rig) == []
    rig.clear_outbox()
    assert len(await repair(rig)) == 1


async def test_what_was_sent_again_waits_longer_each_time(rig: Rig):
    await rig.upload()
    waits = []
    for _ in range(3):
        await lose_events(rig)
        await repair(rig)
        row = rig.rows.execute(
            "SELECT extract(epoch FROM step_due_at - clock_timestamp()) AS s FROM versions"
        ).fetchone()
        assert row is not None
        waits.append(round(float(row["s"]), -1))
    assert waits == [120, 240, 480]


@pytest.mark.parametrize("behind", ["ChunksPrepared", "ChunksEmbedded", "VersionSearchable"])
async def test_work_that_waits_anywhere_on_its_way_is_never_sent_twice(rig: Rig, behind: str):
    """Overdue by hours, but some consumer has not come as far as the stream went."""
    await rig.upload(LONG)
    await rig.prepare()
    await lose_events(rig)
    rig.siblings.last = dict.fromkeys(("ChunksPrepared", "ChunksEmbedded", "VersionSearchable"), 9)
    rig.siblings.handled = dict(rig.siblings.last) | {behind: 8}
    for _ in range(3):
        assert await repair(rig) == []
    rig.siblings.handled[behind] = 9
    assert len(await repair(rig)) == rig.version()["batch_count"]


async def test_what_was_sent_after_a_round_began_is_not_judged_by_it(rig: Rig):
    rig.siblings.last = {"VersionAccepted": 5}
    assert await repair(rig) == []
    await rig.upload()
    rig.clear_outbox()
    rig.siblings.handled = {"VersionAccepted": 5}
    until = await rig.wired.maintenance.repair.handled.check(State.ACCEPTED)
    assert until is not None
    assert until < rig.version()["accepted_at"]


async def test_two_reconcilers_send_a_step_once(rig: Rig):
    await rig.upload()
    await lose_events(rig)
    due = await rig.sweeper.list_overdue(State.ACCEPTED, 10)
    assert await rig.wired.maintenance.repair.send_again(due[0]) is True
    assert await rig.wired.maintenance.repair.send_again(due[0]) is False


async def test_a_broker_that_is_away_costs_a_round_and_nothing_else(rig: Rig):
    await rig.upload()
    await lose_events(rig)
    rig.siblings.bus_is_away = True
    with pytest.raises(UnavailableError):
        await rig.wired.maintenance.repair.run()
    rig.siblings.bus_is_away = False
    assert len(await repair(rig)) == 1


async def test_an_unfinished_version_past_the_deadline_fails_and_says_so(rig: Rig):
    await rig.event()
    await rig.prepare()
    rig.clear_outbox()
    rig.age_versions(seconds=86_000)
    assert await rig.wired.maintenance.expire.run() == 0
    rig.age_versions(seconds=1_000)
    assert await rig.wired.maintenance.expire.run() == 1
    [event] = rig.outbox()
    assert isinstance(event, DocumentFailed)
    assert (event.reason, event.upload_event_id) == ("STEP_DEADLINE", "e1")
    assert await rig.wired.maintenance.expire.run() == 0


async def test_a_deletion_has_no_deadline(rig: Rig):
    await rig.index_version()
    await rig.delete()
    rig.age_versions(seconds=1_000_000)
    assert await rig.wired.maintenance.expire.run() == 0
    assert rig.state() == "DELETING"


async def test_old_inbox_rows_and_request_ids_go_and_upload_events_stay(rig: Rig):
    await rig.event()
    await rig.upload(b"More bytes.", request_id="r")
    rig.rows.execute("UPDATE uploads SET created_at = now() - interval '4 days'")
    rig.rows.execute("UPDATE inbox SET handled_at = now() - interval '36 days'")
    await rig.prepare()
    assert await rig.sweeper.forget(35 * 86_400.0, 3 * 86_400.0) == 2
    assert [row["source"] for row in rig.rows.execute("SELECT source FROM uploads")] == [
        "/upstream"
    ]
    assert rig.count("inbox") == 1
