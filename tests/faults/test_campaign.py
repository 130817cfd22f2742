"""Kills under load: `AQUIFER_FAULT_RUNS` runs, 8 by default."""

import asyncio
import os

import pytest

from tests.faults.injection import has_group

RUNS = int(os.environ.get("AQUIFER_FAULT_RUNS", "8"))
COUNTED_MIN = 0.8
GROUPED_MIN = 0.25


@pytest.mark.timeout(420)
@pytest.mark.parametrize("number", range(RUNS))
def test_nothing_is_lost_doubled_or_stuck(campaign, number):
    report = asyncio.run(campaign.run(number))
    print(report.line())  # noqa: T201
    assert report.violations == []


def test_most_runs_had_an_operation_in_flight_at_each_kill(campaign):
    kills = campaign.journal.kills()
    assert len(kills) >= RUNS
    assert sum(bool(kill["in_flight"]) for kill in kills) >= COUNTED_MIN * len(kills)


def test_kills_hit_groups_of_events_in_hand(campaign):
    """A good part of the kills hit a part that was handling several events of one durable."""
    kills = campaign.journal.kills()
    grouped = [has_group(kill["part"], kill["pending"]) for kill in kills]
    assert sum(grouped) >= GROUPED_MIN * len(kills)
