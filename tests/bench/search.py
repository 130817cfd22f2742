"""Search latency at the client, over the same work done in one process without a hop."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aquifer_cli import ask as asking
from aquifer_cli.client import open_client
from tests.bench import floors
from tests.bench.corpus import Corpus
from tests.bench.figures import Figure, Row, median, quantile
from tests.bench.house import House

NAME = "search"
TITLE = "search: gRPC client to hits with their text"
SIDE_BY_SIDE = (1, 4)
LIMIT = 10
WARM = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """Latency of each query in seconds, and how long all of them took."""

    each_s: Sequence[float]
    wall_s: float


async def run(house: House, corpus: Corpus, collection: str) -> dict[int, Searched]:
    """Every query, one at a time and four at a time."""
    async with open_client(house.endpoints) as client:

        async def one(text: str) -> float:
            started = time.perf_counter()
            await asking.search(client, text, collection=collection, limit=LIMIT)
            return time.perf_counter() - started

        texts = [text for _, text in corpus.queries]
        await floors.side_by_side_each(one, texts[:WARM], 1)
        found = {}
        for count in SIDE_BY_SIDE:
            started = time.perf_counter()
            each_s = await floors.side_by_side_each(one, texts, count)
            found[count] = Searched(each_s=each_s, wall_s=time.perf_counter() - started)
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
        ("search", "bare hybrid search, 200 of each list with vectors"),
        ("plain", "bare dense search, top 10"),
    ):
        value = median(floor[1][part]) * 1e3
        rows.append(Row(name=f"floor: {label}, p50", value=value, unit="ms"))
    return Figure(name=NAME, title=TITLE, rows=rows)
