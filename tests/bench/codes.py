"""What codes of vectors cost: points they miss, and processor time of a search by meaning."""

import time
from collections.abc import Iterator, Sequence
from uuid import UUID

import numpy as np

from query.domain import Matrix, Vector
from query.retrieval.vector_store import EVERYTHING, Point, Probe, Quantization, TenantScope
from query.vectors.shard import Shard
from tests.bench.figures import Figure, Row
from tests.bench.made_points import BATCH, DIMENSIONS, NO_WORDS, TENANT, make_vectors
from tests.bench.running_stack import make_folder

NAME = "codes"
TITLE = "codes: searches by meaning, by the codes of the store, compared with an exact scan"
SCOPE = TenantScope(TENANT)
POINTS = 20_480
QUESTIONS = 60
BEST = 10


def measure() -> Figure:
    """The same points in one store after the other."""
    batches = [make_vectors(number, BATCH) for number in range(POINTS // BATCH)]
    rows = [row for codes in Quantization for row in _measure_one(codes, batches)]
    return Figure(name=NAME, title=TITLE, rows=rows)


def _measure_one(codes: Quantization, batches: Sequence[Matrix]) -> Iterator[Row]:
    vectors, asked = np.concatenate(batches), make_vectors(2**31, QUESTIONS)
    probes = [Probe(dense=one, sparse=NO_WORDS, within=EVERYTHING) for one in asked]
    with make_folder() as folder:
        shard = Shard.create(folder, DIMENSIONS, codes)
        for number, batch in enumerate(batches):
            shard.upsert(SCOPE, [_point(number * BATCH + n, one) for n, one in enumerate(batch)])
        found = [shard.search(SCOPE, probe) for probe in probes]
        cpu = time.process_time()
        for probe in probes:
            shard.search(SCOPE, probe)
        cpu_s = time.process_time() - cpu
        shard.close()
    best = listed = 0
    for question, ranked in zip(asked, found, strict=True):
        nearest = np.argsort(-(vectors @ question))[: len(ranked.point_ids)]
        order = np.argsort(-np.array(ranked.cosines), kind="stable")
        numbers = [UUID(ranked.point_ids[row]).int - 1 for row in order]
        best += len({*numbers[:BEST]} & {*nearest[:BEST].tolist()})
        listed += len({*numbers} & {*nearest.tolist()})
    depth = probes[0].depth
    name, questions = codes.value, len(probes)
    yield Row(name=f"{name}, of the nearest {BEST}", value=100 * best / BEST / questions, unit="%")
    yield Row(
        name=f"{name}, of the nearest {depth}", value=100 * listed / depth / questions, unit="%"
    )
    yield Row(name=f"{name}, processor time", value=cpu_s / questions * 1e3, unit="ms/search")


def _point(number: int, vector: Vector) -> Point:
    return Point(
        point_id=str(UUID(int=number + 1)),
        document="collections/c/documents/d",
        version=1,
        ordinal=number,
        dense=vector,
        sparse=NO_WORDS,
    )
