"""The experiments that share a stack: uploads, then questions, then the engines alone."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import ask, floors, ingest, memory, quality, search
from tests.bench.corpus import Corpus
from tests.bench.figures import Figure
from tests.bench.plan import Plan
from tests.bench.processes import Memory
from tests.bench.running_stack import RunningStack, make_folder, run_stack
from tests.bench.upload import Uploaded, upload

NAMES = (ingest.NAME, search.NAME, ask.NAME, memory.NAME, quality.NAME)


@dataclass(slots=True)
class _Found:
    """What was measured while the stack ran, and after."""

    uploads: list[Uploaded] = field(default_factory=list)
    embeddings: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    searched: dict[int, search.Searched] = field(default_factory=dict)
    asked: list[ask.Asked] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)
    quality: Figure | None = None


def measure(corpus: Corpus, plan: Plan, wanted: set[str]) -> list[Figure]:
    """A fresh stack for every repetition of the upload; the last one answers questions as well."""
    found = _Found()
    figures: list[Figure] = []
    repetitions = plan.repetitions if ingest.NAME in wanted else 1
    for number in range(repetitions):
        last = number == repetitions - 1
        with ExitStack() as held:
            folder = held.enter_context(make_folder())
            with run_stack(folder, {}) as running:
                asyncio.run(_live(running, corpus, plan, wanted if last else set(), folder, found))
                tenant = running.endpoints.tenant
            if ingest.NAME in wanted:
                found.embeddings.append(floors.ask("embed", texts=found.texts))
            if last and search.NAME in wanted:
                bare = search.bare(folder / "vectors", tenant, corpus, corpus.name)
                figures.append(search.figure(found.searched, bare))
    if ingest.NAME in wanted:
        figures.append(ingest.figure(found.uploads, found.embeddings, len(found.texts)))
    if ask.NAME in wanted:
        figures.append(ask.figure(found.asked))
    if memory.NAME in wanted:
        figures.append(memory.figure(found.memory, floors.ask("engine")))
    if found.quality is not None:
        figures.append(found.quality)
    return sorted(figures, key=lambda figure: NAMES.index(figure.name))


async def _live(
    running: RunningStack,
    corpus: Corpus,
    plan: Plan,
    wanted: set[str],
    folder: Path,
    found: _Found,
) -> None:
    """What needs a running stack: the upload first, then the questions."""
    found.uploads.append(await upload(running, corpus, corpus.name, folder))
    found.texts = running.chunk_texts(corpus.name)
    if memory.NAME in wanted:
        found.memory = await memory.run(running)
    if search.NAME in wanted:
        found.searched = await search.run(running, corpus, corpus.name)
    if ask.NAME in wanted:
        found.asked = await ask.run(running, corpus, corpus.name, plan.questions)
    if quality.NAME in wanted:
        found.quality = await quality.run(running, corpus, corpus.name)
