"""The memory of an idle stack after the import of a collection."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aquifer.services import NAMES
from tests.bench import processes
from tests.bench.figures import Figure, Row
from tests.bench.processes import CLIENT, NOTHING, Memory
from tests.bench.running_stack import RunningStack

NAME = "memory"
TITLE = "memory (PSS) of an idle stack after ingest"
IDLE_S = 5.0


async def run(running: RunningStack) -> dict[str, Memory]:
    """Memory by part, after a moment of rest."""
    await asyncio.sleep(IDLE_S)
    pids = processes.of(running.stack)
    return {name: processes.memory(pid) for name, pid in pids.items() if name != CLIENT}


def figure(found: Mapping[str, Memory], engine: Mapping[str, Any]) -> Figure:
    """Every part, the services together, and the services without the model.

    The model's share is what loading it adds to a process that has imported all of inference's
    code already: weights, compiled graphs, tokenizer. What the engine's library itself takes, and
    what inference keeps as working memory, stays with the services.
    """
    services = sum((found[name] for name in NAMES), NOTHING)
    model = engine["loaded"] - engine["imported"]
    rows = [
        Row(name=name, value=each.total, unit="MiB", note=_parts(each))
        for name, each in sorted(found.items(), key=lambda item: -item[1].total)
    ]
    rows += [
        Row(name="all parts", value=sum(each.total for each in found.values()), unit="MiB"),
        Row(name="the four services", value=services.total, unit="MiB", note=_parts(services)),
        Row(
            name="model: weights, graphs, tokenizer",
            value=model,
            unit="MiB",
            note="a process with inference's code after loading the model, less before",
        ),
        Row(
            name="the four services without the model",
            value=services.total - model,
            unit="MiB",
            note="the difference of the two rows above; the engine's library is still in it",
        ),
        Row(
            name="working memory of the engine",
            value=engine["worked"] - engine["loaded"],
            unit="MiB",
            note="the same process after batches of every length; part of the services' memory",
        ),
    ]
    return Figure(name=NAME, title=TITLE, rows=rows)


def _parts(each: Memory) -> str:
    return f"anonymous {each.anonymous:.0f}, files {each.file:.0f}, shared {each.shared:.0f}"
