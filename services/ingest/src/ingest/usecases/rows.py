"""What units of work are asked for and return, beside the domain's own."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from chassis.base.filters import Expression
from ingest.domain import Draft, Entry, Object, State
from ingest.pieces import Prepared


class Standing(Enum):
    """The standing of a tenant."""

    UNKNOWN = "unknown"
    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """An upload event whose content must be fetched.

    `upload` is the encoded event, `stored_ns` its order, `attempt` counts attempts that ended
    without an outcome, `age_s` is the time since the event was recorded.
    """

    tenant: str
    source: str
    request_id: str
    upload: bytes
    stored_ns: int
    trace_id: str
    attempt: int = 0
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Unfinished documents of a tenant: how many, and when they were accepted.

    `accepted_at` are seconds since 1970, of documents at equal distances from first to last.
    """

    count: int
    accepted_at: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """Unfinished versions of a tenant: all, the interactive ones among them, and their bytes."""

    documents: int
    interactive: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Stored bytes of an upload in several calls, from byte `start` on."""

    start: int
    size_bytes: int
    sha256: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An upload in several calls; the first `offset` of its `size_bytes` are stored.

    `expires_at` is None before it is stored.
    """

    draft: Draft
    upload_id: str
    sha256: str
    size_bytes: int
    offset: int = 0
    expires_at: datetime | None = None

    def make_draft(self, trace_id: str, password: str = "") -> Draft:
        """The draft of the version it becomes; its id makes that one version."""
        return replace(self.draft, trace_id=trace_id, password=password)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """Rows that a purge removed, and what all its attempts recorded for other stores."""

    objects: int
    dead_letters: int
    chunks: int
    outbox_rows: int
    signatures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a delete removed from each store."""

    objects: int = 0
    chunks: int = 0
    passages: int = 0
    points: int = 0
    outbox_rows: int = 0
    dead_letters: int = 0
    redacted_answers: int = 0
    signatures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionDeletion:
    """A deletion of a collection with the documents it had, those up to `upload_order`.

    `hidden`: searches find none of them. `documents` is their number as far as they are found,
    `remaining` how many are not removed yet. The receipt is set when it has finished.
    """

    collection_id: str
    number: int
    upload_order: int
    hidden: bool
    documents: int
    remaining: int
    receipt: Receipt | None
    requested_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """A tombstone to write: all versions of a document up to `number`.

    `deletion` is the number of the deletion of its collection, 0 for a delete of the document.
    `order_ns` is the order of the delete, see `Draft.order_ns`; 0 means now.
    """

    document: str
    number: int
    deletion: int = 0
    order_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The last deletion of a document's collection: of what was uploaded up to `upload_order`."""

    deletion: int
    upload_order: int

    def includes(self, entry: Entry) -> bool:
        """Whether the document belongs to the deletion and has no tombstone of it yet."""
        return (
            entry.latest_version > entry.tombstone_version
            and entry.upload_order <= self.upload_order
        )

    def make_tombstone(self, document: str, number: int) -> Tombstone:
        """The tombstone of a document that belongs to the deletion."""
        return Tombstone(
            document=document, number=number, deletion=self.deletion, order_ns=self.upload_order
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Length of a text in characters, and its last page with text; 0 for a format without pages."""

    length: int
    last_page: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """Asks for documents after a name; `collection` empty: all, `state` None: any but DELETED.

    A `where` that names DELETED adds those.
    """

    collection: str
    state: State | None
    where: Expression | None = None
    after: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An overdue step of a version, or its overdue description, as it was read."""

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
    """Rows of documents by name, and the standing of the tenant.

    `created` are the documents whose collection was created, `cut_apart` those whose collection has
    chunk sizes or steps of its own; `cuts` are those of collections that were deleted.
    `inherited` are the labels of collections that have any.
    """

    entries: Mapping[str, Entry]
    standing: Standing
    cuts: Mapping[str, Cut]
    created: AbstractSet[str]
    cut_apart: AbstractSet[str]
    inherited: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A version to add; `prepared` is set if its text is already cut.

    `content` is set if its bytes go into the database instead of the object store. `password` is
    sealed; None if there is none, or no need of it any more.
    """

    draft: Draft
    number: int
    stored: Object
    content: bytes | None
    prepared: Prepared | None
    password: bytes | None
    wait_s: float
