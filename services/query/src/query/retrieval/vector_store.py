"""The interface of a vector store, independent of its engine.

A store contains the vectors of one embedding profile, of all tenants. It is not authoritative:
every point can be rebuilt from the passages in Postgres, and it contains no text. A search returns
candidates; a caller must look them up in Postgres before it shows them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol
from uuid import UUID

import numpy as np

from chassis.base.errors import InvalidInputError
from chassis.base.labels import Held
from query.domain import LIMIT_MAX, VERSION_MAX, Vector
from query.filters.facts import NO_FACTS, SLOTS, Facts
from query.filters.points import UNLABELLED, PointCondition
from query.names import check_collection, collection_of
from query.retrieval.fusion import Ranked
from query.retrieval.lexical import ANALYSER, SparseVector, Spelling

DEPTH_MAX: Final = 200
UPSERT_BATCH_MAX: Final = 256
SCROLL_LIMIT_MAX: Final = 1_000
FILTER_VALUES_MAX: Final = 1_000
SPELLINGS_MAX: Final = 64
# The fields of a stored point with its facts, by their slots.
FACT_FIELDS: Final = tuple(f"facts.s{slot}" for slot in range(SLOTS))
ORDINAL_MAX: Final = 2**31 - 1

ANALYSER_MAX: Final = 2**31 - 1

_TENANT = re.compile(r"[a-z0-9-]{1,63}")
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,126}")


class Quantization(StrEnum):
    """Codes of the dense vectors, which a search reads first; the best are scored by their vectors.

    A store keeps the codes that it was created with.
    """

    NONE = "none"
    TURBO4 = "turbo4"  # 4 bits for each dimension
    TURBO2 = "turbo2"  # 2 bits


@dataclass(frozen=True, slots=True)
class TenantScope:
    """The tenant of a call; every call that touches points needs one.

    Only points without labels, and with one of `held`, exist for the call; None: all.
    """

    tenant: str
    held: Held = None

    def __post_init__(self) -> None:
        if not _TENANT.fullmatch(self.tenant):
            raise InvalidInputError("TENANT_INVALID", "a tenant id is [a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One passage as the store keeps it.

    `dense` has the store's dimensions and unit length; `document` is the resource name
    `collections/{collection}/documents/{document}`, `labels` are those of the document, sorted, and
    `facts` those of the version's description. `analyser` is the version that made `sparse`.
    """

    point_id: str
    document: str
    version: int
    ordinal: int
    dense: Vector
    sparse: SparseVector
    labels: tuple[str, ...] = ()
    facts: Facts = NO_FACTS
    analyser: int = ANALYSER

    def __post_init__(self) -> None:
        check_point_id(self.point_id)
        collection_of(self.document)
        if not 0 < self.version <= VERSION_MAX or not 0 <= self.ordinal <= ORDINAL_MAX:
            raise InvalidInputError(
                "POINT_INVALID", "versions count from 1 and ordinals from 0", point=self.point_id
            )
        if self.dense.ndim != 1 or not bool(np.isfinite(self.dense).all()):
            raise InvalidInputError(
                "VECTOR_INVALID", "a vector is one row of finite numbers", point=self.point_id
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Restricts a call within its tenant.

    Each given field must match one of its values, and `where` must be true. The terms
    must be of the version `analyser` or a later one. `live_only`: no points of superseded versions.
    """

    collections: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()
    version: int | None = None
    where: PointCondition | None = None
    analyser: int | None = None
    live_only: bool = False

    def __post_init__(self) -> None:
        for name in self.collections:
            check_collection(name)
        for name in self.documents:
            collection_of(name)
        if max(len(self.collections), len(self.documents)) > FILTER_VALUES_MAX:
            raise InvalidInputError(
                "FILTER_TOO_LONG",
                f"a filter names at most {FILTER_VALUES_MAX} values of a kind",
                max_values=FILTER_VALUES_MAX,
            )
        if self.version is not None and not 0 < self.version <= VERSION_MAX:
            raise InvalidInputError("VERSION_INVALID", "versions count from 1")


EVERYTHING: Final = Filter()
# Points with the terms that questions have, or those of a later version that is taking over.
CURRENT: Final = Filter(analyser=ANALYSER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A search by meaning, by words, or both.

    `depth` limits each of the two lists before they are fused. The first `limit` of the fused order
    are exact (see `fuse`); all candidates are returned. Without `dense` the search uses only words;
    an empty `sparse` finds nothing by words. A word that no point of the `corpus` has is replaced
    by the words that look alike, see `spellings`. `diversity`, 0 to 1, as in `diversify`; it needs
    `dense`.
    """

    dense: Vector | None
    sparse: SparseVector
    depth: int = DEPTH_MAX
    limit: int = LIMIT_MAX
    within: Filter = EVERYTHING
    spellings: Sequence[Spelling] = ()
    diversity: float = 0.0

    def __post_init__(self) -> None:
        for name, value, most in (
            ("depth", self.depth, DEPTH_MAX),
            ("limit", self.limit, LIMIT_MAX),
        ):
            if not 0 < value <= most:
                raise InvalidInputError("LIMIT_RANGE", f"{name} must be in 1..{most}", given=value)
        if not 0 <= self.diversity <= 1:
            raise InvalidInputError(
                "DIVERSITY_RANGE", "diversity must be in 0..1", given=self.diversity
            )
        if self.dense is not None and not bool(np.isfinite(self.dense).all()):
            raise InvalidInputError("VECTOR_INVALID", "a vector is one row of finite numbers")
        if len(self.spellings) > SPELLINGS_MAX:
            raise InvalidInputError(
                "SPELLINGS_COUNT",
                f"a search has at most {SPELLINGS_MAX} words to replace",
                max_spellings=SPELLINGS_MAX,
                given=len(self.spellings),
            )

    @property
    def corpus(self) -> Filter:
        """The searched collections, where words are known or not, and rare or not.

        Within the scope of the call, as any filter. Other conditions are left out: a word does not
        become a typing error because of them.
        """
        return Filter(collections=self.within.collections, live_only=self.within.live_only)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A point without its vectors; `described` is the digest of its facts.

    `analyser` is 0 for a point that does not say which version made its terms.
    """

    point_id: str
    document: str
    version: int
    ordinal: int
    labels: tuple[str, ...] = ()
    described: int = 0
    analyser: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Entries in the order of their ids; `next_id` starts the next page, None after the last."""

    entries: tuple[Entry, ...]
    next_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """Description of a store; a changed `store_id` means that its points were lost."""

    store_id: UUID
    points: int
    dimensions: int
    engine: str


class VectorStore(Protocol):
    """The vectors of one embedding profile.

    Every method may raise `UnavailableError`: VECTORS_UNAVAILABLE if the store does not answer,
    VECTORS_STORE_MISSING if it has lost this profile (`prepare` creates it again, and the caller
    rebuilds it). `OverloadedError` means that too many calls are waiting. All writes can be
    repeated; an acknowledged write survives a crash of the store's process.
    """

    async def prepare(self) -> StoreInfo:
        """Create the store if it is missing, and describe it.

        Raises:
            FailedPreconditionError: DIMENSIONS_DIFFER, the store holds vectors of another width.
        """

    async def info(self) -> StoreInfo:
        """Describe the store without creating it."""

    async def drop(self) -> None:
        """Remove the store with all points of all tenants; does nothing if it is missing."""

    async def upsert(self, scope: TenantScope, points: Sequence[Point]) -> None:
        """Store points; searches find them when this returns.

        A point with the same id is replaced, unless it belongs to another tenant. Then it stays
        unchanged, and the tenant's count shows the difference.
        """

    async def search(self, scope: TenantScope, probe: Probe) -> Ranked:
        """Find the nearest points by meaning and by words, fused into one order.

        The weight of a word is its rarity among the points that exist for the call in the searched
        collections.
        """

    async def describe(
        self,
        scope: TenantScope,
        document: str,
        labels: tuple[str, ...],
        facts: Mapping[int, Facts],
    ) -> None:
        """Set the labels of all points of a document, and the facts of some of its versions.

        Searches follow them when this returns.
        """

    async def delete_points(self, scope: TenantScope, point_ids: Sequence[str]) -> int:
        """Remove points by id; returns their number. Ids unknown to the tenant are ignored."""

    async def delete_document(
        self, scope: TenantScope, document: str, version: int | None = None
    ) -> int:
        """Remove one version of a document, or all; returns the number of removed points."""

    async def count(self, scope: TenantScope, within: Filter = EVERYTHING) -> int:
        """Count points exactly."""

    async def scroll(
        self,
        scope: TenantScope,
        within: Filter = EVERYTHING,
        *,
        start: str | None = None,
        limit: int = SCROLL_LIMIT_MAX,
    ) -> Page:
        """Read a page of entries from id `start` on; may miss points written at the same time."""


def list_partitions(scope: TenantScope, within: Filter) -> tuple[str, ...]:
    """The stored names of a tenant: one for its live points, one for those of superseded versions.

    A search of live points reads the first alone, so it needs no further condition.
    """
    live = name_partition(scope, superseded=False)
    return (live,) if within.live_only else (live, name_partition(scope, superseded=True))


def name_partition(scope: TenantScope, *, superseded: bool) -> str:
    """The stored name of the tenant of a point."""
    return f"{scope.tenant}~" if superseded else scope.tenant


def to_stored(labels: tuple[str, ...]) -> list[str]:
    """Labels as a store keeps them: no point is without, so one condition covers all points."""
    return list(labels) or [UNLABELLED]


def from_stored(labels: Sequence[str]) -> tuple[str, ...]:
    """The opposite of `to_stored`."""
    return tuple(sorted(set(labels) - {UNLABELLED}))


def to_stored_facts(facts: Facts) -> dict[str, Any]:
    """The fields of a stored point that its description decides; they replace those from before."""
    slots: dict[str, list[int]] = {}
    for fact in facts.stated:
        slots.setdefault(FACT_FIELDS[fact % SLOTS].removeprefix("facts."), []).append(fact)
    return {"facts": slots, "ordered": list(facts.ordered), "described": facts.digest}


def check_point_id(point_id: str) -> None:
    """Check that an id is a UUID in canonical form."""
    try:
        canonical = str(UUID(point_id)) == point_id
    except ValueError:
        canonical = False
    if not canonical:
        raise InvalidInputError("POINT_ID_INVALID", "a point id is a UUID", point=point_id[:64])


def check_profile(profile: str) -> None:
    """Check the name of an embedding profile, which also names a folder or a collection."""
    if not _PROFILE.fullmatch(profile):
        raise InvalidInputError("PROFILE_INVALID", "not the name of a profile", profile=profile)
