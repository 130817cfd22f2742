"""Interfaces that the use cases need; for units of work see `ingest.usecases.work`."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from google.protobuf.message import Message

from ingest.collections import CollectionSettings
from ingest.domain import Draft, Reference, State, Version
from ingest.labels import Labels
from ingest.pieces import Prepared
from ingest.usecases.rows import CollectionDeletion, Line, Pending


class Stored(Protocol):
    """Size and checksum of a written object."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


class Objects(Protocol):
    """Raw bytes under keys `<tenant>/<document>/<upload>`.

    Raises in every method:
        OverloadedError: STORAGE_FULL.
        UnavailableError: STORAGE_UNAVAILABLE.
    """

    async def put(
        self, key: str, content: bytes | AsyncIterator[bytes], *, max_bytes: int
    ) -> Stored:
        """Write an object; it is durable when this returns.

        Raises:
            InvalidInputError: DOCUMENT_TOO_LARGE.
        """

    async def read(self, key: str, *, sha256: str) -> bytes:
        """Read all bytes of an object.

        Raises:
            NotFoundError: OBJECT_MISSING.
            DataLossError: OBJECT_CORRUPT.
        """

    async def delete(self, key: str) -> None:
        """Delete an object durably; a missing one is not an error."""

    async def list(self, prefix: str = "") -> Sequence[str]:
        """Keys of a tenant, or of `<tenant>/<document>`."""


class References(Protocol):
    """Reads the content of uploads by reference."""

    def check(self, reference: Reference) -> None:
        """Check that a reference may be read, without reading it.

        Raises:
            InvalidInputError: REFERENCE_INVALID, REFERENCE_SCHEME (the scheme is off),
                REFERENCE_FORBIDDEN.
        """

    def is_remote(self, reference: Reference) -> bool:
        """Whether another server has the content, which may be slow or unavailable."""

    def read(self, reference: Reference) -> AsyncGenerator[bytes]:
        """The content of a reference, piece by piece; never more than its `size_bytes`.

        Raises, at the first piece or later:
            InvalidInputError: REFERENCE_SCHEME, REFERENCE_FORBIDDEN.
            NotFoundError: REFERENCE_MISSING.
            DataLossError: REFERENCE_MISMATCH, there is more content.
            UnavailableError: REFERENCE_UNAVAILABLE, try again later; DROPS_UNAVAILABLE.
        """


class Sizes(Protocol):
    """Limits on the size of documents, by their media type and file name, which may be empty."""

    def find(self, media_type: str, file_name: str) -> int:
        """Most bytes of a document."""

    def check(self, size_bytes: int, media_type: str, file_name: str) -> None:
        """Check a size that an upload declares.

        Raises:
            InvalidInputError: DOCUMENT_TOO_LARGE.
        """


class Cut(Protocol):
    """A text cut into chunks, not yet assigned to a version."""

    def prepare(self, tenant: str, document: str, number: int, /) -> Prepared:
        """The pieces of a version, with the version's own ids."""


class CutText(Protocol):
    """Cuts small plain text without a parser process."""

    def __call__(self, draft: Draft, content: bytes, /) -> Cut | None:
        """Returns None for anything else, including text to be refused."""


class Parse(Protocol):
    """Parses bytes of any supported format and cuts the text into pieces."""

    async def __call__(
        self, version: Version, data: bytes, settings: CollectionSettings, password: str = ""
    ) -> Prepared:
        """Parse and cut the bytes of a version, with the chunk sizes and steps of its collection.

        Raises:
            InvalidInputError: the bytes cannot be indexed; final.
            UnavailableError: PARSER_UNAVAILABLE.
        """


class Room(Protocol):
    """Bounds the bytes of documents in memory; tenants take turns."""

    def acquire(self, tenant: str, size: int, /) -> AbstractAsyncContextManager[None]:
        """Wait for room for so many bytes, and keep it for the block."""


class Passwords(Protocol):
    """Seals passwords of documents, for the time until these are parsed."""

    def check(self) -> None:
        """Check that passwords are taken.

        Raises:
            FailedPreconditionError: PASSWORDS_OFF.
        """

    def seal(self, tenant: str, document: str, number: int, password: str) -> bytes:
        """Seal the password of a version."""

    def open(self, tenant: str, document: str, number: int, sealed: bytes) -> str:
        """The sealed password of a version.

        Raises:
            DataLossError: PASSWORD_LOST.
        """


class Hide(Protocol):
    """Hides a document from searches."""

    async def __call__(self, tenant: str, document: str, version: int) -> None:
        """Returns after query has committed the tombstone; raises a ServiceError if it has not."""


class HideAll(Protocol):
    """Hides documents of a tenant from searches, also outside a call."""

    async def __call__(self, tenant: str, versions: Sequence[tuple[str, int]]) -> None:
        """Hides all or none of these documents; otherwise as `Hide`."""


class LabelAll(Protocol):
    """Sets the labels of documents of a tenant in query, also outside a call."""

    async def __call__(self, tenant: str, labelled: Sequence[tuple[str, Labels]]) -> None:
        """Returns after query has committed them, and made its points follow if it could.

        Raises a ServiceError if it has not committed them.
        """


class DeadLetters(Protocol):
    """Dead letters, which may contain a document's text."""

    async def discard_document(self, tenant: str, document: str) -> int:
        """Remove the dead letters of a document; returns their number."""


class Sweeper(Protocol):
    """Finds pending work of all tenants; changes are made in a tenant's transaction.

    Tenants that are being removed are left out: their work ends with them.
    """

    async def list_overdue(self, state: State, limit: int) -> Sequence[Pending]:
        """Overdue steps, the longest overdue first."""

    async def list_undescribed(self, limit: int) -> Sequence[Pending]:
        """Descriptions that query should have confirmed, the longest overdue first."""

    async def list_expired(self, deadline_s: float, limit: int) -> Sequence[Pending]:
        """Unfinished versions that have been in their state longer than the deadline."""

    async def count_backlog(self) -> Sequence["Backlog"]:
        """Unfinished work by tenant and state; FETCHING: uploads that wait for their content."""

    async def measure_lines(self) -> Mapping[str, Line]:
        """Unfinished documents by tenant."""

    async def list_due_fetches(
        self, each: int, limit: int, *, excluding: Sequence[str]
    ) -> Sequence[tuple[str, str, str]]:
        """Due fetches as tenant, source and id: at most `each` of a tenant; tenants take turns.

        Those of the tenants `excluding` are left out.
        """

    async def list_expired_sessions(self, limit: int) -> Sequence[tuple[str, str]]:
        """Uploads in several calls that have expired, as tenant and id."""

    async def list_tenants(self) -> Sequence[str]:
        """Every known tenant."""

    async def list_tenants_with_labels_due(self) -> Sequence[str]:
        """Tenants with labels that query has not confirmed."""

    async def list_tenants_with_retention(self) -> Sequence[str]:
        """Tenants that have a collection whose documents are deleted with time."""

    async def list_collection_deletions(
        self, limit: int
    ) -> Sequence[tuple[str, CollectionDeletion]]:
        """Unfinished deletions of collections with their tenant; tenants take turns."""

    async def now(self) -> datetime:
        """The database's time."""

    async def list_kept_keys(self, tenant: str) -> frozenset[str]:
        """Keys of the tenant's objects that a version or an unfinished upload needs."""

    async def forget(self, inbox_s: float, requests_s: float) -> int:
        """Remove inbox rows and gRPC request ids older than these ages; returns their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Unfinished work of a tenant in one state, and the age of the oldest, in seconds."""

    tenant: str
    state: str
    documents: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveVersion:
    """A live version, its number of chunks, and the labels of its document."""

    document: str
    number: int
    chunk_count: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What ingest knows of a document; 0 means no version.

    `is_deleting`: a delete of it is not finished. `has_version`: it has the version asked for.
    """

    live_version: int
    tombstone_version: int
    is_deleting: bool
    has_version: bool


class KeptObject(NamedTuple):
    """The document and version that need an object; version 0 stands for an unfinished upload.

    `is_deleting`: it is needed only until it is removed and counted.
    """

    document: str
    version: int
    is_deleting: bool


class Inventory(Protocol):
    """Reads what ingest has, to compare it with other stores; an empty collection means all."""

    async def count_overdue(self, state: State, collection: str) -> tuple[int, Sequence[str]]:
        """Number of overdue steps of all tenants, and some examples."""

    async def list_kept(self, tenant: str, collection: str) -> Mapping[str, KeptObject]:
        """What is needed by the key of its object."""

    async def list_live(
        self, tenant: str, collection: str, after: str, limit: int
    ) -> Sequence[LiveVersion]:
        """Live versions of documents after a name, in the order of the names."""

    async def find_holdings(
        self, tenant: str, versions: Sequence[tuple[str, int]]
    ) -> Mapping[str, Holding]:
        """What is known of documents, by name, each with one version; unknown ones are left out."""


SHOWN_MAX: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What query knows of a document; 0 means no version.

    `passages` are those of the live version, `deleted_passages` those of deleted versions.
    """

    document: str
    live_version: int = 0
    tombstone_version: int = 0
    passages: int = 0
    deleted_passages: int = 0
    labels: tuple[str, ...] = ()


class Search(Protocol):
    """What query knows of the documents of a tenant.

    Raises in every method:
        UnavailableError: QUERY_FAILED.
    """

    async def find(self, tenant: str, documents: Sequence[str]) -> Mapping[str, Shown]:
        """The known ones of these documents, by name."""

    async def list_page(self, tenant: str, collection: str, after: str) -> Sequence[Shown]:
        """At most `SHOWN_MAX` known documents after a name; fewer if no more follow."""


Changed = Callable[[str, str], None]
"""Takes note that a document of a tenant has changed; called after the commit."""


class Notice(Protocol):
    """Takes note of a fact about a document; `finished`: its version is indexed or has failed."""

    def __call__(self, tenant: str, document: str, *, finished: bool = False) -> None: ...


class ChangeFeed(Protocol):
    """Notifications of changed documents, from all replicas."""

    async def open(self, changed: Notice) -> bool:
        """Start calling `changed`; False if the bus is unavailable."""

    async def close(self) -> None:
        """Stop calling it."""


class Queue(Protocol):
    """The progress of consumers, by kind of event and consuming service.

    Raises in every method:
        UnavailableError: BUS_UNAVAILABLE.
    """

    async def last_sequence(self, event: type[Message]) -> int:
        """Sequence number of the newest event in the stream of a kind."""

    async def is_handled(self, event: type[Message], service: str, sequence: int) -> bool:
        """Whether a service has handled all events of a kind up to a sequence number."""


Monotonic = Callable[[], float]
