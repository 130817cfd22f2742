"""Hybrid searches of one vector process with 100,000 points, quiet and while others write."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from query.retrieval.vector_store import Probe, TenantScope
from query.vectors.engine_client import EngineVectors, open_channel
from tests.bench import floors, processes
from tests.bench.corpus import Corpus
from tests.bench.figures import Aim, Figure, Row, quantile
from tests.bench.made_points import (
    BATCH,
    CONDITION,
    DIMENSIONS,
    SEARCHES,
    PointMaker,
    make_probes,
)
from tests.bench.running_stack import make_folder

NAME = "vectors"
TITLE = "vectors: hybrid searches of the vector process, one client, no embedding"
PROFILE: Final = "bench"
ROUNDS: Final = 3
WRITTEN: Final = 32
# Batches with these numbers are written again and removed while searches run.
SPARE_BATCHES: Final = 100
START_S: Final = 60
DELAY_MAX_MS: Final = 100.0
NOTES: Final = {
    "filtered": f"one of 4 collections, {CONDITION}, without the labels that the caller lacks",
    "whole tenant": "three quarters of all points",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """Seconds of each search, processor time of the process, writes that ran beside."""

    each_s: Sequence[float]
    cpu_s: float = 0.0
    wall_s: float = 0.0
    written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of a filled process, by kind of search."""

    filled_s: float
    encoded_s: float
    memory_mib: float
    quiet: Mapping[str, Searched]
    busy: Mapping[str, Searched]


def measure(corpus: Corpus, points: int) -> Figure:
    """Fills a process with so many points, searches it, and then its stopped folder in process."""
    questions = [text for _, text in corpus.queries]
    with make_folder() as folder:
        with _run_process(folder) as pid:
            measured = asyncio.run(_measure(folder, pid, corpus, points))
        bare = floors.ask(
            NAME, vectors=str(folder / "data" / PROFILE), questions=questions, rounds=ROUNDS
        )
    return Figure(name=NAME, title=TITLE, rows=_rows(points, measured, bare))


@contextmanager
def _run_process(folder: Path) -> Iterator[int]:
    """A vector process as the stack starts it; its process id."""
    command = [sys.executable, "-m", "query.vectors", "--socket", str(folder / "socket")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data", str(folder / "data")],
            stdout=log,
            stderr=log,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(START_S)


async def _measure(folder: Path, pid: int, corpus: Corpus, points: int) -> Measured:
    maker = PointMaker(corpus.lines)
    questions = [text for _, text in corpus.queries]
    async with open_channel(f"unix:{folder / 'socket'}") as channel:
        async with asyncio.timeout(START_S):
            await channel.channel_ready()
        store = EngineVectors(channel, profile=PROFILE, dimensions=DIMENSIONS)
        await store.prepare()
        started, encoded_s = time.perf_counter(), 0.0
        for number in range(points // BATCH):
            made_at = time.perf_counter()
            scope, batch = maker.make_batch(number)
            encoded_s += time.perf_counter() - made_at
            await store.upsert(scope, batch)
        filled_s = time.perf_counter() - started - encoded_s
        memory_mib = processes.memory(pid).total
        quiet: dict[str, Searched] = {}
        busy: dict[str, Searched] = {}
        for name, (scope, within) in SEARCHES.items():
            probes = list(make_probes(questions, within))
            await _search(store, scope, probes, 1, pid)
            quiet[name] = await _search(store, scope, probes, ROUNDS, pid)
            busy[name] = await _search_during_writes(store, scope, probes, maker, points, pid)
    return Measured(
        filled_s=filled_s, encoded_s=encoded_s, memory_mib=memory_mib, quiet=quiet, busy=busy
    )


async def _search(
    store: EngineVectors, scope: TenantScope, probes: Sequence[Probe], rounds: int, pid: int
) -> Searched:
    each_s = []
    cpu, started = processes.cpu_s(pid), time.perf_counter()
    for _ in range(rounds):
        for probe in probes:
            asked_at = time.perf_counter()
            await store.search(scope, probe)
            each_s.append(time.perf_counter() - asked_at)
    return Searched(
        each_s=each_s,
        cpu_s=processes.cpu_s(pid) - cpu,
        wall_s=time.perf_counter() - started,
    )


async def _search_during_writes(
    store: EngineVectors,
    scope: TenantScope,
    probes: Sequence[Probe],
    maker: PointMaker,
    points: int,
    pid: int,
) -> Searched:
    """Searches while another client writes and removes batches, one call after the other."""
    first = points // BATCH
    spare = [maker.make_batch(first + n, size=WRITTEN) for n in range(SPARE_BATCHES)]
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            for owner, batch in spare:
                await store.upsert(owner, batch)
                written += len(batch)
            for owner, batch in spare:
                await store.delete_points(owner, [point.point_id for point in batch])

    writing = asyncio.create_task(write())
    searched = await _search(store, scope, probes, ROUNDS, pid)
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    return Searched(each_s=searched.each_s, wall_s=searched.wall_s, written=written)


def _rows(points: int, measured: Measured, bare: Mapping[str, Any]) -> list[Row]:
    rows = []
    for name, quiet in measured.quiet.items():
        for label, share in (("p50", 0.5), ("p95", 0.95)):
            rows.append(_compare(name, label, share, quiet.each_s, bare[name]["each_s"]))
        rows.append(Row(name=f"{name}, longest", value=max(quiet.each_s) * 1e3, unit="ms"))
        cpu_ms = quiet.cpu_s / len(quiet.each_s) * 1e3
        floor_ms = bare[name]["cpu_s"] / len(bare[name]["each_s"]) * 1e3
        rows.append(
            Row(
                name=f"{name}, processor time of the process",
                value=cpu_ms,
                unit="ms/search",
                floor=floor_ms,
                ratio=cpu_ms / floor_ms,
            )
        )
        rows += _busy_rows(name, quiet, measured.busy[name])
    return [*rows, *_filling_rows(points, measured)]


def _compare(
    name: str, label: str, share: float, found: Sequence[float], bare: Sequence[float]
) -> Row:
    value, floor = quantile(found, share) * 1e3, quantile(bare, share) * 1e3
    aimed = name == "filtered" and label == "p95"
    return Row(
        name=f"{name}, {label}",
        value=value,
        unit="ms",
        floor=floor,
        ratio=value / floor,
        aim=Aim(sense="<=", limit=25) if aimed else None,
        note=NOTES[name] if label == "p50" else "",
    )


def _busy_rows(name: str, quiet: Searched, busy: Searched) -> list[Row]:
    value, floor = quantile(busy.each_s, 0.95) * 1e3, quantile(quiet.each_s, 0.95) * 1e3
    delays_ms = [(each - quantile(quiet.each_s, 0.5)) * 1e3 for each in busy.each_s]
    delayed = sum(each > DELAY_MAX_MS for each in delays_ms)
    note = f"{delayed} of {len(delays_ms)} searches by over {DELAY_MAX_MS:g} ms"
    return [
        Row(
            name=f"{name}, during writes, p95",
            value=value,
            unit="ms",
            floor=floor,
            ratio=value / floor,
            note=f"batches of {WRITTEN}, {busy.written / busy.wall_s:,.0f} points a second written"
            " and as many removed; floor: quiet",
        ),
        Row(
            name=f"{name}, during writes, longest delay",
            value=max(delays_ms),
            unit="ms",
            aim=Aim(sense="<=", limit=DELAY_MAX_MS),
            note=f"above the quiet median; {note}",
        ),
    ]


def _filling_rows(points: int, measured: Measured) -> list[Row]:
    stored = points // BATCH * BATCH
    return [
        Row(
            name="points written a second",
            value=stored / measured.filled_s,
            unit="1/s",
            note=f"{stored:,} points in batches of {BATCH}; their terms took"
            f" {measured.encoded_s:.0f} s more",
        ),
        Row(name="memory of the process", value=measured.memory_mib, unit="MiB"),
    ]
