"""Points as a store has them, made here: passages of a corpus's words, vectors around centres.

All of it follows from the seed, so every process makes the same points and questions.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from aquifer.structs import JsonValue
from query.domain import Matrix
from query.filters.facts import Facts, list_facts
from query.filters.language import parse_filter
from query.filters.points import ask_points
from query.retrieval.lexical import SparseVector, encode_passage, read_words
from query.retrieval.vector_store import (
    SPELLINGS_MAX,
    Filter,
    Point,
    Probe,
    TenantScope,
)
from query.usecases.find_passages import SPARE_HITS

SEED: Final = 7
DIMENSIONS: Final = 384
CENTRES: Final = 400
# Length of the noise around a centre: the cosine of two vectors of one centre is about 0.6.
NOISE: Final = 0.8
WORDS: Final = 140
BATCH: Final = 256
PASSAGES: Final = 10
COLLECTIONS: Final = 4
LABEL: Final = "board"
# Three quarters of the batches are the first one's.
TENANT: Final = "acme"
OTHER: Final = "other"
CONDITION: Final = "metadata.year >= 2005"
LIMIT: Final = 10 + SPARE_HITS
NO_WORDS: Final = SparseVector((), ())


class PointMaker:
    """Makes points by number; a text is random words, each as often as the corpus has it."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._words = [word for line in lines for word in json.loads(line)["text"].split()]

    def make_batch(self, number: int, *, size: int = BATCH) -> tuple[TenantScope, list[Point]]:
        """The points of a batch and their tenant."""
        rng = random.Random(f"{SEED} {number}")
        tenant = TENANT if number % 4 else OTHER
        points = []
        for row, vector in enumerate(make_vectors(number, size)):
            place = number * BATCH + row
            document = place // PASSAGES
            points.append(
                Point(
                    point_id=str(uuid5(NAMESPACE_OID, str(place))),
                    document=_name(document),
                    version=1,
                    ordinal=place % PASSAGES,
                    dense=vector,
                    sparse=encode_passage(" ".join(rng.choices(self._words, k=WORDS))),
                    labels=() if document % 10 else (LABEL,),
                    facts=_facts(document),
                )
            )
        return TenantScope(tenant), points


def make_vectors(number: int, size: int) -> Matrix:
    """Unit vectors around random centres; `number` seeds them."""
    rng = np.random.default_rng((SEED, number))
    noise = rng.standard_normal((size, DIMENSIONS)) * (NOISE / DIMENSIONS**0.5)
    rows = _centres()[rng.integers(CENTRES, size=size)] + noise
    unit: Matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def make_probes(questions: Sequence[str], within: Filter) -> Iterator[Probe]:
    """Searches as query makes them of questions; only the vectors are made here."""
    vectors = make_vectors(2**31, len(questions))
    for text, vector in zip(questions, vectors, strict=True):
        words = read_words(text)
        yield Probe(
            dense=vector,
            sparse=words.vector,
            spellings=words.spellings[:SPELLINGS_MAX],
            limit=LIMIT,
            within=within,
        )


@cache
def _centres() -> Matrix:
    rows = np.random.default_rng(SEED).standard_normal((CENTRES, DIMENSIONS))
    centres: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return centres


def _name(document: int) -> str:
    return f"collections/c{document % COLLECTIONS}/documents/d{document}"


@cache
def _facts(document: int) -> Facts:
    metadata: dict[str, JsonValue] = {
        "year": 1990 + document % 30,
        "kind": f"kind {document % 7}",
        "authors": [f"author {document % 1_000}", f"author {document % 999}"],
    }
    return list_facts(_name(document), f"Report {document}", metadata)


def _make_filter() -> Filter:
    """One collection, and a condition on metadata that half of its points meet."""
    expression = parse_filter(CONDITION)
    assert expression is not None
    return Filter(
        collections=frozenset({"collections/c1"}), where=ask_points(expression), live_only=True
    )


SEARCHES: Final[Mapping[str, tuple[TenantScope, Filter]]] = {
    "filtered": (TenantScope(TENANT, frozenset()), _make_filter()),
    "whole tenant": (TenantScope(TENANT), Filter(live_only=True)),
}
