"""What the use cases need done by others, but for the vector store: `query.retrieval`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from google.protobuf.message import Message

from aquifer.query.v1.passage_events_pb2 import AnswerProduced
from chassis.events.delivery import Delivery
from query.domain import (
    Answer,
    Batch,
    Description,
    Generated,
    Hit,
    Matrix,
    Passage,
    Removed,
    Standing,
    Vector,
    Version,
)


class Embedder(Protocol):
    """Texts to unit-length vectors of the profile the index is kept under.

    Raises in every method:
        UnavailableError: INFERENCE_UNAVAILABLE; PROFILE_MISMATCH while it embeds under another
            profile.
        OverloadedError: its queue is full.
    """

    async def embed_question(self, text: str) -> Vector:
        """For the call being served, ahead of everything nobody waits for."""

    async def embed_passages(self, tenant: str, texts: Sequence[str]) -> Matrix:
        """One row for each text in the order given, when nothing more urgent is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question and the passages, best first, from which alone it is to be answered.

    An empty `model` is the default one.
    """

    question: str
    passages: Sequence[Passage]
    model: str
    max_output_tokens: int


class Generator(Protocol):
    """Answers questions from passages."""

    def generate(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Generated]]:
        """For the call being served: deltas and quotes in their order, then exactly one `Finish`.

        Leaving the context stops the work. Without passages the answer is that there is none.

        Raises:
            UnavailableError: INFERENCE_UNAVAILABLE.
            NotFoundError: MODEL_UNKNOWN.
            OverloadedError: its queue is full.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Candidates to find again, point ids and scores best first, and how many to keep.

    `collection` is a collection id, empty for all.
    """

    point_ids: Sequence[str]
    scores: Sequence[float]
    collection: str
    limit: int
    one_per_document: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Candidates that were found again, best first.

    `complete_store` is the vector store that holds every point; None while none does.
    """

    hits: Sequence[Hit]
    complete_store: UUID | None


class Rows(Protocol):
    """The rows of one tenant inside one transaction: all of it commits, or nothing."""

    async def lock(self, version: Version) -> Standing:
        """What is known of the document; nobody else decides on it before the transaction ends."""

    async def lock_all(self, versions: Sequence[Version]) -> Mapping[str, Standing]:
        """`lock` for the documents of several versions, by document."""

    async def put(self, batches: Sequence[Batch]) -> None:
        """Store the passages of batches; a repeat overwrites."""

    async def describe(self, described: Mapping[Version, Description]) -> None:
        """Store descriptions of versions, unless a later one is there."""

    async def mark(self, batch: Batch) -> bool:
        """Note that a batch is in; true when all batches of its version are.

        Raises:
            InvalidInputError: BATCHES_DISAGREE, another batch told other totals.
        """

    async def count(self, version: Version) -> int:
        """Passages stored of a version."""

    async def go_live(self, version: Version) -> None:
        """Make a version what searches see; the passages of older ones go, their points too."""

    async def go_live_first(self, versions: Sequence[Version]) -> None:
        """Make first versions what searches see of their documents."""

    async def fail(self, version: Version) -> None:
        """Remove what is stored of a version, and want nothing more of it."""

    async def hide(self, version: Version) -> None:
        """Write the tombstone: this version and all older ones are deleted from now on."""

    async def begin_purge(self, version: Version, points: int) -> None:
        """Note that a purge begins that has this many points to remove."""

    async def mark_discarded(self, version: Version, dead_letters: int) -> None:
        """Note how many dead letters a purge that has begun removed."""

    async def finish_purge(self, version: Version) -> Removed:
        """Remove what is stored of this version and all older ones.

        Answers that rest on them lose their text and the quotes. Returns what all attempts of this
        purge removed.
        """

    async def lock_passages(self, point_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Those of the ids that have a passage, kept from removal until the transaction ends."""


class Work(Protocol):
    """A unit of work: one transaction of one tenant, and the events published when it commits."""

    @property
    def rows(self) -> Rows: ...
    @property
    def fresh(self) -> Sequence[Delivery[Any]]:
        """The deliveries to act on: the others have had their effect before."""

    def emit(
        self,
        event: Message,
        *,
        about: str = "",
        key: Sequence[object] = (),
        cause: Delivery[Any] | None = None,
    ) -> None:
        """Store an event with the transaction; it is published after it commits, surely."""


class Begin(Protocol):
    """Begins a unit of work."""

    def __call__(
        self, tenant: str, deliveries: Sequence[Delivery[Any]] = (), /
    ) -> AbstractAsyncContextManager[Work]:
        """`deliveries` have their effect at most once, however often they come.

        Raises:
            UnavailableError: DATABASE_UNAVAILABLE.
            OverloadedError: DATABASE_FULL.
            ConflictError: DATABASE_CONFLICT.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedVersion:
    """A version whose points have to go."""

    tenant: str
    version: Version


class Ledger(Protocol):
    """What query knows of documents.

    Raises in every method:
        UnavailableError: DATABASE_UNAVAILABLE.
        OverloadedError: DATABASE_FULL.
        ConflictError: DATABASE_CONFLICT.
    """

    async def read_standing(self, tenant: str, document: str) -> Standing:
        """What has been decided of a document up to now."""

    async def look_up(self, tenant: str, profile: str, wanted: Wanted) -> Found:
        """Find candidates again: of this tenant, in a live version, not deleted."""

    async def list_passages(
        self, tenant: str, after: UUID | None, limit: int
    ) -> Sequence[tuple[UUID, Passage]]:
        """At most `limit` passages with the ids of their points, in the order of those ids."""

    async def count_passages(self, tenant: str) -> int:
        """Passages of a tenant, those of versions on their way in included."""

    async def list_tenants(self) -> Sequence[str]:
        """Every tenant of whom a document is known."""

    async def list_removed_versions(self, limit: int) -> Sequence[RemovedVersion]:
        """Versions of any tenant whose points have to go."""

    async def mark_points_removed(self, removed: RemovedVersion) -> None:
        """Note that the points of a version are gone."""


class Answers(Protocol):
    """Answers that were given; raises as `Ledger` does."""

    async def keep(self, answer: Answer, sources: Sequence[Version], event: AnswerProduced) -> None:
        """Store an answer and publish `event`, or neither.

        `sources` are the versions whose words it may repeat; where one of them was deleted
        meanwhile, the words are left out.
        """

    async def find(self, tenant: str, answer_id: UUID) -> Answer | None:
        """An answer as it may be shown now; None for one that is not this tenant's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecord:
    """What Postgres says of the vector store of a profile: which it is, and whether it is whole.

    `store_id` is None before the first, and while none is known to be whole.
    """

    store_id: UUID | None
    complete: bool


class Rebuilding(Protocol):
    """The right to rebuild a vector store; nobody else has it meanwhile."""

    async def keep(self) -> None:
        """Keep it; to be called at least every 30 s.

        Raises:
            UnavailableError: it is lost, to be given up at once.
        """

    async def complete(self, store_id: UUID) -> None:
        """Declare a store whole when the right is given back."""


class StoreRecords(Protocol):
    """Which vector store holds every point; raises as `Ledger` does."""

    async def read(self, profile: str) -> StoreRecord:
        """The record of a profile."""

    async def forget(self, profile: str) -> None:
        """Declare that no store of the profile is whole."""

    def begin_rebuild(self, profile: str) -> AbstractAsyncContextManager[Rebuilding | None]:
        """The right to rebuild, or None while another process has it; ends with the process."""


class DeadLetters(Protocol):
    """Events of this service that were given up, with their bytes."""

    async def discard_document(self, tenant: str, document: str) -> int:
        """Remove those of a document; returns their number.

        Raises:
            UnavailableError: BUS_UNAVAILABLE.
        """
