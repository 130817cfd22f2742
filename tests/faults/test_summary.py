"""Faults depend only on the seed; the summary counts the faults in the journal."""

import json
import random
from dataclasses import asdict

import pytest

from chassis.events.topology import ACK_WAIT_S
from tests.faults.injection import STORE_EVERY, STORES, Plan, has_group
from tests.faults.journal import Journal
from tests.faults.report import Report
from tests.faults.summary import kind_of, summarize

PARTS = ["auth", "auth-2", "ingest", "ingest-2", "nats", "postgres", "vectors"]
ACCEPTED = "ingest-DocumentUploaded"


def plan(run: int) -> Plan:
    return Plan.draw(random.Random(f"7-{run}"), run, PARTS)


def test_a_seed_draws_the_same_faults_again():
    assert [plan(run) for run in range(50)] == [plan(run) for run in range(50)]


def test_every_kind_of_fault_is_drawn():
    plans = [plan(run) for run in range(200)]
    stops = [stop for each in plans for stop in each.stops]
    killed = {part for each in plans for part in each.kills}
    assert killed == {part for part, _ in stops} == set(PARTS)
    assert 0.1 < sum(stop_s > ACK_WAIT_S for _, stop_s in stops) / len(stops) < 0.3
    assert max(stop_s for _, stop_s in stops) < 2 * ACK_WAIT_S
    assert {each.lost_store for each in plans} == {"", *STORES}
    assert all(each.lost_store in ("", each.kills[0]) for each in plans)
    assert sum(bool(each.lost_store) for each in plans) == 200 // STORE_EVERY
    assert {each.full[0] for each in plans if each.full} == {"disk", "streams"}


@pytest.mark.parametrize(
    ("part", "pending", "expected"),
    [
        ("ingest", {ACCEPTED: 2}, True),
        ("ingest-2", {ACCEPTED: 16}, True),
        ("nats", {ACCEPTED: 2}, True),
        ("postgres", {"query-ChunksEmbedded": 0, ACCEPTED: 3}, True),
        ("ingest", {ACCEPTED: 1}, False),
        ("query", {ACCEPTED: 9}, False),
        ("vectors", {ACCEPTED: 9}, False),
        ("ingest", None, False),
    ],
)
def test_a_group_in_hand_is_one_of_a_durable_of_the_part(part, pending, expected):
    assert has_group(part, pending) is expected


def noted(tmp_path) -> Report:
    """A run of two kills and a long stop, with an upload, an event and a delete open."""
    journal = Journal(tmp_path / "journal.jsonl")
    for number, kind in enumerate(("upload", "event", "delete")):
        journal.begin(f"{kind}-{number}", kind=kind, document="d")
    journal.note_fault("kill", "ingest", pending={ACCEPTED: 5, "query-X": 0}, lost_store=False)
    journal.end("delete-2", deleted=True)
    journal.note_fault("kill", "nats", pending=None, lost_store=True)
    journal.note_fault("stop", "query-2", pending={}, seconds=12.5)
    journal.note_fault("full", "nats", pending={}, what="disk", seconds=3.0)
    return Report(
        run=0, faults=journal.faults, lost_store="nats", accepted=4, decided=2, settle_s=3.0
    )


def test_the_journal_notes_what_was_in_flight(tmp_path):
    first, second, stop, _ = noted(tmp_path).faults
    assert (first["in_flight"], first["open_uploads"], first["pending"]) == (3, 2, {ACCEPTED: 5})
    assert (second["in_flight"], second["open_uploads"], second["pending"]) == (2, 2, None)
    assert (stop["part"], stop["seconds"]) == ("query-2", 12.5)
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [line["part"] for line in lines if "fault" in line] == [
        *("ingest", "nats", "query-2", "nats")
    ]


def test_the_summary_counts(tmp_path):
    report = noted(tmp_path)
    report.deleted_tenant, report.outsider_answers = "passing-0", 9
    report.violations = ["lost: a", "not deleted: b", "order: c", "two live versions: d"]
    summary = summarize(7, [report], ACK_WAIT_S)
    assert (summary.runs, summary.counted, summary.uploads) == (1, 1, 4)
    assert (summary.kills, summary.group_kills, summary.open_uploads) == (2, 1, 4)
    assert (summary.stops, summary.long_stops, summary.stores_deleted) == (1, 1, 1)
    assert (summary.decided, summary.broker_full) == (2, 1)
    assert (summary.tenants_deleted, summary.limited_searches) == (1, 9)
    assert (summary.lost, summary.order, summary.other, summary.violations) == (2, 1, 1, 4)


def test_a_run_with_a_fault_while_nothing_was_in_flight_is_not_counted(tmp_path):
    report = noted(tmp_path)
    report.faults[1]["in_flight"] = 0
    assert summarize(7, [report], ACK_WAIT_S).counted == 0


def test_the_table_holds_every_figure(tmp_path):
    summary = summarize(7, [noted(tmp_path)], ACK_WAIT_S)
    names, dashes, figures = summary.table().splitlines()
    assert len(names) == len(dashes) == len(figures)
    assert names.count("|") == figures.count("|") == len(asdict(summary)) + 1
    assert "12.5" not in figures
    assert "3.0 s" in figures


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("lost: x", "lost"),
        ("found though deleted: x", "lost"),
        ("doubled: 2 points at y", "doubled"),
        ("stuck: v1 is PREPARED", "stuck"),
        ("order: d: v1 is live, though z", "order"),
        ("shown: x to a key without its label", "shown"),
        ("incomplete: chunks", "other"),
    ],
)
def test_each_violation_has_its_column(line, kind):
    assert kind_of(line) == kind
