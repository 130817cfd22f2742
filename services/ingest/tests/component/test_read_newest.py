"""Reads for many callers share queries, and use one connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chassis.base.errors import UnavailableError
from ingest.usecases.documents.read_newest import READ_MAX, ReadNewest
from services.ingest.tests.conftest import NAME, TENANT, Rig


class Counted:
    """Begins units of work, and counts them."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.begun = self.open = self.most = self.failing = 0

    @asynccontextmanager
    async def __call__(self, tenant: str, deliveries: Any = ()) -> AsyncIterator[Any]:
        self.begun += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if self.failing:
                self.failing -= 1
                raise UnavailableError("DATABASE_UNAVAILABLE", "away")
            async with self.rig.begin(tenant) as work:
                yield work
        finally:
            self.open -= 1


@pytest.fixture
def counted(rig: Rig) -> Counted:
    return Counted(rig)


async def test_a_thousand_callers_share_a_few_queries_one_at_a_time(rig: Rig, counted: Counted):
    await rig.upload()
    await rig.upload(name="collections/c/documents/other", tenant="globex")
    read = ReadNewest(begin=counted)
    names = [NAME, *(f"collections/c/documents/{number}" for number in range(READ_MAX))]
    calls = [read.run(TENANT, names[number % len(names)]) for number in range(1_000)]
    calls += [read.run("globex", "collections/c/documents/other") for _ in range(10)]
    views = await asyncio.gather(*calls)
    assert views[0] is not None
    assert (views[0].entry.name, views[1]) == (NAME, None)
    assert all(view is not None for view in views[1_000:])
    assert (counted.begun, counted.most) == (3, 1)
    assert not read._next


async def test_what_is_asked_while_a_query_runs_is_read_after_it(rig: Rig, counted: Counted):
    read = ReadNewest(begin=counted)
    first = asyncio.ensure_future(read.run(TENANT, NAME))
    while not counted.begun:
        await asyncio.sleep(0)
    await rig.upload()
    assert await read.run(TENANT, NAME) is not None
    await first
    assert counted.begun == 2


async def test_a_failure_reaches_those_that_shared_the_query_and_no_others(
    rig: Rig, counted: Counted
):
    await rig.upload()
    read, counted.failing = ReadNewest(begin=counted), 1
    results = await asyncio.gather(
        *(read.run(TENANT, NAME) for _ in range(3)), return_exceptions=True
    )
    assert [type(one) for one in results] == [UnavailableError] * 3
    assert await read.run(TENANT, NAME) is not None


async def test_a_caller_that_leaves_takes_nothing_from_the_others(rig: Rig, counted: Counted):
    await rig.upload()
    read = ReadNewest(begin=counted)
    calls = [asyncio.ensure_future(read.run(TENANT, NAME)) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    assert all(await asyncio.gather(*calls[1:]))
