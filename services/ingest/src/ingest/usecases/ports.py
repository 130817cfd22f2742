"""What the use cases need done by others; for units of work see `ingest.usecases.work`."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from google.protobuf.message import Message

from ingest.domain import (
    Draft,
    Prepared,
    Reference,
    State,
    Version,
)
from ingest.usecases.work import Pending


class Stored(Protocol):
    """What was written."""

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
        """On disk when this returns.

        Raises:
            InvalidInputError: DOCUMENT_TOO_LARGE.
        """

    async def read(self, key: str, *, sha256: str) -> bytes:
        """All bytes.

        Raises:
            NotFoundError: OBJECT_MISSING.
            DataLossError: OBJECT_CORRUPT.
        """

    async def delete(self, key: str) -> None:
        """Gone for good; no error when it is not there."""

    async def list(self, prefix: str = "") -> Sequence[str]:
        """Keys of a tenant, or of `<tenant>/<document>`."""


class Drops(Protocol):
    """The folder upstream systems leave files in."""

    def read(self, reference: Reference) -> AsyncIterator[bytes]:
        """The bytes of a reference, piece by piece.

        Raises, at the first piece:
            InvalidInputError: REFERENCE_FORBIDDEN, outside of the folder.
            NotFoundError: REFERENCE_MISSING.
        """


class Cut(Protocol):
    """A text cut into chunks that have no version yet."""

    def prepare(self, tenant: str, document: str, number: int, /) -> Prepared:
        """The pieces of a version, under ids of its own."""


class CutText(Protocol):
    """Cuts small plain text on the spot."""

    def __call__(self, draft: Draft, content: bytes, /) -> Cut | None:
        """None for everything else, also for what is to be refused."""


class Parse(Protocol):
    """Bytes of any supported format to text, cut into pieces."""

    async def __call__(self, version: Version, data: bytes) -> Prepared:
        """Raises.

        InvalidInputError: the bytes are not what can be indexed; final.
        UnavailableError: PARSER_UNAVAILABLE.
        """


class Hide(Protocol):
    """Takes a document out of every search."""

    async def __call__(self, document: str, version: int) -> None:
        """Returns once query has committed its tombstone; any ServiceError says it has not."""


class DeadLetters(Protocol):
    """Events that were given up and may carry a document's text."""

    async def discard_document(self, tenant: str, document: str) -> int:
        """Remove those of a document; returns their number."""


class Sweeper(Protocol):
    """Looks across tenants for what needs doing; changes happen in a tenant's transaction."""

    async def list_overdue(self, state: State, limit: int) -> Sequence[Pending]:
        """Steps past due, longest first."""

    async def list_expired(self, deadline_s: float, limit: int) -> Sequence[Pending]:
        """Unfinished versions whose state is older than the deadline."""

    async def count_backlog(self) -> Sequence["Backlog"]:
        """Unfinished work by tenant and state."""

    async def list_tenants(self) -> Sequence[str]:
        """Every tenant heard of."""

    async def now(self) -> datetime:
        """The database's time."""

    async def list_kept_keys(self, tenant: str) -> frozenset[str]:
        """Keys of a tenant's objects that a version still needs."""

    async def forget(self, inbox_s: float, requests_s: float) -> int:
        """Remove inbox rows and gRPC request ids older than that; returns their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Unfinished work of a tenant in one state, and the age of the oldest, in seconds."""

    tenant: str
    state: State
    documents: int
    oldest_age_s: float


Changed = Callable[[str, str], None]
"""Takes note that a document of a tenant has changed; called after the commit."""


class ChangeFeed(Protocol):
    """Tells of documents that changed, whichever replica changed them."""

    async def open(self, changed: Changed) -> bool:
        """Call `changed` from now on; False while the bus is away."""

    async def close(self) -> None:
        """No further calls."""


class Queue(Protocol):
    """What the broker says of events on their way, by kind and consuming service.

    Raises in every method:
        UnavailableError: BUS_UNAVAILABLE.
    """

    async def last_sequence(self, event: type[Message]) -> int:
        """Place of the newest event in the stream of a kind."""

    async def is_handled(self, event: type[Message], service: str, sequence: int) -> bool:
        """Whether a service has handled all events of a kind up to a place."""


Monotonic = Callable[[], float]
