"""Measures this machine.

`python -m services.inference.tests.integration.measure throughput|latency|memory|answers`

`throughput` compares the batcher with the bare engine on the same texts, alternating, and counts
CPU seconds as well, since a busy neighbour moves the clock. `answers` needs the public sets.
"""

import asyncio
import random
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from inference.batching import LIMITS, Batcher
from inference.domain import InputType, Lane
from inference.engine import padded_tokens
from inference.engines import minilm
from inference.engines.bert import BertEncoder
from inference.engines.extractive import Extractive
from inference.generation import Finish, FinishReason
from services.inference.tests.generations import ask, quotes
from services.inference.tests.integration.answers import (
    auroc,
    own_cases,
    public_cases,
    public_data,
)

TEXTS = 512


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def documents() -> list[str]:
    """Shuffled prose, 40 to 220 words a text, as long as chunks are."""
    chance = random.Random(7)
    stock = " ".join(text for case in own_cases()[:1] for text in case.passages).split()
    return [" ".join(chance.choices(stock, k=chance.randint(40, 220))) for _ in range(TEXTS)]


def bare(engine: BertEncoder, texts: list[str]) -> None:
    """The same work without the batcher: sorted, padded, every slot but the express one busy."""
    shelves: dict[int, list[np.ndarray]] = {}
    for ids in (ids for windows in engine.tokenize(texts, InputType.PASSAGE) for ids in windows):
        shelves.setdefault(padded_tokens(len(ids)), []).append(ids)
    batches = []
    for length, windows in sorted(shelves.items()):
        rows = max(1, LIMITS[Lane.BULK].batch_tokens // length)
        for start in range(0, len(windows), rows):
            batch = np.zeros((len(windows[start : start + rows]), length), np.int32)
            for row, ids in zip(batch, windows[start : start + rows], strict=True):
                row[: len(ids)] = ids
            batches.append(batch)
    left, taking = iter(batches), threading.Lock()

    def work(slot: int) -> None:
        while True:
            with taking:
                batch = next(left, None)
            if batch is None:
                return
            engine.infer(slot, batch)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(engine.slots - 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def batched(engine: BertEncoder, texts: list[str]) -> None:
    """16 callers at a time, 32 texts each, as the events bring them."""
    async with Batcher(engine) as batcher:
        turns = asyncio.Semaphore(16)

        async def call(part: list[str]) -> None:
            async with turns:
                await batcher.embed(part, Lane.BULK)

        async with asyncio.TaskGroup() as callers:
            for start in range(0, len(texts), 32):
                callers.create_task(call(texts[start : start + 32]))


def throughput(engine: BertEncoder) -> None:
    texts = documents()
    tokens = sum(
        len(ids) for windows in engine.tokenize(texts, InputType.PASSAGE) for ids in windows
    )
    say(f"{TEXTS} texts, {tokens} tokens, {engine.profile.precision.value}, {engine.slots} slots")
    bare(engine, texts)
    for _ in range(3):
        for name, work in (
            ("bare engine", lambda: bare(engine, texts)),
            ("batcher", lambda: asyncio.run(batched(engine, texts))),
        ):
            started, used = time.perf_counter(), time.process_time()
            work()
            took, cpu = time.perf_counter() - started, time.process_time() - used
            load = Path("/proc/loadavg").read_text().split()[0]
            say(
                f"{name:12} {tokens / took:7.0f} tokens/s {TEXTS / took:6.1f} texts/s "
                f"{cpu:5.2f} CPU s, load {load}"
            )


async def timed(work: Callable[[], Awaitable[object]], times: int) -> str:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        await work()
        took.append((time.perf_counter() - started) * 1e3)
        await asyncio.sleep(0.005)
    return f"p50 {statistics.median(took):6.1f} ms, p95 {np.percentile(took, 95):6.1f} ms"


async def latency(engine: BertEncoder) -> None:
    case = own_cases()[0]
    question = ask(case.question, case.passages * 2)
    async with Batcher(engine) as batcher:
        generator = Extractive(batcher, engine)

        async def first_words() -> None:
            async for _ in generator.generate(question):
                break

        def embed_question() -> Awaitable[object]:
            return batcher.embed([case.question], Lane.INTERACTIVE)

        say(f"question, idle:               {await timed(embed_question, 100)}")
        say(f"first words of 40 sentences:  {await timed(first_words, 30)}")
        texts = documents()

        async def bulk(at: int) -> None:
            while True:
                await batcher.embed(texts[at : at + 32], Lane.BULK)

        busy = [asyncio.create_task(bulk(at * 32)) for at in range(8)]
        await asyncio.sleep(0.5)
        say(f"question, beside bulk:        {await timed(embed_question, 200)}")
        say(f"first words, beside bulk:     {await timed(first_words, 30)}")
        for task in busy:
            task.cancel()
        await asyncio.wait(busy)


def memory(engine: BertEncoder) -> None:
    say(f"model loaded:     {_memory()}")
    asyncio.run(batched(engine, documents()))
    say(f"after {TEXTS} texts:  {_memory()}")


def _memory() -> str:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines}
    return ", ".join(f"{name} {sizes[name]} MiB" for name in ("Rss", "Pss", "Anonymous"))


async def answers(engine: BertEncoder) -> None:
    results: dict[str, list[tuple[Finish, bool, bool, int]]] = {}
    cases = public_cases(count=400, passages=8, seed=11) if public_data() else own_cases()
    async with Batcher(engine) as batcher:
        generator = Extractive(batcher, engine)
        for case in cases:
            request = ask(case.question, case.passages)
            steps = [step async for step in generator.generate(request)]
            quoted = [quote.text for quote in quotes(steps, request)]
            first, hit = (
                any(answer in " ".join(some) for answer in case.answers)
                for some in (quoted[:1], quoted)
            )
            if isinstance(steps[-1], Finish):
                found = (steps[-1], first, hit, sum(map(len, quoted)))
                results.setdefault(case.kind, []).append(found)
    scores = {
        kind: [finish.support or 0.0 for finish, *_ in ends] for kind, ends in results.items()
    }
    for kind, ends in results.items():
        no = sum(finish.reason is FinishReason.NO_ANSWER for finish, *_ in ends) / len(ends)
        first, held, chars = (sum(end[at] for end in ends) / len(ends) for at in (1, 2, 3))
        say(
            f"{kind:12} {len(ends):4} questions, refused {no:.3f}, answer in the first quote "
            f"{first:.3f}, in any {held:.3f}, {chars:.0f} characters quoted"
        )
    for kind, other in (
        ("answerable", "foreign"),
        ("answerable", "adversarial"),
        ("domain", "foreign"),
    ):
        if kind in scores and other in scores:
            say(f"AUROC {kind} against {other}: {auroc(scores[kind], scores[other]):.4f}")


def main() -> None:
    started = time.perf_counter()
    engine = minilm.load()
    say(f"loaded in {time.perf_counter() - started:.2f} s")
    match sys.argv[1:]:
        case ["throughput"]:
            throughput(engine)
        case ["latency"]:
            asyncio.run(latency(engine))
        case ["memory"]:
            memory(engine)
        case ["answers"]:
            asyncio.run(answers(engine))
        case _:
            say(str(__doc__))


if __name__ == "__main__":
    main()
