"""Retrieval quality on judged questions."""

import io
from collections.abc import Sequence
from math import log2
from statistics import fmean

from aquifer_cli import ask as asking
from aquifer_cli.client import open_client
from tests.bench.corpus import Corpus
from tests.bench.figures import Figure, Row
from tests.bench.running_stack import RunningStack

NAME = "quality"
TITLE = "retrieval quality, by `aquifer search --queries`"
DEPTH = 100


async def run(running: RunningStack, corpus: Corpus, collection: str) -> Figure:
    """nDCG@10 and Recall@100 over the questions that have a relevant document."""
    out = io.StringIO()
    async with open_client(running.endpoints) as client:
        await asking.write_run(
            client,
            list(corpus.queries),
            out,
            collections=[collection],
            limit=DEPTH,
            done=lambda: None,
        )
    ranked = read_run(out.getvalue())
    note = f"{len(corpus.queries)} questions" + (
        "" if corpus.whole else "; of a part of the collection: compares with nothing"
    )
    return Figure(
        name=NAME,
        title=TITLE,
        rows=[
            Row(
                name="nDCG@10",
                value=fmean(
                    ndcg(ranked.get(q, []), corpus.relevant[q], 10) for q, _ in corpus.queries
                ),
                unit="",
                note=note,
            ),
            Row(
                name=f"Recall@{DEPTH}",
                value=fmean(
                    recall(ranked.get(q, []), corpus.relevant[q], DEPTH) for q, _ in corpus.queries
                ),
                unit="",
                note=note,
            ),
        ],
    )


def read_run(text: str) -> dict[str, list[str]]:
    """Document ids by question id, best first, of a TREC run in the order of its ranks."""
    ranked: dict[str, list[str]] = {}
    for line in text.splitlines():
        query, _, document, *_ = line.split()
        ranked.setdefault(query, []).append(document)
    return ranked


def ndcg(ranked: Sequence[str], relevant: frozenset[str], depth: int) -> float:
    """Discounted gain of the first `depth` over that of the best order; judgments are 0 or 1."""
    gain = sum(1 / log2(rank + 2) for rank, one in enumerate(ranked[:depth]) if one in relevant)
    best = sum(1 / log2(rank + 2) for rank in range(min(depth, len(relevant))))
    return gain / best


def recall(ranked: Sequence[str], relevant: frozenset[str], depth: int) -> float:
    """Share of the relevant documents among the first `depth`."""
    return len(relevant & set(ranked[:depth])) / len(relevant)
