"""What units of work are asked for and return, beside the domain's own."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from ingest.domain import Draft, Entry, Object, Prepared, State
from ingest.filters import Expression


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
class Purged:
    """Rows that a purge removed, and what all its attempts recorded for other stores."""

    objects: int
    dead_letters: int
    chunks: int
    outbox_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a delete removed from each store."""

    objects: int
    chunks: int
    passages: int
    points: int
    outbox_rows: int
    dead_letters: int


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

    `created` are the documents whose collection was created, `sized` those whose collection has
    chunk sizes of its own.
    """

    entries: Mapping[str, Entry]
    standing: Standing
    created: AbstractSet[str]
    sized: AbstractSet[str]


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
