"""A collection sent through the public interface, timed until every document is final."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from aquifer_cli.client import open_client
from aquifer_cli.documents import list_documents
from aquifer_cli.sources import Item, read_documents
from aquifer_cli.upload import send
from tests.bench import processes
from tests.bench.corpus import Corpus
from tests.bench.running_stack import RunningStack


class UnfinishedError(Exception):
    """Documents of which nobody knows what became: a figure without them would flatter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """One pass over a collection.

    `documents` became searchable, `lost` did not, by reason; `cpu_s` is processor time by part.
    `again_s` is how long the same upload took once all of it was known.
    """

    documents: int
    lost: Mapping[str, int]
    wall_s: float
    again_s: float
    cpu_s: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Documents a second, from the first byte sent to the last document searchable."""
        return self.documents / self.wall_s


def items_of(texts: Sequence[str], collection: str) -> list[Item]:
    """Lines of a JSONL file as the command reads them."""
    with NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.write("\n".join(texts))
        file.flush()
        return read_documents(Path(file.name), collection)


async def upload(running: RunningStack, corpus: Corpus, collection: str, folder: Path) -> Uploaded:
    """Sends every document as `aquifer import --wait` does.

    Raises:
        UnfinishedError: one was neither searchable nor refused nor failed in time.
    """
    file = folder / f"{collection}.jsonl"
    file.write_text("\n".join(corpus.lines), encoding="utf-8")
    items = read_documents(file, collection)
    pids = processes.of(running.stack)
    async with open_client(running.endpoints) as client:
        await client.sign_in()
        before = processes.cpu_by_part(pids)
        started = time.perf_counter()
        outcomes = await send(client, items, wait=True, on_done=lambda _: None)
        wall_s = time.perf_counter() - started
        after = processes.cpu_by_part(pids)
        started = time.perf_counter()
        await send(client, items, wait=True, on_done=lambda _: None)
        again_s = time.perf_counter() - started
        indexed = [each async for each in list_documents(client, collection, "INDEXED")]
    lost = Counter(
        each.reason for each in outcomes if each.state in {"REFUSED", "NOT_SENT", "FAILED"}
    )
    if len(indexed) + lost.total() != len(items):
        states = Counter(each.state for each in outcomes)
        raise UnfinishedError(f"{len(indexed)} of {len(items)} are searchable; {dict(states)}")
    return Uploaded(
        documents=len(indexed),
        lost=lost,
        wall_s=wall_s,
        again_s=again_s,
        cpu_s={name: after[name] - before[name] for name in pids},
    )
