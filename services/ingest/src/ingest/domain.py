"""Documents, their versions, and the rules for their states."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from aquifer.structs import JsonObject
from chassis.base.errors import FieldViolation, InvalidInputError
from ingest.labels import NO_LABELS, Labels
from ingest.lanes import Lane
from ingest.metadata import check_metadata, is_same
from ingest.notes import Note

FILE_NAME_MAX_CHARS: Final = 255
MEDIA_TYPE_MAX_CHARS: Final = 255
TITLE_MAX_CHARS: Final = 512
PASSWORD_MAX_CHARS: Final = 128
ID_MAX_CHARS: Final = 128
# Source and id share a key, and Postgres indexes none above 2,704 bytes.
ORIGIN_MAX_BYTES: Final = 512

_PART = r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}"
_NAME = re.compile(f"collections/{_PART}/documents/{_PART}")
_COLLECTION = re.compile(_PART)
SHA256: Final = re.compile(r"[0-9a-f]{64}")


def check_name(name: str, *, field: str = "name") -> None:
    """Check that a text is the resource name of a document.

    Raises:
        InvalidInputError: DOCUMENT_NAME.
    """
    if not _NAME.fullmatch(name):
        shape = f"collections/{{collection}}/documents/{{document}}, parts {_PART}"
        violation = FieldViolation(field, shape)
        raise InvalidInputError("DOCUMENT_NAME", "not a valid document name", fields=[violation])


def is_collection(text: str) -> bool:
    """Whether a text can be a collection id."""
    return _COLLECTION.fullmatch(text) is not None


class State(StrEnum):
    """The life of a version, named as in the contract."""

    ACCEPTED = "ACCEPTED"
    PREPARED = "PREPARED"
    INDEXED = "INDEXED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"
    DELETING = "DELETING"
    DELETED = "DELETED"


UNFINISHED: Final = (State.ACCEPTED, State.PREPARED)
# States that a step leaves by itself, repaired when it does not.
STEPS: Final = (*UNFINISHED, State.DELETING)

# FAILED to INDEXED is a late success: query reports the version searchable after ingest marked it
# FAILED, because of a deadline or the rejection of another attempt.
MOVES: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.ACCEPTED: frozenset({State.PREPARED, State.FAILED, State.SUPERSEDED, State.DELETING}),
        State.PREPARED: frozenset({State.INDEXED, State.FAILED, State.SUPERSEDED, State.DELETING}),
        State.INDEXED: frozenset({State.SUPERSEDED, State.DELETING}),
        State.FAILED: frozenset({State.INDEXED, State.DELETING}),
        State.SUPERSEDED: frozenset({State.DELETING}),
        State.DELETING: frozenset({State.DELETED}),
        State.DELETED: frozenset(),
    }
)


def source_states(target: State) -> tuple[State, ...]:
    """States from which a version may move to `target`."""
    return tuple(state for state, targets in MOVES.items() if target in targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an upload came from: an upload event's source and id, or gRPC with an empty `source`.

    An upload with the same `request_id` is a repeat; over gRPC it may be empty.
    """

    source: str = ""
    request_id: str = ""
    correlation_id: str = ""

    def __post_init__(self) -> None:
        if self.source:
            _check_event_id(self.source, self.request_id)
        check_texts(
            {
                "request_id": ("" if self.source else self.request_id, ID_MAX_CHARS),
                "correlation_id": (self.correlation_id, ID_MAX_CHARS),
            }
        )

    @property
    def event_id(self) -> str:
        """`ce-id` of the upload event; empty for an upload over gRPC."""
        return self.request_id if self.source else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The description of an upload, without its bytes; texts are hints and may be empty.

    `password` opens the file and is never shown.

    `order_ns` is when the broker stored an upload event, in nanoseconds since 1970; 0 for an upload
    over gRPC, which counts from its acceptance. Of two uploads of a document the later one wins.

    Raises:
        InvalidInputError: DOCUMENT_NAME, METADATA_RANGE.
    """

    tenant: str
    name: str
    file_name: str = ""
    media_type: str = ""
    title: str = ""
    metadata: JsonObject
    labels: tuple[str, ...] = ()
    password: str = field(default="", repr=False)
    origin: Origin
    trace_id: str = ""
    order_ns: int = 0
    lane: Lane = Lane.INTERACTIVE

    def __post_init__(self) -> None:
        check_name(self.name, field="document")
        bounds = {
            "file_name": (self.file_name, FILE_NAME_MAX_CHARS),
            "media_type": (self.media_type, MEDIA_TYPE_MAX_CHARS),
            "title": (self.title, TITLE_MAX_CHARS),
            "password": (self.password, PASSWORD_MAX_CHARS),
        }
        check_texts(bounds)
        check_metadata(self.metadata)


def _check_event_id(source: str, event_id: str) -> None:
    fits = all(0 < len(text.encode()) <= ORIGIN_MAX_BYTES for text in (source, event_id))
    if not fits or "\x00" in source + event_id:
        raise InvalidInputError(
            "UPLOAD_EVENT_ID",
            f"ce-source and ce-id must have 1 to {ORIGIN_MAX_BYTES} bytes of UTF-8 and no NUL",
            max_bytes=ORIGIN_MAX_BYTES,
        )


def check_texts(bounds: Mapping[str, tuple[str, int]]) -> None:
    """Check lengths, and that no text contains NUL, which PostgreSQL cannot store.

    Raises:
        InvalidInputError: METADATA_RANGE.
    """
    violations = [
        FieldViolation(field, f"at most {limit} characters, no NUL")
        for field, (text, limit) in bounds.items()
        if len(text) > limit or "\x00" in text
    ]
    if violations:
        raise InvalidInputError(
            "METADATA_RANGE", "a text is too long or contains NUL", fields=violations
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where the content of an upload is, with its expected checksum and size."""

    uri: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256) or self.size_bytes < 1:
            raise InvalidInputError(
                "REFERENCE_INVALID", "send the reference with a sha256 in lower-case hex and a size"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """Stored bytes of an upload; the key is empty if they are in the database."""

    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A document's row; 0 means no version.

    Versions up to `tombstone_version` are deleted or being deleted, searches do not find those up
    to `hidden_version`. `upload_order` is the order of the latest upload or delete, see
    `Draft.order_ns`; `description_order` is that of the latest description event. `pinned`: its
    newest version is live and no other is added.
    """

    name: str
    latest_version: int = 0
    live_version: int = 0
    tombstone_version: int = 0
    hidden_version: int = 0
    upload_order: int = 0
    pinned: bool = False
    description_order: int = 0
    labels: Labels = NO_LABELS

    @property
    def next_version(self) -> int:
        """Number of the next new version."""
        return self.latest_version + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a document as it is stored. Times are the database's, aware UTC.

    `step_due_at` is when unfinished work becomes overdue, None if nothing is pending. `revision`
    counts the changes of title and metadata; `description_order` is the order of the last of them,
    as of an upload, see `Draft.order_ns`. `description_attempt` counts how often it was sent again.
    `kept`: it is superseded and has its bytes and text. `has_password`: one is stored, until the
    version is parsed.
    """

    tenant: str
    document: str
    number: int
    state: State
    reason: str = ""
    reason_detail: str = ""
    given_title: str
    text_title: str = ""
    revision: int = 0
    description_order: int = 0
    description_attempt: int = 0
    file_name: str
    media_type_hint: str
    media_type: str = ""
    metadata: JsonObject
    has_password: bool = False
    stored: Object
    origin: Origin
    trace_id: str
    notes: Sequence[Note] = ()
    lane: Lane = Lane.BULK
    chunk_count: int = 0
    batch_count: int = 0
    attempt: int = 0
    kept: bool = False
    step_due_at: datetime | None
    accepted_at: datetime
    updated_at: datetime

    @property
    def is_finished(self) -> bool:
        """Whether its processing has ended."""
        return self.state not in STEPS

    @property
    def title(self) -> str:
        """The producer's title, or else the title found in the text; empty if there is none."""
        return self.given_title or self.text_title

    def is_same(self, media_type: str, sha256: str) -> bool:
        """Whether an upload has the bytes and media type of this version, and it is still valid.

        An upload without a declared media type matches any media type.
        """
        declared = (self.media_type_hint or self.media_type).lower()
        return (
            self.stored.sha256 == sha256
            and media_type.lower() in ("", declared)
            and self.state in (*UNFINISHED, State.INDEXED)
        )

    def is_described_by(self, title: str, metadata: JsonObject) -> bool:
        """Whether these are the producer's title and metadata of this version."""
        return self.given_title == title and is_same(self.metadata, metadata)


class UploadResult(StrEnum):
    """The result of an event: one of these, or a reason in UPPER_SNAKE."""

    INDEXED = "INDEXED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A recorded upload, or another event of an upstream system, and the version it belongs to.

    `unchanged`: its bytes were stored before. `result` is empty while an upload event waits for its
    result, and always for an upload over gRPC, which gets a reply instead. `result_detail` explains
    a reason. `version` is 0 if a later event was handled first, and for a refused event;
    the texts of a refused event are truncated.
    """

    origin: Origin
    document: str
    version: int
    sha256: str
    unchanged: bool
    result: str = ""
    result_detail: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether the upload was refused and has no version."""
        return not self.version and self.result != SUPERSEDED.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A document, one of its versions, and others with its bytes if they were looked for."""

    entry: Entry
    version: Version
    same_content: Sequence[str] = ()

    @property
    def has_bytes(self) -> bool:
        """Whether the bytes of the version are stored."""
        match self.version.state:
            case State.SUPERSEDED:
                return self.version.kept
            case State.FAILED:
                return self.version.number > self.entry.live_version
            case State.DELETING | State.DELETED:
                return False
            case _:
                return True

    @property
    def mark(self) -> object:
        """Changes whenever something visible to the owner changes."""
        version = self.version
        return (self.entry, version.number, version.state, version.revision, version.updated_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a version failed; `reason` is UPPER_SNAKE, `detail` contains no document text."""

    reason: str
    detail: str


SUPERSEDED: Final = Verdict(
    reason="VERSION_SUPERSEDED", detail="a later event or delete of the document came first"
)
