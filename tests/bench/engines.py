"""The engines alone: run as a process of its own, with no service beside it.

`python -m tests.bench.engines NAME` reads one JSON object from its standard input and writes one.
"""

import asyncio
import gc
import json
import os
import queue
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvloop

from inference.batching import Batcher
from inference.domain import InputType, Lane
from inference.engine import Ids, pad, padded_tokens
from inference.engines import minilm
from query.retrieval.lexical import SparseVector, encode_question
from query.retrieval.vector_store import Filter, Probe, TenantScope
from query.vectors.shard import Shard
from tests.bench import made_points, processes
from tests.bench.floors import side_by_side_each

# As many batches at a time as inference handles, of as many chunks as an event may carry.
BATCHES = 128
BATCH = 32
# As many as inference puts into a batch.
BATCH_TOKENS = 1024
WARM = 20
PLAIN_LIMIT = 10


async def embed(texts: Sequence[str]) -> dict[str, Any]:
    """Seconds to embed all texts in the bulk lane, tokenizing included, loading excluded."""
    engine = minilm.load()
    async with Batcher(engine) as batcher:
        gate = asyncio.Semaphore(BATCHES)

        async def one(batch: Sequence[str]) -> None:
            async with gate:
                await batcher.embed(batch, Lane.BULK)

        started, cpu = time.perf_counter(), time.process_time()
        batches = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
        await asyncio.gather(*map(one, batches))
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    tokens = sum(engine.count_tokens(texts))
    precision = engine.profile.precision.value
    return {"wall_s": wall_s, "cpu_s": cpu_s, "tokens": tokens, "precision": precision}


async def engine_alone(texts: Sequence[str]) -> dict[str, Any]:
    """Seconds to embed all texts by a loop of threads, one a slot: sorted, in full batches."""
    engine = minilm.load()
    started = time.perf_counter()
    windows = [ids for text in engine.tokenize(texts, InputType.PASSAGE) for ids in text]
    windows.sort(key=len, reverse=True)
    batches: list[list[Ids]] = []
    for ids in windows:
        if (
            not batches
            or (len(batches[-1]) + 1) * padded_tokens(len(batches[-1][0])) > BATCH_TOKENS
        ):
            batches.append([])
        batches[-1].append(ids)
    # The last slot is the express slot.
    slots = queue.SimpleQueue[int]()
    for slot in range(engine.slots - 1):
        slots.put(slot)

    def one(batch: list[Ids]) -> None:
        slot = slots.get()
        engine.infer(slot, pad(batch))
        slots.put(slot)

    with ThreadPoolExecutor(engine.slots - 1) as threads:
        list(threads.map(one, batches))
    return {"wall_s": time.perf_counter() - started}


async def search(
    vectors: str, tenant: str, collection: str, queries: Sequence[str], side_by_side: int
) -> dict[str, Any]:
    """Seconds of each step of each query: embedding, the platform's own search, a plain one."""
    folder = Path(vectors, minilm.PROFILE_NAME)
    shard = Shard.load(
        folder / "shard", json.loads((folder / "store.json").read_text())["dimensions"]
    )
    scope = TenantScope(tenant)
    within = Filter(collections=frozenset({f"collections/{collection}"}), live_only=True)
    plain_terms = SparseVector((), ())
    async with Batcher(minilm.load()) as batcher:

        async def one(text: str) -> dict[str, float]:
            started = time.perf_counter()
            vector = (await batcher.embed([text], Lane.INTERACTIVE))[0]
            embedded = time.perf_counter()
            probe = Probe(
                dense=vector, sparse=encode_question(text), limit=PLAIN_LIMIT, within=within
            )
            await asyncio.to_thread(shard.search, scope, probe)
            searched = time.perf_counter()
            plain = Probe(dense=vector, sparse=plain_terms, depth=PLAIN_LIMIT, within=within)
            shard.search(scope, plain)
            return {
                "embed": embedded - started,
                "search": searched - embedded,
                "both": searched - started,
                "plain": time.perf_counter() - searched,
            }

        await side_by_side_each(one, queries[:WARM], side_by_side)
        cpu = time.process_time()
        steps = await side_by_side_each(one, queries, side_by_side)
        cpu_s = time.process_time() - cpu
    shard.close()
    return {"cpu_s": cpu_s, **{name: [step[name] for step in steps] for name in steps[0]}}


async def search_points(vectors: str, questions: Sequence[str], rounds: int) -> dict[str, Any]:
    """Seconds of the searches of the figure `vectors`, on the store of its stopped process."""
    folder = Path(vectors)
    shard = Shard.load(
        folder / "shard", json.loads((folder / "store.json").read_text())["dimensions"]
    )
    found: dict[str, Any] = {}
    for name, (scope, within) in made_points.SEARCHES.items():
        probes = list(made_points.make_probes(questions, within))
        for probe in probes:
            shard.search(scope, probe)
        cpu, each_s = time.process_time(), []
        for probe in probes * rounds:
            started = time.perf_counter()
            shard.search(scope, probe)
            each_s.append(time.perf_counter() - started)
        found[name] = {"each_s": each_s, "cpu_s": time.process_time() - cpu}
    shard.close()
    return found


async def engine() -> dict[str, Any]:
    """Memory in MiB of inference's code alone, with the model loaded, and after it has worked."""
    imported = _own_memory()
    model = minilm.load()
    loaded = _own_memory()
    async with Batcher(model) as batcher:
        for length in range(8, 256, 8):
            await batcher.embed(["word " * length] * BATCH, Lane.BULK)
        worked = _own_memory()
    return {"imported": imported, "loaded": loaded, "worked": worked}


def _own_memory() -> float:
    gc.collect()
    return processes.memory(os.getpid()).total


FLOORS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "embed": embed,
    "engine_alone": engine_alone,
    "search": search,
    "vectors": search_points,
    "engine": engine,
}


if __name__ == "__main__":
    asked = json.load(sys.stdin)

    async def main() -> dict[str, Any]:
        return await FLOORS[sys.argv[1]](**asked)

    json.dump(uvloop.run(main()), sys.stdout)
