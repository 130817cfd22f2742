"""Compares the index beside the live one with the live one, before a flip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from query.domain import Passage, Vector
from query.retrieval.lexical import SparseVector
from query.retrieval.vector_store import Probe, TenantScope
from query.usecases.indexes import Index, Indexes
from query.usecases.ports import Ledger
from query.usecases.profiles import find_beside, live_error
from query.usecases.records import Profiles

SAMPLES_MAX: Final = 200
SAMPLES_TOGETHER: Final = 32
NO_WORDS: Final = SparseVector((), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two indexes: its points, and the samples that it finds first, by themselves."""

    name: str
    points: int
    found_first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The number of passages, and what `samples` of them, taken as questions, find.

    `overlap` is the mean share of the first `top` results that both indexes have in common.
    """

    passages: int
    samples: int
    top: int
    overlap: float
    live: Side
    other: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareProfiles:
    """Takes random passages as questions and searches by meaning alone, in both indexes."""

    indexes: Indexes
    profiles: Profiles
    ledger: Ledger

    async def run(self, name: str, samples: int, top: int) -> Comparison:
        """At most `samples` passages, spread over the tenants.

        Raises:
            FailedPreconditionError: PROFILE_LIVE, PROFILE_NOT_BUILT.
            UnavailableError: VECTORS_UNAVAILABLE, INFERENCE_UNAVAILABLE.
        """
        in_use = await self.profiles.read()
        if name == in_use.live.name:
            raise live_error(name)
        pair = [self.indexes.open(one) for one in (in_use.live, find_beside(in_use, name))]
        tenants = await self.ledger.list_tenants()
        passages, taken, first, shared = 0, 0, [0, 0], 0.0
        for place, tenant in enumerate(tenants):
            passages += await self.ledger.count_passages(tenant)
            wanted = (samples - taken) // (len(tenants) - place)
            rows = await self._sample(tenant, wanted)
            taken += len(rows)
            found = [await _find_nearest(index, tenant, rows, top) for index in pair]
            for (point_id, _), *lists in zip(rows, *found, strict=True):
                shared += _overlap(*lists)
                for side, listed in enumerate(lists):
                    first[side] += listed[:1] == [str(point_id)]
        sides = [
            Side(
                name=index.profile.name,
                points=(await index.vectors.info()).points,
                found_first=count,
            )
            for index, count in zip(pair, first, strict=True)
        ]
        return Comparison(
            passages=passages,
            samples=taken,
            top=top,
            overlap=shared / taken if taken else 0.0,
            live=sides[0],
            other=sides[1],
        )

    async def _sample(self, tenant: str, wanted: int) -> Sequence[tuple[UUID, Passage]]:
        """Random passages: point ids are hashes, so those after a random id are a random choice."""
        if not wanted:
            return []
        rows = list(await self.ledger.list_passages(tenant, uuid4(), wanted))
        if len(rows) < wanted:
            known = {point_id for point_id, _ in rows}
            more = await self.ledger.list_passages(tenant, None, wanted)
            rows += [row for row in more if row[0] not in known][: wanted - len(rows)]
        return rows


async def _find_nearest(
    index: Index, tenant: str, rows: Sequence[tuple[UUID, Passage]], top: int
) -> Sequence[Sequence[str]]:
    """The first `top` points for each passage."""
    vectors: list[Vector] = []
    for first in range(0, len(rows), SAMPLES_TOGETHER):
        texts = [one.text_in_context for _, one in rows[first : first + SAMPLES_TOGETHER]]
        vectors += list(await index.embedder.embed_passages(tenant, texts))
    found = []
    for vector in vectors:
        probe = Probe(dense=vector, sparse=NO_WORDS, depth=top, limit=top)
        ranked = await index.vectors.search(TenantScope(tenant), probe)
        # The store orders by meaning and neighbours; this compares meaning alone.
        nearest = sorted(zip(ranked.point_ids, ranked.cosines, strict=True), key=_by_cosine)
        found.append([point_id for point_id, _ in nearest])
    return found


def _by_cosine(one: tuple[str, float]) -> tuple[float, str]:
    """Nearest first; scores are rounded, so that equal vectors keep the order of their ids."""
    return -round(one[1], 5), one[0]


def _overlap(one: Sequence[str], other: Sequence[str]) -> float:
    return len({*one} & {*other}) / max(len(one), len(other), 1)
