"""Lost work is found and sent again as new events; work that only waits is left alone."""

import time
from dataclasses import replace

import pytest

from aquifer.ingest.v1.document_events_pb2 import (
    ChunksPrepared,
    DocumentAccepted,
    DocumentDeletionRequested,
    DocumentFailed,
)
from chassis.base.errors import UnavailableError
from chassis.events.envelope import derived_id
from ingest.domain import Pace, State
from ingest.usecases.progress import Progress
from services.ingest.tests.conftest import NAME, TENANT, Rig, ids, messages

LONG = " ".join(f"Sentence number {n} says something of its own." for n in range(400)).encode()


@pytest.fixture
def silent(rig: Rig) -> Rig:
    """As if the process had seen nothing move for an hour."""
    rig.wired.repair.progress._since -= 3_600
    return rig


def published(rig: Rig) -> list[object]:
    return [fact.event for fact in rig.siblings.published]


async def test_a_lost_acceptance_is_sent_again_as_a_new_event(silent: Rig):
    await silent.event()
    [first] = silent.rows.execute("SELECT headers->>'ce-id' AS id FROM outbox")
    silent.hurry()
    assert await silent.wired.repair() == 1
    [fact] = silent.siblings.published
    assert fact.event == DocumentAccepted(
        tenant=TENANT, document=NAME, version=1, upload_event_id="e1", attempt=1
    )
    assert derived_id(*fact.identity) != first["id"]


async def test_lost_chunks_are_rebuilt_from_their_rows(silent: Rig):
    await silent.upload(LONG)
    first = await silent.prepare()
    silent.hurry()
    assert await silent.wired.repair() == 1
    again = silent.siblings.published
    assert not {derived_id(*fact.identity) for fact in again} & set(ids(first))
    for before, fact in zip(messages(first), again, strict=True):
        assert isinstance(fact.event, ChunksPrepared)
        assert fact.event.attempt == 1
        before.attempt = 1
        assert fact.event == before


async def test_a_lost_deletion_is_asked_for_again_until_it_is_answered(silent: Rig):
    await silent.indexed()
    await silent.delete()
    for attempt in (1, 2):
        silent.hurry()
        silent.wired.repair.progress._moved_at.clear()
        await silent.wired.repair()
        assert published(silent)[-1] == DocumentDeletionRequested(
            tenant=TENANT, document=NAME, version=1, attempt=attempt
        )
    await silent.purged()
    silent.wired.repair.progress._moved_at.clear()
    assert await silent.wired.repair() == 0


async def test_what_is_not_due_is_left_alone(silent: Rig):
    await silent.upload()
    assert await silent.wired.repair() == 0
    assert published(silent) == []


async def test_what_was_sent_again_waits_longer_each_time(silent: Rig):
    await silent.upload()
    waits = []
    for _ in range(3):
        silent.hurry()
        silent.wired.repair.progress._moved_at.clear()
        await silent.wired.repair()
        row = silent.rows.execute(
            "SELECT extract(epoch FROM step_due_at - clock_timestamp()) AS s FROM versions"
        ).fetchone()
        assert row is not None
        waits.append(round(float(row["s"]), -1))
    assert waits == [120, 240, 480]


async def test_a_silent_step_is_probed_by_few(silent: Rig):
    for number in range(12):
        await silent.upload(name=f"collections/reports/documents/{number}")
    silent.hurry()
    assert await silent.wired.repair() == 8
    assert await silent.wired.repair() == 0


async def test_a_long_line_is_not_made_longer(rig: Rig):
    """All are due, but what leaves the step was sent before them: they wait, they are not lost."""
    names = [f"collections/reports/documents/{number}" for number in range(6)]
    for name in names:
        await rig.upload(name=name)
    rig.hurry()
    await rig.prepare(name=names[0])
    assert await rig.wired.repair() == 0


async def test_whatever_was_overtaken_by_a_whole_wait_is_lost(rig: Rig):
    names = [f"collections/reports/documents/{number}" for number in range(12)]
    for name in names:
        await rig.upload(name=name)
    rig.hurry()
    await rig.upload(name=NAME)
    await rig.prepare()
    assert await rig.wired.repair() == 12
    assert await rig.wired.repair() == 0


async def test_two_reconcilers_send_a_step_once(silent: Rig):
    await silent.upload()
    silent.hurry()
    due = await silent.sweeper.due(State.ACCEPTED, None, 10)
    assert await silent.wired.repair._again(due[0]) is True
    assert await silent.wired.repair._again(due[0]) is False


async def test_a_broker_that_is_away_costs_a_round_and_nothing_else(silent: Rig):
    await silent.upload()
    silent.hurry()

    async def away(facts, trace_id):
        raise UnavailableError("BUS_UNAVAILABLE", "away")

    broken = replace(silent.wired.repair, publish=away)
    with pytest.raises(UnavailableError):
        await broken()
    silent.hurry()
    silent.wired.repair.progress._moved_at.clear()
    assert await silent.wired.repair() == 1


async def test_an_unfinished_version_past_the_deadline_fails_and_says_so(rig: Rig):
    await rig.event()
    await rig.prepare()
    rig.clear_outbox()
    rig.hurry(seconds=86_000)
    assert await rig.wired.expire() == 0
    rig.hurry(seconds=1_000)
    assert await rig.wired.expire() == 1
    [event] = rig.outbox()
    assert isinstance(event, DocumentFailed)
    assert (event.reason, event.upload_event_id) == ("STEP_DEADLINE", "e1")
    assert await rig.wired.expire() == 0


async def test_a_deletion_has_no_deadline(rig: Rig):
    await rig.indexed()
    await rig.delete()
    rig.hurry(seconds=1_000_000)
    assert await rig.wired.expire() == 0
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


async def test_progress_needs_a_whole_wait_of_silence(rig: Rig):
    now = time.monotonic()
    progress = Progress(pace=Pace(first_s=60), clock=lambda: now)
    await rig.upload()
    version = await rig.known()
    now += 59
    assert not progress.is_silent(version.state)
    now += 1
    assert progress.is_silent(version.state)
    progress.left(version)
    assert not progress.is_silent(version.state)
