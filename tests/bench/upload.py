"""A collection sent through the public interface, timed until every document is final."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aquifer.ingest.v1.document_pb2 import Document
from aquifer_cli import documents as listing
from aquifer_cli import upload as uploading
from aquifer_cli.client import Client, open_client
from tests.bench import processes
from tests.bench.corpus import Corpus
from tests.bench.house import House

LIST_S = 0.05
WAIT_S = 300.0


class UnfinishedError(Exception):
    """Documents of which nobody knows what became: a figure without them would flatter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """One pass over a collection.

    `documents` became searchable, `lost` did not, by reason; `cpu_s` is processor time by part.
    """

    documents: int
    lost: Mapping[str, int]
    wall_s: float
    cpu_s: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Documents a second, from the first byte sent to the last document searchable."""
        return self.documents / self.wall_s


async def upload(house: House, corpus: Corpus, collection: str, folder: Path) -> Uploaded:
    """Sends every document as `aquifer import --wait` does.

    Raises:
        UnfinishedError: one was neither searchable nor refused nor failed in time.
    """
    file = folder / f"{collection}.jsonl"
    file.write_text("\n".join(corpus.lines), encoding="utf-8")
    items = uploading.lines(file, collection)
    pids = processes.of(house.stack)
    async with open_client(house.endpoints) as client:
        await client.credentials()
        before = processes.cpu_by_part(pids)
        started = time.perf_counter()
        outcomes = await uploading.send(client, items, wait=True, done=lambda _: None)
        if any(outcome.state == "UNKNOWN" for outcome in outcomes):
            await _settled(client, collection)
        wall_s = time.perf_counter() - started
        after = processes.cpu_by_part(pids)
        states = Counter([_state(each) async for each in listing.listed(client, collection, "")])
    lost = Counter(each.reason for each in outcomes if each.failed)
    if states["INDEXED"] + lost.total() != len(items):
        raise UnfinishedError(f"{dict(states)} and lost {dict(lost)}, of {len(items)}")
    return Uploaded(
        documents=states["INDEXED"],
        lost=lost,
        wall_s=wall_s,
        cpu_s={name: after[name] - before[name] for name in pids},
    )


async def _settled(client: Client, collection: str) -> None:
    """Waits where watching a document was refused, for example for too many open calls."""
    async with asyncio.timeout(WAIT_S):
        for state in ("ACCEPTED", "PREPARED"):
            while [each async for each in listing.listed(client, collection, state)]:
                await asyncio.sleep(LIST_S)


def _state(document: Document) -> str:
    return uploading.state_name(document.state)
