"""A unit of work as the use cases see it: the tables of one tenant in one transaction."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from google.protobuf.message import Message
from opentelemetry.context import Context

from chassis.events.delivery import Delivery
from ingest.domain import (
    Collection,
    Draft,
    Entry,
    Object,
    Origin,
    Piece,
    Prepared,
    Receipt,
    State,
    Upload,
    Verdict,
    Version,
    View,
)

Trace = Context | None
"""Trace context that an event goes on in; None: the current one."""


class Standing(Enum):
    """What is known of a tenant."""

    UNKNOWN = "unknown"
    ACTIVE = "active"
    SUSPENDED = "suspended"


class Documents(Protocol):
    """The rows of one tenant inside one transaction: all of it commits, or nothing.

    `lock` and `claim` put what happens to a document in a line: whoever tells the results of a
    version, adds one or deletes some holds the document's row first.
    """

    async def claim(self, names: Sequence[str]) -> "Claimed":
        """The documents' rows, made where there are none, locked until the transaction ends."""

    async def release(self, names: Sequence[str]) -> None:
        """Remove rows that `claim` has made and that have no version."""

    async def lock(self, name: str) -> Entry | None:
        """The document's row, locked until the transaction ends."""

    async def find_entry(self, name: str) -> Entry | None:
        """The document's row as it was a moment ago."""

    async def find_newest(self, name: str) -> View | None:
        """The document through its newest version, as it was a moment ago."""

    async def list_newest(self, names: Sequence[str]) -> Sequence[View]:
        """Those of the documents that exist, through their newest versions, in any order."""

    async def find_version(self, name: str, number: int) -> Version | None:
        """One version as it was a moment ago; final under the document's lock."""

    async def lock_version(self, name: str, number: int) -> View | None:
        """The document's row and this version's, both locked until the transaction ends."""

    async def list_versions(self, numbers: Mapping[str, int]) -> Mapping[str, Version]:
        """One version of each document by its name; final under the documents' locks."""

    async def lock_versions(self, versions: Sequence[tuple[str, int]]) -> Sequence[View]:
        """Documents' rows and these versions', in the order of their names, locked."""

    async def add(self, additions: Sequence["Addition"]) -> Mapping[str, Version]:
        """Make versions the newest of their documents, and note the uploads.

        Returns those that were made, by document: none of an upload that is known already.
        """

    async def describe(self, version: Version, draft: Draft) -> Version:
        """Give a version the title and metadata of an upload; the version as it is from now on."""

    async def raise_order(self, name: str, order_ns: int) -> None:
        """Note that the document's newest upload is at least as late as that; 0: as now."""

    async def read_content(self, name: str, number: int) -> bytes | None:
        """The bytes of a version that lie in the database; None when they do not."""

    async def prepare(self, version: Version, prepared: Prepared, wait_s: float) -> Version | None:
        """Keep the pieces and make the version PREPARED; None when it is not ACCEPTED any more."""

    async def index(self, versions: Sequence[Version]) -> Mapping[str, Sequence[Upload]]:
        """Make versions INDEXED and live; the uploads that waited for each, by document."""

    async def fail(self, version: Version, verdict: Verdict) -> Sequence[Upload]:
        """Make the version FAILED; the uploads that waited for it."""

    async def list_retired(self, entry: Entry, number: int) -> Sequence[Version]:
        """Versions that `number` going live puts out of use: from the live one on, oldest first."""

    async def retire(self, entry: Entry, number: int) -> None:
        """Remove their chunks and bytes, and make those SUPERSEDED that have not failed."""

    async def list_pieces(self, name: str, number: int) -> Sequence[Piece]:
        """All pieces of a version, in order."""

    async def repeat(self, pending: "Pending", wait_s: float) -> Version | None:
        """Count one more emission.

        None when the step has moved on, was repeated meanwhile, or still waits in the outbox.
        """

    async def list_page(self, query: "PageQuery") -> Sequence[View]:
        """Documents with their newest versions, in the order of their names."""

    async def list_collections(self, after: str, limit: int) -> Sequence[Collection]:
        """At most `limit` collections with documents behind a collection id; empty: the first."""

    async def count_unfinished(self) -> int:
        """Versions of the tenant that are on their way."""


class Uploads(Protocol):
    """Uploads that can be repeated."""

    async def add(self, upload: Upload) -> bool:
        """Note an upload that can be repeated; False when it is known, which changes nothing."""

    async def find(self, origin: Origin) -> Upload | None:
        """The accepted upload of this source and id."""

    async def settle(self, document: str, number: int, verdict: Verdict) -> Sequence[Upload]:
        """Uploads that waited for this version and are told the verdict now."""

    async def settle_deleted(self, document: str, number: int) -> Sequence[Upload]:
        """Uploads that waited for this version or an older one and are told DELETED."""


class Deletions(Protocol):
    """What a delete does to the rows, under the document's lock."""

    async def mark_deleting(self, entry: Entry, wait_s: float) -> None:
        """Write the tombstone up to the newest version; all of them are DELETING from now on."""

    async def mark_hidden(self, document: str, number: int) -> None:
        """Note that no search finds a version up to this one any more."""

    async def list_deleting(self, document: str, number: int) -> Sequence[Version]:
        """Versions up to this one that are DELETING, oldest first."""

    async def begin_purge(self, document: str, number: int, keys: Sequence[str]) -> None:
        """Note of which DELETING versions up to this one there are bytes, about to be removed."""

    async def mark_discarded(self, document: str, number: int, dead_letters: int) -> None:
        """Note how many dead letters went for the delete up to this version."""

    async def purge(self, document: str, number: int) -> "Purged":
        """Remove chunks, bytes and outbox rows of the DELETING versions up to this one."""

    async def close(self, document: str, number: int, receipt: Receipt) -> None:
        """Make those versions DELETED and forget what was said of them; keep the receipt."""

    async def find_receipt(self, document: str, number: int) -> tuple[int, Receipt] | None:
        """The delete that removed this version: the last version it removed, and its receipt."""


class Tenants(Protocol):
    """What auth's facts say of the tenant, in whatever order they come."""

    async def admit(self) -> None:
        """Note that the tenant exists."""

    async def suspend(self, sequence: int) -> None:
        """Note that the tenant is suspended, unless a higher sequence has told otherwise."""

    async def resume(self, sequence: int) -> None:
        """Note that it is suspended no longer, unless a higher sequence has told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """Rows that a purge removed, and what all its attempts noted of other stores."""

    objects: int
    dead_letters: int
    chunks: int
    outbox_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """Documents after a name; `collection` empty: all, `state` None: any but DELETED."""

    collection: str
    state: State | None
    after: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A step of a version that was due, as it was seen."""

    tenant: str
    document: str
    number: int
    state: State
    attempt: int
    size_bytes: int
    batch_count: int
    step_due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Rows of documents by name, and what is known of the tenant."""

    entries: Mapping[str, Entry]
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A version about to be made: `prepared` where its text is cut already.

    `content` are its bytes where they go into the database, not into the object store.
    """

    draft: Draft
    number: int
    stored: Object
    content: bytes | None
    prepared: Prepared | None
    wait_s: float


class Work(Protocol):
    """A unit of work: one transaction of one tenant, and the events published when it commits."""

    @property
    def documents(self) -> Documents: ...
    @property
    def uploads(self) -> Uploads: ...
    @property
    def deletions(self) -> Deletions: ...
    @property
    def tenants(self) -> Tenants: ...
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
        context: Context | None = None,
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
