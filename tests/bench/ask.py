"""Time to the first token of `Ask`, compared with the generator alone on the same passages."""

import time
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from typing import Any

from aquifer.inference.v1.generation_pb2 import (
    ROLE_USER,
    GenerateRequest,
    GenerationPassage,
    Message,
    Part,
    PassageBlock,
)
from aquifer.query.v1.query_service_pb2 import AskRequest, Hit
from aquifer_cli import ask as asking
from aquifer_cli.client import Client, open_client
from tests.bench.corpus import Corpus
from tests.bench.figures import Figure, Row, median, quantile
from tests.bench.running_stack import RunningStack

NAME = "ask"
TITLE = "time to the first token of Ask, over inference.Generate called directly"
# As many as query shows its generator.
PASSAGES = 8
CALL_S = 60.0
WARM = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Seconds: through the platform, from the engine directly, and of a search alone."""

    platform_s: float
    engine_s: float
    search_s: float


async def run(
    running: RunningStack, corpus: Corpus, collection: str, questions: int
) -> list[Asked]:
    """Each question asked both ways, one after the other."""
    async with open_client(running.endpoints) as client:
        texts = [text for _, text in corpus.queries[:questions]]
        for text in texts[:WARM]:
            await _one(client, text, collection)
        return [await _one(client, text, collection) for text in texts]


async def _one(client: Client, text: str, collection: str) -> Asked:
    started = time.perf_counter()
    # A question that was asked before is not embedded again; a blank makes it another one.
    hits = await asking.search(client, text + " ", collections=[collection], limit=PASSAGES)
    search_s = time.perf_counter() - started
    metadata = await client.credentials()
    asked = client.query.Ask(
        AskRequest(question=text, collection=collection), timeout=CALL_S, metadata=metadata
    )
    platform_s = await _first_delta(asked)
    generated = client.inference.Generate(_same(text, hits), timeout=CALL_S, metadata=metadata)
    engine_s = await _first_delta(generated)
    return Asked(platform_s=platform_s, engine_s=engine_s, search_s=search_s)


def _same(text: str, hits: Sequence[Hit]) -> GenerateRequest:
    passages = [GenerationPassage(text=hit.passage.text, title=hit.passage.title) for hit in hits]
    parts = [Part(passages=PassageBlock(passages=passages)), Part(text=text)]
    return GenerateRequest(messages=[Message(role=ROLE_USER, parts=parts)])


async def _first_delta(steps: AsyncIterable[Any]) -> float:
    """Seconds until text comes; the rest of the stream is read as well."""
    started = time.perf_counter()
    first = None
    async for step in steps:
        if first is None and step.WhichOneof("step") == "delta":
            first = time.perf_counter() - started
    assert first is not None, "an answer without text"
    return first


def figure(asked: Sequence[Asked]) -> Figure:
    """Medians over the questions of ratios and differences."""
    platform = [each.platform_s * 1e3 for each in asked]
    engine = [each.engine_s * 1e3 for each in asked]
    ratios = [each.platform_s / each.engine_s for each in asked]
    added = [(each.platform_s - each.engine_s) * 1e3 for each in asked]
    beyond = [(each.platform_s - each.engine_s - each.search_s) * 1e3 for each in asked]
    return Figure(
        name=NAME,
        title=TITLE,
        rows=[
            Row(
                name="first token, p50",
                value=median(platform),
                unit="ms",
                floor=median(engine),
                ratio=median(ratios),
                note=f"{len(asked)} questions; ratio: median of the ratios",
            ),
            Row(
                name="first token, p95",
                value=quantile(platform, 0.95),
                unit="ms",
                floor=quantile(engine, 0.95),
                ratio=quantile(ratios, 0.95),
                note="ratio: p95 of the ratios",
            ),
            Row(
                name="added by the platform",
                value=median(added),
                unit="ms",
                spread=(quantile(added, 0.05), quantile(added, 0.95)),
                note="median of the differences, spread p5 to p95; retrieval is most of it",
            ),
            Row(
                name="added beyond a search of its own",
                value=median(beyond),
                unit="ms",
                spread=(quantile(beyond, 0.05), quantile(beyond, 0.95)),
            ),
        ],
    )
