"""Where a document stands in the line of its tenant, and how long that takes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.base.errors import UnavailableError
from ingest.domain import State, View
from ingest.usecases.documents import watchers as watching
from ingest.usecases.documents.progress import RATE_MIN_COUNT, RATE_S, Progress, ProgressEstimates
from services.ingest.tests.conftest import TENANT, Rig

DOCUMENTS = 100
NAMES = [f"collections/c/documents/{number:03}" for number in range(DOCUMENTS)]


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def waiting(rig: Rig) -> list[View]:
    """Documents that wait, in the order of their acceptance, and some of another tenant."""
    views = [await rig.upload(name=name) for name in NAMES]
    for number in range(10):
        await rig.upload(name=f"collections/c/documents/{number}", tenant="globex")
    return views


@pytest.fixture
async def estimates(rig: Rig, clock: Clock, waiting: list[View]) -> ProgressEstimates:
    estimates = ProgressEstimates(sweeper=rig.sweeper, clock=clock)
    await estimates.measure()
    return estimates


def find(estimates: ProgressEstimates, view: View) -> Progress:
    progress = estimates.find(TENANT, view.version.accepted_at)
    assert progress is not None
    return progress


def finish(estimates: ProgressEstimates, clock: Clock, *, each_s: float, count: int) -> None:
    for _ in range(count):
        clock.now += each_s
        estimates.note_finished(TENANT)


async def test_a_document_stands_behind_those_accepted_before_it(
    estimates: ProgressEstimates, waiting: list[View]
):
    for number in (0, 1, 25, 60, DOCUMENTS - 1):
        progress = find(estimates, waiting[number])
        assert abs(progress.ahead - number) <= DOCUMENTS / 50 + 1
        assert progress.ahead_overall == progress.ahead
    last = estimates.find_last(TENANT)
    assert (last.ahead, last.ahead_overall) == (DOCUMENTS, DOCUMENTS + 10)
    assert estimates.find_last("globex").ahead == 10


async def test_the_time_follows_the_rate_of_the_tenant(
    estimates: ProgressEstimates, clock: Clock, waiting: list[View]
):
    finish(estimates, clock, each_s=0.1, count=50)
    for number in (10, 60, DOCUMENTS - 1):
        remaining_s = find(estimates, waiting[number]).remaining_s
        assert remaining_s == pytest.approx(number / 10, rel=0.5, abs=0.7)
    # The rate is that of the last seconds.
    finish(estimates, clock, each_s=1.0, count=int(RATE_S) + 5)
    assert find(estimates, waiting[60]).remaining_s == pytest.approx(60, rel=0.2)


async def test_nothing_is_said_before_enough_is_known(
    estimates: ProgressEstimates, clock: Clock, waiting: list[View]
):
    assert find(estimates, waiting[9]).remaining_s is None
    finish(estimates, clock, each_s=0.01, count=RATE_MIN_COUNT)
    assert find(estimates, waiting[9]).remaining_s is None
    clock.now += RATE_S * 2
    assert find(estimates, waiting[9]).remaining_s is None


async def test_an_idle_time_does_not_count_as_a_slow_one(
    rig: Rig, estimates: ProgressEstimates, clock: Clock
):
    rig.rows.execute("UPDATE versions SET state = 'INDEXED', step_due_at = NULL")
    await estimates.measure()
    assert estimates.find_last(TENANT) == Progress(ahead=0, ahead_overall=0, remaining_s=0.0)
    clock.now += 5.0
    await rig.upload(name="collections/c/documents/next")
    await estimates.measure()
    finish(estimates, clock, each_s=0.1, count=40)
    assert estimates.find_last(TENANT).remaining_s == pytest.approx(0.2, abs=0.05)


async def test_what_came_after_the_count_has_no_estimate_yet(
    rig: Rig, estimates: ProgressEstimates
):
    late = await rig.upload(name="collections/c/documents/late")
    assert estimates.find(TENANT, late.version.accepted_at) is None
    await estimates.measure()
    assert find(estimates, late).ahead == DOCUMENTS


async def test_a_watcher_hears_its_progress_until_the_end(
    rig: Rig, waiting: list[View], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "PROGRESS_S", 0.05)
    heard: list[tuple[State, Progress | None]] = []

    async def watch() -> None:
        async for view, progress in rig.wired.rpc.watch.run(TENANT, NAMES[-1], progress=True):
            heard.append((view.version.state, progress))

    watcher = asyncio.create_task(watch())
    async with asyncio.timeout(20):
        while not any(progress for _, progress in heard):
            await asyncio.sleep(0.01)
        await rig.index_version(name=NAMES[-1])
        await watcher
    assert heard[-1] == (State.INDEXED, None)
    [progress] = [one for _, one in heard if one is not None][:1]
    assert progress.ahead == pytest.approx(DOCUMENTS - 1, abs=DOCUMENTS / 50)


async def test_a_watcher_of_many_hears_of_all_that_wait(
    rig: Rig, waiting: list[View], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "PROGRESS_S", 0.05)

    async def first(news: AsyncIterator[object]) -> Progress:
        async for one in news:
            if isinstance(one, Progress):
                return one
        raise AssertionError

    async with asyncio.timeout(20):
        progress = await first(rig.wired.rpc.watch_many.run(TENANT, "", progress=True))
    assert progress.ahead == DOCUMENTS


async def test_nothing_is_counted_for_watchers_that_do_not_ask(
    rig: Rig, waiting: list[View], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "PROGRESS_S", 0.01)
    counted: list[str] = []
    measure = type(rig.sweeper).measure_lines

    async def measure_lines() -> object:
        counted.append("")
        if len(counted) == 1:
            raise UnavailableError("DATABASE_UNAVAILABLE", "away")
        return await measure(rig.sweeper)

    monkeypatch.setattr(rig.sweeper, "measure_lines", measure_lines)
    plain = rig.wired.rpc.watch.run(TENANT, NAMES[0])
    await anext(plain)
    await asyncio.sleep(0.2)
    assert counted == []
    # A database that is away delays it only.
    asking = rig.wired.rpc.watch.run(TENANT, NAMES[0], progress=True)
    async with asyncio.timeout(10):
        while (await anext(asking))[1] is None:
            pass
    assert len(counted) >= 2
    await plain.aclose()
    await asking.aclose()
