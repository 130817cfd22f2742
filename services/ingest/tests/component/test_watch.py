"""Watchers see every change once they are there, and cost no query while nothing changes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from chassis.base.errors import OverloadedError, UnavailableError
from ingest.domain import State, View
from ingest.usecases.documents import watchers as watching
from ingest.usecases.documents.progress import ProgressEstimates
from ingest.usecases.documents.read_documents import WatchDocuments
from ingest.usecases.documents.watchers import PENDING_MAX, Watcher, Watchers
from services.ingest.tests.conftest import NAME, TENANT, Rig


class Stream:
    """What a watch call has brought so far."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def until(self, arrived: Callable[[list[Any]], bool], within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while not arrived(self.got):
                await asyncio.sleep(0.005)

    @property
    def states(self) -> list[tuple[str, State]]:
        views: list[View] = [view for views in self.got for view in views or ()]
        return [(view.entry.name, view.version.state) for view in views]

    @property
    def subscribed(self) -> int:
        return self.got.count(None)


@asynccontextmanager
async def open_stream(changes: Any) -> AsyncIterator[Stream]:
    stream = Stream()

    async def collect() -> None:
        async with aclosing(changes):
            async for one in changes:
                stream.got.append(one)

    collecting = asyncio.create_task(collect())
    try:
        yield stream
    finally:
        collecting.cancel()
        await asyncio.wait([collecting])


@asynccontextmanager
async def follow(rig: Rig, collection: str = "", tenant: str = TENANT) -> AsyncIterator[Stream]:
    async with open_stream(rig.wired.rpc.watch_many.run(tenant, collection)) as stream:
        await stream.until(lambda got: got[:1] == [None])
        yield stream


async def test_one_stream_brings_the_changes_of_many_documents(rig: Rig):
    async with follow(rig) as stream:
        names = [f"collections/c{number % 2}/documents/{number}" for number in range(6)]
        for name in names:
            await rig.index_version(name=name)
        await stream.until(
            lambda _: (
                {name for name, state in stream.states if state is State.INDEXED} == set(names)
            )
        )
        assert stream.subscribed == 1


async def test_a_stream_of_a_collection_brings_no_other(rig: Rig):
    async with follow(rig, "reports") as stream, follow(rig) as everything:
        await rig.index_version(name="collections/reports2/documents/q3")
        await rig.index_version()
        await everything.until(lambda _: (NAME, State.INDEXED) in everything.states)
        await stream.until(lambda _: (NAME, State.INDEXED) in stream.states)
        assert {name for name, _ in stream.states} == {NAME}


async def test_a_stream_brings_nothing_of_another_tenant(rig: Rig):
    async with follow(rig, tenant="globex") as foreign, follow(rig) as own:
        await rig.index_version()
        await own.until(lambda _: (NAME, State.INDEXED) in own.states)
        assert foreign.states == []


async def test_a_preparation_is_seen_though_no_fact_tells_of_it(rig: Rig):
    await rig.upload()
    async with follow(rig) as stream:
        await rig.prepare()
        await stream.until(lambda _: (NAME, State.PREPARED) in stream.states)


async def test_what_a_watcher_was_not_told_is_found_by_the_second_look(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    await rig.upload()
    monkeypatch.setattr(watching, "RELOAD_S", 0.3)
    monkeypatch.setattr(watching, "TICK_S", 0.05)
    rig.siblings.bus_is_away = True
    # One that starts with these times.
    estimates = ProgressEstimates(sweeper=rig.sweeper)
    watchers = Watchers(begin=rig.begin, feed=rig.siblings, estimates=estimates, limit=10)
    serving = asyncio.create_task(watchers.run())
    many = WatchDocuments(watchers=watchers, estimates=estimates)
    async with (
        open_stream(many.run(TENANT, "")) as stream,
        watchers.join(TENANT, document=NAME) as one,
    ):
        await rig.prepare()
        await rig.searchable()
        seen = State.ACCEPTED
        async with asyncio.timeout(10):
            while seen is not State.INDEXED:
                for view in await one.take() or ():
                    seen = view.version.state
        await stream.until(lambda _: stream.subscribed >= 2)
    serving.cancel()


async def test_a_bus_that_comes_back_is_subscribed_to_and_everything_looked_at(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "TICK_S", 0.05)
    rig.siblings.bus_is_away = True
    async with follow(rig) as stream:
        await asyncio.sleep(1.2)
        assert rig.siblings.changed is None
        rig.siblings.bus_is_away = False
        await stream.until(lambda _: stream.subscribed == 2)
        await rig.index_version()
        await stream.until(lambda _: (NAME, State.INDEXED) in stream.states)


async def test_the_feed_is_open_only_while_somebody_watches(rig: Rig):
    assert rig.siblings.changed is None
    async with follow(rig):
        assert rig.siblings.changed is not None
    async with asyncio.timeout(10):
        while rig.siblings.changed is not None:
            await asyncio.sleep(0.05)


async def test_watchers_are_bounded_for_a_tenant_and_for_all(rig: Rig):
    estimates = ProgressEstimates(sweeper=rig.sweeper)
    watchers = Watchers(begin=rig.begin, feed=rig.siblings, estimates=estimates, limit=4)
    async with watchers.join("a"), watchers.join("a", document=NAME):
        with pytest.raises(OverloadedError) as full:
            async with watchers.join("a", document=NAME):
                pass
        assert full.value.reason == "WATCHERS_FULL"
        async with watchers.join("b"), watchers.join("b"):
            with pytest.raises(OverloadedError):
                async with watchers.join("c"):
                    pass
        async with watchers.join("c"):
            pass
    assert not watchers._watchers


async def test_a_database_that_is_away_delays_changes_and_loses_none(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "RETRY_READ_S", 0.05)
    begin, refusals = rig.begin, 3

    @asynccontextmanager
    async def failing(tenant: str) -> AsyncIterator[Any]:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise UnavailableError("DATABASE_UNAVAILABLE", "away")
        async with begin(tenant) as work:
            yield work

    estimates = ProgressEstimates(sweeper=rig.sweeper)
    watchers = Watchers(begin=failing, feed=rig.siblings, estimates=estimates, limit=4)
    serving = asyncio.create_task(watchers.run())
    many = WatchDocuments(watchers=watchers, estimates=estimates)
    async with open_stream(many.run(TENANT, "")) as stream:
        await stream.until(lambda got: got == [None])
        await rig.index_version()
        await stream.until(lambda _: (NAME, State.INDEXED) in stream.states)
    assert refusals < 0
    serving.cancel()


async def test_a_slow_follower_keeps_a_bounded_number_and_is_told_to_look(rig: Rig):
    await rig.upload()
    view = await rig.get()
    watcher = Watcher()
    for number in range(PENDING_MAX * 2):
        name = f"collections/c/documents/{number}"
        watcher.put(View(entry=type(view.entry)(name=name), version=view.version))
    assert len(watcher.views) <= PENDING_MAX
    assert await watcher.take() is None
    watcher.put(view)
    assert await watcher.take() == [view]
