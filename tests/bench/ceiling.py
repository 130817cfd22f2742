"""Throughput without the model: the same documents with the null embedder."""

import asyncio
from pathlib import Path

from tests.bench.corpus import Corpus
from tests.bench.figures import Aim, Figure, Row, median, spread
from tests.bench.ingest import cpu_rows, lost_rows
from tests.bench.running_stack import make_folder, run_stack
from tests.bench.upload import Uploaded, upload

NAME = "ceiling"
TITLE = "ceiling of the platform: null embedder, everything else as it is"
SETTINGS = {"AQUIFER_EMBEDDER": "null", "AQUIFER_EMBEDDING_PROFILE": "null"}


def measure(corpus: Corpus, repetitions: int) -> Figure:
    """The collection again and again, each time as new documents of another collection."""
    with make_folder() as folder, run_stack(folder, SETTINGS) as running:

        async def passes() -> list[Uploaded]:
            return [
                await upload(running, corpus, f"null-{number}", Path(folder))
                for number in range(repetitions)
            ]

        runs = asyncio.run(passes())
    rates = [run.rate for run in runs]
    return Figure(
        name=NAME,
        title=TITLE,
        rows=[
            Row(
                name="documents a second",
                value=median(rates),
                unit="1/s",
                spread=spread(rates),
                aim=Aim(sense=">=", limit=400),
                note=f"{runs[0].documents} documents a pass, client on the same cores",
            ),
            *lost_rows(runs),
            *cpu_rows(runs),
        ],
    )
