"""How fast a lost vector store is filled again from the vectors stored with the passages."""

import asyncio
import shutil
import time

from aquifer_cli import ask as asking
from aquifer_cli.client import Client, open_client
from aquifer_cli.errors import CommandError
from aquifer_cli.upload import send
from tests.bench.ceiling import SETTINGS
from tests.bench.corpus import Corpus, generate
from tests.bench.figures import Aim, Figure, Row, median, spread
from tests.bench.running_stack import RunningStack, make_folder, run_stack
from tests.bench.upload import items_of

NAME = "refill"
TITLE = "refill of a lost vector store: null embedder, everything else as it is"
COLLECTION = "refill"
REFUSED = {"VECTORS_REBUILDING", "VECTORS_UNAVAILABLE", "VECTORS_STORE_MISSING"}
WAIT_S = 300.0
POLL_S = 0.02


def measure(documents: int, repetitions: int) -> Figure:
    """Deletes the store of so many documents and waits until searches are answered again."""
    corpus = generate(documents)
    with make_folder() as folder, run_stack(folder, SETTINGS) as running:

        async def lose_again_and_again() -> tuple[int, list[float]]:
            async with open_client(running.endpoints) as client:
                items = items_of(corpus.lines, COLLECTION)
                outcomes = await send(client, items, wait=True, on_done=lambda _: None)
                assert all(one.state == "INDEXED" for one in outcomes)
                took_s = [await _lose(running, client, corpus) for _ in range(repetitions)]
            return len(running.chunk_texts(COLLECTION)), took_s

        passages, took_s = asyncio.run(lose_again_and_again())
    rates = [passages / one for one in took_s]
    return Figure(
        name=NAME,
        title=TITLE,
        rows=[
            Row(
                name="passages a second",
                value=median(rates),
                unit="1/s",
                spread=spread(rates),
                aim=Aim(sense=">=", limit=2_000),
                note=f"{passages:,} passages, from the first refused search to the next answer",
            )
        ],
    )


async def _lose(running: RunningStack, client: Client, corpus: Corpus) -> float:
    """Seconds during which searches are refused."""
    vectors = running.stack.vectors
    vectors.kill()
    shutil.rmtree(vectors.data)
    vectors.start()
    text = corpus.queries[0][1]
    refused_at: float | None = None
    give_up_at = time.perf_counter() + WAIT_S
    while time.perf_counter() < give_up_at:
        try:
            await asking.search(client, text, collections=[COLLECTION], limit=1)
        except CommandError as error:
            if error.reason not in REFUSED:
                raise
            if error.reason == "VECTORS_REBUILDING" and refused_at is None:
                refused_at = time.perf_counter()
        else:
            if refused_at is not None:
                return time.perf_counter() - refused_at
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"searches are not answered {WAIT_S:.0f} s after the store was deleted")
