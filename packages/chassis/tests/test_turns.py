"""Tenants share what leaves in proportion to their weights, over any number of releases."""

from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.events.turns import Turns


class Line:
    """The events that wait, and the rule of the outbox's statement for which of them leave."""

    def __init__(self, weights):
        self.turns = Turns(weights)
        self.waiting = []
        self.places = count()

    def put(self, tenant, events=1):
        self.waiting += [(tenant, next(self.places)) for _ in range(events)]

    def release(self, limit):
        columns = self.turns.columns()
        starts = dict(zip(columns.tenants, columns.starts, strict=True))
        weights = dict(zip(columns.tenants, columns.weights, strict=True))
        turn, ordered = Counter(), []
        for tenant, place in self.waiting:
            start = starts.get(tenant, columns.level) + turn[tenant] / weights.get(tenant, 1)
            ordered.append((start, place, tenant))
            turn[tenant] += 1
        chosen = sorted(ordered)[:limit]
        gone = {place for _, place, _ in chosen}
        self.waiting = [one for one in self.waiting if one[1] not in gone]
        left = [(tenant, start) for start, _, tenant in chosen]
        self.turns.leave(left, emptied=len(chosen) < limit)
        return [tenant for _, _, tenant in chosen]


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_shares_are_in_proportion_to_the_weights(limit):
    line = Line({"acme": 4.0, "trial": 0.5})
    for tenant in ("acme", "globex", "trial"):
        line.put(tenant, 400)
    left = Counter()
    while left.total() < 220:
        left.update(line.release(limit))
    assert abs(left["acme"] - 160) <= 8
    assert abs(left["globex"] - 40) <= 4
    assert abs(left["trial"] - 20) <= 3


def test_a_newcomer_waits_for_nobodys_past_and_an_absent_one_saves_nothing_up():
    line = Line({})
    line.put("acme", 100)
    line.put("globex", 100)
    for _ in range(40):
        line.release(1)
    line.put("newcomer", 100)
    left = Counter(line.release(1)[0] for _ in range(30))
    assert {abs(number - 10) <= 1 for number in left.values()} == {True}


def test_nothing_is_kept_of_tenants_when_nobody_waits():
    line = Line({})
    for number in range(1000):
        line.put(f"tenant {number}")
        line.release(2)
    assert line.turns.columns().tenants == []


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 5)), min_size=1, max_size=30),
    st.integers(1, 5),
    st.fixed_dictionaries({"a": st.floats(0.01, 100)}),
)
def test_everything_leaves_and_each_tenant_in_its_order(puts, limit, weights):
    line = Line(weights)
    left = Counter()
    for tenant, events in puts:
        line.put(tenant, events)
        left.update(line.release(limit))
    while line.waiting:
        assert len(line.turns.columns().tenants) <= 4
        left.update(line.release(limit))
    wanted = Counter()
    for tenant, events in puts:
        wanted[tenant] += events
    assert left == wanted
