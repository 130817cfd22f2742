"""Throughput and search latency while a stack grows to 50,000 documents."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from aquifer_cli import ask as asking
from aquifer_cli.client import Client, open_client
from aquifer_cli.upload import send
from tests.bench.ceiling import SETTINGS
from tests.bench.corpus import Corpus, generate
from tests.bench.figures import Aim, Figure, Row, median, quantile, spread
from tests.bench.running_stack import make_folder, run_stack
from tests.bench.upload import items_of

NAME = "growth"
TITLE = "growth: null embedder, one tenant, everything else as it is"
COLLECTION = "growth"
FEW = 250
PASSES = 3
PASS = 1_000
LIMIT = 10
ROUNDS = 3

_ROUND = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """At `documents` stored: documents a second of each pass, seconds of each search."""

    documents: int
    rates: Sequence[float]
    searches_s: Sequence[float]


def measure(sizes: Sequence[int]) -> Figure:
    """Imports and searches when so many documents are stored, in ascending order."""
    corpus = generate(sizes[-1] + PASSES * PASS)
    with make_folder() as folder, run_stack(folder, SETTINGS) as running:

        async def grow() -> list[Stage]:
            async with open_client(running.endpoints) as client:
                return await _grow(client, corpus, sizes)

        few, *stages = asyncio.run(grow())
    return Figure(name=NAME, title=TITLE, rows=[*_rates(stages), *_latencies(few, stages)])


async def _grow(client: Client, corpus: Corpus, sizes: Sequence[int]) -> list[Stage]:
    stored = await _import(client, corpus, 0, FEW)
    stages = [Stage(documents=stored, rates=(), searches_s=await _search(client, corpus))]
    for size in sizes:
        stored = await _import(client, corpus, stored, size)
        rates = []
        for _ in range(PASSES):
            started = time.perf_counter()
            stored = await _import(client, corpus, stored, stored + PASS)
            rates.append(PASS / (time.perf_counter() - started))
        searches = await _search(client, corpus)
        stages.append(Stage(documents=size, rates=rates, searches_s=searches))
    return stages


async def _import(client: Client, corpus: Corpus, first: int, last: int) -> int:
    """Sends documents and waits until they are searchable; returns how many are stored now."""
    if last > first:
        items = items_of(corpus.lines[first:last], COLLECTION)
        outcomes = await send(client, items, wait=True, on_done=lambda _: None)
        failed = [one for one in outcomes if one.state != "INDEXED"]
        assert not failed, failed[:3]
    return max(first, last)


async def _search(client: Client, corpus: Corpus) -> list[float]:
    """Every question, one at a time, after one round that is not counted."""
    took = []
    for _ in range(1 + ROUNDS):
        # A question that was asked before is not embedded again; blanks make it another one.
        blanks = " " * next(_ROUND)
        for _, text in corpus.queries:
            started = time.perf_counter()
            await asking.search(client, text + blanks, collections=[COLLECTION], limit=LIMIT)
            took.append(time.perf_counter() - started)
    return took[len(corpus.queries) :]


def _rates(stages: Sequence[Stage]) -> list[Row]:
    first = median(stages[0].rates)
    return [
        Row(
            name=f"documents a second, at {stage.documents:,}",
            value=median(stage.rates),
            unit="1/s",
            spread=spread(stage.rates),
            floor=first,
            ratio=median(stage.rates) / first,
            aim=Aim(sense=">=", limit=0.9, of="ratio"),
            note=f"{PASSES} imports of {PASS:,}; floor column: at {stages[0].documents:,}",
        )
        for stage in stages
    ]


def _latencies(few: Stage, stages: Sequence[Stage]) -> list[Row]:
    rows = []
    for label, share in (("p50", 0.5), ("p95", 0.95)):
        first = quantile(few.searches_s, share) * 1e3
        for stage in (few, *stages):
            value = quantile(stage.searches_s, share) * 1e3
            rows.append(
                Row(
                    name=f"search {label}, at {stage.documents:,}",
                    value=value,
                    unit="ms",
                    floor=first,
                    ratio=value / first,
                    aim=Aim(sense="<=", limit=1.3, of="ratio") if label == "p95" else None,
                    note=f"floor column: at {few.documents}; no model embeds the question",
                )
            )
    return rows
