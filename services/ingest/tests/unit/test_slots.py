"""Slots are bounded, and tenants take turns however many of their documents wait."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.parsing.jail.slots import FairSlots


class Holders:
    """Takes slots that are given back on demand."""

    def __init__(self, slots):
        self.slots = slots
        self.held = []
        self.tasks = []

    def ask(self, tenant, size=1):
        async def hold():
            async with self.slots.acquire(tenant, size):
                done = asyncio.Event()
                self.held.append((tenant, done))
                await done.wait()

        self.tasks.append(asyncio.create_task(hold()))
        return self.tasks[-1]

    def tenants(self):
        return [tenant for tenant, _ in self.held]

    async def give_back(self, tenant):
        held = next(one for one in self.held if one[0] == tenant)
        self.held.remove(held)
        held[1].set()
        await settle()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_tenant_that_keeps_its_slots_leaves_the_others_theirs():
    holders = Holders(FairSlots(each=2, total=4))
    for _ in range(10):
        holders.ask("burner")
    await settle()
    assert holders.tenants() == ["burner"] * 2
    holders.ask("quiet")
    await settle()
    assert holders.tenants() == ["burner", "burner", "quiet"]
    for task in holders.tasks:
        task.cancel()


async def test_tenants_take_turns():
    holders = Holders(FairSlots(each=1, total=1))
    for tenant in ("a", "a", "a", "a", "b", "c", "b"):
        holders.ask(tenant)
    await settle()
    order = []
    while holders.held:
        order += holders.tenants()
        await holders.give_back(order[-1])
    assert order == ["a", "a", "b", "c", "a", "b", "a"]


async def test_slots_may_be_bytes_and_one_that_needs_many_is_not_overtaken():
    holders = Holders(FairSlots(each=60, total=100))
    for tenant, size in (("a", 50), ("b", 40), ("c", 60), ("d", 10), ("a", 10)):
        holders.ask(tenant, size)
    await settle()
    # `d` would fit, but then `c` could wait for ever.
    assert holders.tenants() == ["a", "b"]
    await holders.give_back("b")
    assert holders.tenants() == ["a"]
    await holders.give_back("a")
    assert holders.tenants() == ["c", "d", "a"]
    for task in holders.tasks:
        task.cancel()


async def test_what_needs_more_than_there_is_gets_it_alone():
    holders = Holders(FairSlots(each=60, total=100))
    for tenant, size in (("a", 10), ("b", 150), ("b", 1), ("c", 1)):
        holders.ask(tenant, size)
    await settle()
    assert holders.tenants() == ["a"]
    await holders.give_back("a")
    assert holders.tenants() == ["b"]
    await holders.give_back("b")
    assert sorted(holders.tenants()) == ["b", "c"]
    for task in holders.tasks:
        task.cancel()


async def test_a_waiter_that_goes_away_leaves_its_turn_to_the_next():
    holders = Holders(FairSlots(each=1, total=1))
    first, second, third = (holders.ask(tenant) for tenant in ("a", "b", "c"))
    await settle()
    second.cancel()
    await settle()
    await holders.give_back("a")
    assert holders.tenants() == ["c"]
    assert first.done()
    third.cancel()
    await settle()
    assert not holders.slots._waiting
    assert not holders.slots._used


async def test_a_turn_handed_out_to_one_that_is_cancelled_is_given_on():
    slots = FairSlots(each=1, total=1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(slots.acquire("a"))
        holders = Holders(slots)
        cancelled, waiting = holders.ask("b"), holders.ask("c")
        await settle()
        await stack.aclose()
        cancelled.cancel()
        await settle()
        assert holders.tenants() == ["c"]
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ask", "end", "cancel"]))),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_no_slot_is_lost_and_none_is_given_twice(steps, each, total):
    async def run():
        holders = Holders(FairSlots(each=each, total=total))
        for tenant, step in steps:
            if step == "ask":
                holders.ask(tenant)
            elif step == "end" and tenant in holders.tenants():
                await holders.give_back(tenant)
            elif step == "cancel" and holders.tasks:
                task = holders.tasks.pop(0)
                task.cancel()
                await asyncio.wait([task])
            await settle()
            used = holders.slots._used
            assert used.total() <= total
            assert all(count <= each for count in used.values())
            waits = [t for t in holders.slots._waiting if used[t] < each]
            assert not waits or used.total() == total
        for task in holders.tasks:
            task.cancel()
        await settle()
        assert not holders.slots._waiting
        assert not holders.slots._used

    asyncio.run(run())
