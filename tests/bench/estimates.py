"""How near the estimate of a watched document is to the time that it really took."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aquifer.ingest.v1.ingest_service_pb2 import WatchDocumentRequest
from aquifer_cli.client import Client, open_client
from aquifer_cli.outcome import Outcome
from aquifer_cli.upload import send
from tests.bench.corpus import Corpus
from tests.bench.figures import Aim, Figure, Row, median, quantile
from tests.bench.running_stack import make_folder, run_stack
from tests.bench.upload import items_of

NAME = "estimates"
TITLE = "estimated time until searchable, during an import"
WATCHED_EACH = 5
WATCH_S = 590.0
FACTOR = 2.0


@dataclass(slots=True)
class Watched:
    """Estimates of one document, each with the time it came, and the end."""

    estimates: list[tuple[float, float]] = field(default_factory=list)
    ended_at: float = 0.0

    def list_ratios(self) -> list[float]:
        """Estimated to real time, of each estimate."""
        return [remaining_s / max(self.ended_at - at, 1e-3) for at, remaining_s in self.estimates]


def measure(corpus: Corpus) -> Figure:
    """An import into an empty stack; every fifth document is watched once it is accepted."""
    with make_folder() as folder, run_stack(folder, {}) as running:

        async def watch_import() -> list[Watched]:
            async with open_client(running.endpoints) as client:
                return await _watch_import(client, corpus)

        watched = asyncio.run(watch_import())
    ratios = [one.list_ratios() for one in watched]
    first = [each[0] for each in ratios if each]
    return Figure(
        name=NAME,
        title=TITLE,
        rows=[
            _share("documents whose first estimate was within 2x", first, len(watched)),
            _share("all estimates within 2x", [one for each in ratios for one in each], 0),
        ],
    )


async def _watch_import(client: Client, corpus: Corpus) -> list[Watched]:
    items = items_of(corpus.lines, NAME)
    chosen = {item.path for item in items[::WATCHED_EACH]}
    watching: list[asyncio.Task[Watched]] = []

    def on_accepted(outcome: Outcome) -> None:
        if outcome.path in chosen:
            watching.append(asyncio.ensure_future(_watch(client, outcome.document)))

    await send(client, items, wait=True, on_done=lambda _: None, on_accepted=on_accepted)
    return list(await asyncio.gather(*watching))


async def _watch(client: Client, document: str) -> Watched:
    watched = Watched()
    request = WatchDocumentRequest(name=document, progress=True)
    call = client.ingest.WatchDocument(
        request, timeout=WATCH_S, metadata=await client.credentials()
    )
    async for response in call:
        watched.ended_at = time.monotonic()
        if response.progress.HasField("remaining"):
            remaining_s = response.progress.remaining.ToMilliseconds() / 1e3
            watched.estimates.append((watched.ended_at, remaining_s))
    return watched


def _share(name: str, ratios: Sequence[float], of: int) -> Row:
    near = sum(1 / FACTOR <= ratio <= FACTOR for ratio in ratios)
    ordered = sorted(ratios or [0.0])
    low, high = quantile(ordered, 0.05), quantile(ordered, 0.95)
    without = f", {of - len(ratios)} of {of} watched were final before one" if of else ""
    return Row(
        name=name,
        value=100 * near / max(len(ratios), 1),
        unit="%",
        aim=Aim(sense=">=", limit=80),
        note=f"{len(ratios)} estimates{without}; estimated to real time: median"
        f" {median(ordered):.2f}, p5 {low:.2f}, p95 {high:.2f}",
    )
