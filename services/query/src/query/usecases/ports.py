"""Interfaces that the use cases need; for the vector store see `query.retrieval`."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from google.protobuf.message import Message

from chassis.base.filters import Expression
from chassis.base.labels import Held
from chassis.events.delivery import Delivery
from query.description import Attributes, Description
from query.domain import Batch, Hit, Matrix, Passage, Removed, Standing, Vector, Version
from query.labels import Labels
from query.profile import Profile
from query.usecases.records import InUse


class Embedder(Protocol):
    """Embeds texts as unit-length vectors of one profile.

    Every method raises:
        UnavailableError: INFERENCE_UNAVAILABLE; PROFILE_MISMATCH if inference lacks the profile.
        OverloadedError: its queue is full.
    """

    async def embed_questions(self, tenant: str, texts: Sequence[str]) -> Sequence[Vector | None]:
        """Embed questions of a tenant for the current call, on the interactive lane, in order.

        None for one that is written in a script that the model does not know.
        """

    async def embed_passages(self, tenant: str, texts: Sequence[str]) -> Matrix:
        """Embed texts on the bulk lane; returns one row for each text, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Candidates to look up, point ids and scores best first, and how many to return.

    `collections` are resource names, none for all; `held`, `where` and `as_of` as in `Question`.
    """

    held: Held
    point_ids: Sequence[str]
    scores: Sequence[float]
    collections: frozenset[str]
    limit: int
    one_per_document: bool
    where: Expression | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySpan:
    """The times that searches can look back to; `since` is None if no history is kept."""

    since: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Verified candidates, best first.

    `complete_store` is the vector store that has every point; None if none does. `live` is the name
    of the live profile. `span` is told if `Wanted.as_of` is given.
    """

    hits: Sequence[Hit]
    complete_store: UUID | None
    live: str
    span: HistorySpan | None = None


class Rows(Protocol):
    """Rows of one tenant in one transaction, which commits as a whole or not at all."""

    async def lock(self, version: Version) -> Standing:
        """Lock a document until the transaction ends; returns its standing."""

    async def lock_all(self, versions: Sequence[Version]) -> Mapping[str, Standing]:
        """`lock` for the documents of several versions, by document."""

    async def lock_profiles(self) -> InUse:
        """Read the profiles in use; they cannot change until the transaction ends."""

    async def put(self, batches: Sequence[Batch], in_use: InUse) -> None:
        """Store passages with their vectors of the profiles in use; a repeat overwrites."""

    async def put_vectors(self, profile: str, vectors: Mapping[UUID, Vector]) -> None:
        """Store vectors of passages, by point id, under one profile."""

    async def remove_vectors(
        self, profile: str, live: str, *, after: UUID | None, limit: int
    ) -> UUID | None:
        """Remove the vectors of a profile from the `limit` passages after a point id.

        Those of the live profile take their place. Returns the id at which the page ends, None if
        there are no passages after it.
        """

    async def describe(self, described: Mapping[Version, Description]) -> None:
        """Store descriptions of versions, unless a later one is there."""

    async def mark(self, batch: Batch) -> bool:
        """Record that a batch is stored; returns whether all batches of its version are.

        Raises:
            InvalidInputError: BATCHES_DISAGREE, another batch has other totals.
        """

    async def count(self, version: Version) -> int:
        """Number of stored passages of a version."""

    async def go_live(self, version: Version) -> None:
        """Make a version live, and end that of the one before.

        That one is removed, and its points are recorded for removal, unless a history is kept.
        """

    async def go_live_first(self, versions: Sequence[Version]) -> None:
        """Make first versions of documents live."""

    async def move_superseded(self, version: Version) -> bool:
        """Record that the points of a kept, locked version have to say that it is superseded.

        False if the version is not kept, or deleted.
        """

    async def forget_superseded(self, version: Version) -> bool:
        """Remove a kept version and record its points for removal; False if it is not kept."""

    async def fail(self, version: Version) -> None:
        """Remove a version and mark it failed."""

    async def hide(self, *versions: Version) -> None:
        """Write the tombstones of documents: these versions and all older ones are deleted."""

    async def begin_purge(self, version: Version, points: int) -> None:
        """Record the start of a purge and its number of points to remove."""

    async def mark_discarded(self, version: Version, dead_letters: int) -> None:
        """Record how many dead letters a running purge removed."""

    async def finish_purge(self, version: Version) -> Removed:
        """Remove the rows of this version and all older ones.

        Answers that use them lose their text and the quotes. Returns what all attempts of this
        purge removed.
        """

    async def label(self, labelled: Sequence[tuple[str, Labels]]) -> Sequence[str]:
        """Set labels of documents, which may be unknown, unless later ones are there.

        Records documents of which points may have other labels, and returns them. Points that are
        about to be stored count as having the labels given here.
        """

    async def record_described(self, described: Sequence[tuple[Version, Description]]) -> None:
        """Record documents of which points may know another description than the valid one.

        That is so where a version has, or is given here, one of another revision.
        """

    async def share_attributes(self, document: str) -> Attributes:
        """Read what points have to know; it cannot change until the transaction ends.

        Descriptions are left out of superseded versions whose points know that already.
        """

    async def finish_update(self, document: str) -> None:
        """Record that all points of a document know its labels and descriptions."""

    async def lock_passages(self, point_ids: Sequence[UUID]) -> Mapping[UUID, Attributes]:
        """Lock the passages of points, and what is said of their documents, until the end.

        Returns it by id, with the description of the passage's version. Ids that have no passage
        are left out, and those of versions that are being deleted.
        """


class Work(Protocol):
    """A unit of work: one transaction of one tenant, and the events published after it commits."""

    @property
    def rows(self) -> Rows: ...
    @property
    def fresh(self) -> Sequence[Delivery[Any]]:
        """The deliveries to act on; the others were handled before."""

    def emit(
        self,
        event: Message,
        *,
        about: str = "",
        key: Sequence[object] = (),
        cause: Delivery[Any] | None = None,
    ) -> None:
        """Store an event in the transaction; it is published after the commit."""


class Begin(Protocol):
    """Begins a unit of work."""

    def __call__(
        self, tenant: str, deliveries: Sequence[Delivery[Any]] = (), /
    ) -> AbstractAsyncContextManager[Work]:
        """Begin a unit of work; each delivery takes effect at most once, however often it comes.

        Raises:
            UnavailableError: DATABASE_UNAVAILABLE.
            OverloadedError: DATABASE_FULL.
            ConflictError: DATABASE_CONFLICT.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedVersion:
    """A removed version that still has points in the vector store."""

    tenant: str
    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """A document, its number of passages of the live version, and of deleted versions."""

    document: str
    live_version: int
    tombstone_version: int
    passages: int
    deleted_passages: int
    labels: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Asks for documents by name, or, without names, of a collection (empty: all) after a name."""

    documents: Sequence[str]
    collection: str
    after: str
    limit: int


class Ledger(Protocol):
    """Reads documents and passages.

    Every method raises:
        UnavailableError: DATABASE_UNAVAILABLE.
        OverloadedError: DATABASE_FULL.
        ConflictError: DATABASE_CONFLICT.
    """

    async def read_standing(self, tenant: str, document: str) -> Standing:
        """Read the standing of a document."""

    async def look_up(self, tenant: str, profile: str, wanted: Wanted) -> Found:
        """Look up candidates; returns those of this tenant, in a live version, not deleted.

        And only of documents that `wanted.held` may see. With `wanted.as_of` those of versions that
        were live then.
        """

    async def list_neighbours(
        self,
        tenant: str,
        held: Held,
        passages: Sequence[Passage],
        reach: int,
        as_of: datetime | None = None,
    ) -> Sequence[Sequence[Passage]]:
        """For each passage those at most `reach` before or after it in its version, in order.

        None if the version is not live any more, or was not at `as_of`, or `held` may not see its
        document.
        """

    async def list_passages(
        self, tenant: str, after: UUID | None, limit: int
    ) -> Sequence[tuple[UUID, Passage]]:
        """At most `limit` passages with their point ids, in the order of those ids."""

    async def read_vectors(
        self, tenant: str, profile: str, point_ids: Sequence[UUID]
    ) -> Mapping[UUID, Vector]:
        """Read the stored vectors of passages under a profile; those without one are left out."""

    async def list_with_vector(
        self, tenant: str, profile: Profile, point_ids: Sequence[UUID]
    ) -> frozenset[UUID]:
        """Those of these passages that have a stored vector of the profile's dimensions."""

    async def count_passages(self, tenant: str) -> int:
        """Number of passages of a tenant, including those of incomplete versions."""

    async def list_tenants(self) -> Sequence[str]:
        """Every tenant with a known document, without those that are being removed."""

    async def inspect(self, tenant: str, asked: Inspection) -> Sequence[Inspected]:
        """Known documents in the order of their names, at most `asked.limit`."""

    async def list_outdated(self, limit: int) -> Sequence[tuple[str, str]]:
        """Tenants and documents of which points may know other labels or another description.

        Tenants that are being removed are left out.
        """

    async def list_removed_versions(self, limit: int) -> Sequence[RemovedVersion]:
        """Removed versions of any tenant that still have points."""

    async def mark_points_removed(self, removed: RemovedVersion) -> None:
        """Record that the points of a version were removed."""


class Catalogue(Protocol):
    """What inference offers."""

    async def list_profiles(self) -> Sequence[Profile]:
        """The profiles under which inference embeds; asked for the current call.

        Raises:
            UnavailableError: INFERENCE_UNAVAILABLE.
        """


class DeadLetters(Protocol):
    """Dead letters of this service."""

    async def discard_document(self, tenant: str, document: str) -> int:
        """Remove the dead letters of a document; returns their number.

        Raises:
            UnavailableError: BUS_UNAVAILABLE.
        """
