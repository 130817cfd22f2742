"""Search latency at the client, compared with the same work in one process."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aquifer_cli import ask as asking
from aquifer_cli.client import open_client
from tests.bench import floors, processes
from tests.bench.corpus import Corpus
from tests.bench.figures import Figure, Row, median, quantile
from tests.bench.running_stack import RunningStack

NAME = "search"
TITLE = "search: gRPC client to hits with their text"
SIDE_BY_SIDE = (1, 4)
LIMIT = 10
WARM = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """Latency of each query in seconds, how long all took, processor time by part."""

    each_s: Sequence[float]
    wall_s: float
    cpu_s: Mapping[str, float]


async def run(running: RunningStack, corpus: Corpus, collection: str) -> dict[int, Searched]:
    """Every query, one at a time and four at a time."""
    async with open_client(running.endpoints) as client:

        async def one(text: str) -> float:
            started = time.perf_counter()
            await asking.search(client, text, collections=[collection], limit=LIMIT)
            return time.perf_counter() - started

        pids = processes.of(running.stack)
        await floors.side_by_side_each(one, [text for _, text in corpus.queries[:WARM]], 1)
        found = {}
        for count in SIDE_BY_SIDE:
            # A question that was asked before is not embedded again; a blank makes it another one.
            texts = [text + " " * count for _, text in corpus.queries]
            before, started = processes.cpu_by_part(pids), time.perf_counter()
            each_s = await floors.side_by_side_each(one, texts, count)
            wall_s, after = time.perf_counter() - started, processes.cpu_by_part(pids)
            cpu_s = {part: after[part] - before[part] for part in pids}
            found[count] = Searched(each_s=each_s, wall_s=wall_s, cpu_s=cpu_s)
    return found


def bare(vectors: Path, tenant: str, corpus: Corpus, collection: str) -> dict[int, dict[str, Any]]:
    """The same queries on the same points, the stack stopped, engine and store in one process."""
    return {
        count: floors.ask(
            "search",
            vectors=str(vectors),
            tenant=tenant,
            collection=collection,
            queries=[text for _, text in corpus.queries],
            side_by_side=count,
        )
        for count in SIDE_BY_SIDE
    }


def figure(found: dict[int, Searched], floor: dict[int, dict[str, Any]]) -> Figure:
    """p50 and p95 over their floors, and what the floor is made of."""
    rows = []
    for count, searched in found.items():
        for label, share in (("p50", 0.5), ("p95", 0.95)):
            value = quantile(searched.each_s, share) * 1e3
            under = quantile(floor[count]["both"], share) * 1e3
            rows.append(
                Row(
                    name=f"{label}, {count} at a time",
                    value=value,
                    unit="ms",
                    floor=under,
                    ratio=value / under,
                    note="floor: bare embedding of the query and the same hybrid search",
                )
            )
        rows.append(
            Row(
                name=f"queries a second, {count} at a time",
                value=len(searched.each_s) / searched.wall_s,
                unit="1/s",
            )
        )
    for part, label in (
        ("embed", "bare embedding of a query"),
        ("search", "bare hybrid search, 200 of each list, fused"),
        ("plain", "bare dense search, top 10"),
    ):
        value = median(floor[1][part]) * 1e3
        rows.append(Row(name=f"floor: {label}, p50", value=value, unit="ms"))
    return Figure(name=NAME, title=TITLE, rows=[*rows, *_cpu_rows(found.values(), floor)])


def _cpu_rows(found: Iterable[Searched], floor: dict[int, dict[str, Any]]) -> list[Row]:
    """Processor time of each part for a query, dearest first, and their sum over the floor's."""
    runs = list(found)
    queries = sum(len(run.each_s) for run in runs)
    by_part = {part: sum(run.cpu_s[part] for run in runs) / queries * 1e6 for part in runs[0].cpu_s}
    bare = sum(each["cpu_s"] for each in floor.values()) / queries * 1e6
    whole = sum(by_part.values())
    rows = [
        Row(name=f"CPU of {part}", value=value, unit="us/query") for part, value in by_part.items()
    ]
    total = Row(
        name="CPU of everything",
        value=whole,
        unit="us/query",
        floor=bare,
        ratio=whole / bare,
        note="floor: the bare process, plain search included",
    )
    return [total, *sorted(rows, key=lambda row: -row.value)]
