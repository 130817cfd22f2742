"""Interfaces of the tables of one tenant in one transaction."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from aquifer.structs import JsonObject
from ingest.checks import Check, Checked
from ingest.collections import Collection, CollectionSettings
from ingest.domain import Draft, Entry, Origin, Upload, Verdict, Version, View
from ingest.labels import Labels
from ingest.pieces import Piece, Prepared
from ingest.usecases.rows import (
    Addition,
    Claimed,
    Extent,
    Fetch,
    PageQuery,
    Part,
    Pending,
    Session,
    Standing,
    Unfinished,
)


class Documents(Protocol):
    """Rows of one tenant in one transaction, which commits as a whole or not at all.

    `lock` and `claim` serialise the changes of a document: lock its row before adding a version,
    deleting versions or sending their results.
    """

    async def claim(self, names: Sequence[str]) -> Claimed:
        """Lock the documents' rows until the transaction ends; missing rows are created.

        No deletion of their collections begins in this time.
        """

    async def release(self, names: Sequence[str]) -> None:
        """Remove rows that `claim` created; they have no version, nor the order of a removal."""

    async def lock(self, name: str) -> Entry | None:
        """Lock the document's row until the transaction ends."""

    async def find_entry(self, name: str) -> Entry | None:
        """Read the document's row without a lock."""

    async def find_newest(self, name: str) -> View | None:
        """Read the document and its newest version without a lock."""

    async def list_newest(self, names: Sequence[str]) -> Sequence[View]:
        """Read the existing documents and their newest versions, in any order."""

    async def find_version(self, name: str, number: int) -> Version | None:
        """Read one version; it cannot change while the document is locked."""

    async def lock_version(self, name: str, number: int) -> View | None:
        """Lock the rows of the document and of this version until the transaction ends."""

    async def list_versions(self, numbers: Mapping[str, int]) -> Mapping[str, Version]:
        """Read one version of each document, by name; they cannot change under the locks."""

    async def lock_versions(self, versions: Sequence[tuple[str, int]]) -> Sequence[View]:
        """Lock the rows of the documents and of these versions, in the order of their names."""

    async def add(self, additions: Sequence[Addition]) -> Mapping[str, Version]:
        """Add versions as the newest of their documents, and record the uploads.

        Returns the added versions by document; a known upload adds none.
        """

    async def describe(
        self, version: Version, title: str, metadata: JsonObject, *, order_ns: int, wait_s: float
    ) -> Version:
        """Set the title and metadata of a version; returns the changed version.

        `order_ns` is when they were given, 0 means now. `wait_s` is the time for query to confirm.
        """

    async def keep_description(self, draft: Draft) -> None:
        """Keep a description for uploads from before it that are handled later."""

    async def find_description(self, name: str) -> tuple[str, JsonObject] | None:
        """Title and metadata that `keep_description` kept; None if they have been removed since."""

    async def forget_descriptions(self, age_s: float, limit: int) -> int:
        """Remove kept descriptions that are older; returns their number."""

    async def confirm_descriptions(self, versions: Sequence[Version]) -> None:
        """Record that query knows the descriptions of these versions."""

    async def raise_order(self, name: str, order_ns: int) -> None:
        """Raise the order of the document's latest upload to `order_ns`; 0 means now."""

    async def read_content(self, name: str, number: int) -> bytes | None:
        """Read the bytes of a version; None if they are not in the database."""

    async def read_password(self, name: str, number: int) -> bytes | None:
        """Read the sealed password of a version; None if there is none, or no longer."""

    async def prepare(self, version: Version, prepared: Prepared, wait_s: float) -> Version | None:
        """Store the pieces and make the version PREPARED; None if it is no longer ACCEPTED."""

    async def keep_pieces(self, version: Version, pieces: Sequence[Piece]) -> bool:
        """Store the next pieces of a version that is not PREPARED yet, and remove those behind.

        False if it is no longer ACCEPTED.
        """

    async def finish_pieces(
        self, version: Version, prepared: Prepared, wait_s: float
    ) -> Version | None:
        """Make the version PREPARED with the pieces that are kept; None as for `prepare`.

        Raises:
            ConflictError: PIECES_CHANGED, another process has kept other pieces meanwhile.
        """

    async def index(self, versions: Sequence[Version]) -> Mapping[str, Sequence[Upload]]:
        """Make versions INDEXED and live; returns the waiting uploads by document."""

    async def fail(self, version: Version, verdict: Verdict) -> Sequence[Upload]:
        """Make the version FAILED; returns the waiting uploads."""

    async def list_retired(self, entry: Entry, number: int) -> Sequence[Version]:
        """Versions that version `number` retires, from the live one on, and those kept before.

        Oldest first; their rows are locked.
        """

    async def retire(self, name: str, *, kept: Sequence[int], dropped: Sequence[int]) -> None:
        """Make versions SUPERSEDED unless they have failed, and remove the data of `dropped`."""

    async def list_overkept(self, limit: int) -> Sequence[str]:
        """Documents with more kept versions than their collection says."""

    async def list_history(self, name: str, before: int, limit: int) -> Sequence[View]:
        """Versions of a document before a number (0: all), the newest first."""

    async def pin(self, name: str, *, pinned: bool) -> Entry:
        """Pin the document to its newest version, which is live, or unpin it."""

    async def list_pieces(self, name: str, number: int, first: int, limit: int) -> Sequence[Piece]:
        """Pieces of a version from the one numbered `first` on, in order."""

    async def repeat(self, pending: Pending, wait_s: float) -> Version | None:
        """Count one more attempt of a step.

        None if the step has moved on, was repeated in the meantime, or waits in the outbox.
        """

    async def repeat_description(self, pending: Pending, wait_s: float) -> Version | None:
        """Count one more attempt to send a description; None as for `repeat`."""

    async def list_page(self, query: PageQuery) -> Sequence[View]:
        """Documents with their newest versions, in the order of their names."""

    async def count_unfinished(self) -> Unfinished:
        """Count the unfinished versions of the tenant."""


class DocumentLabels(Protocol):
    """Labels of documents, and whether query knows them."""

    async def put(
        self, name: str, names: tuple[str, ...], *, own: bool, order_ns: int, due: bool
    ) -> Labels | None:
        """Set the labels of a document; None, without a change, if it has later ones.

        `order_ns` is when they were given, 0 means now. `due`: query has to be told.
        """

    async def put_again(self, names: Sequence[str]) -> None:
        """Give documents the labels that they have once more, now: query has to be told."""

    async def list_due(self, names: Sequence[str], limit: int) -> Sequence[tuple[str, Labels]]:
        """Labels that query has not confirmed, of these documents or of all if none is named."""

    async def confirm(self, labelled: Sequence[tuple[str, Labels]]) -> None:
        """Record that query knows these labels, unless they have changed since."""


class Checks(Protocol):
    """Comparison of bytes with stored documents."""

    async def compare(self, checks: Sequence[Check]) -> Sequence[Checked]:
        """Compare bytes with the newest versions of their documents, in the same order."""


class Texts(Protocol):
    """Text of versions, as their pieces store it."""

    async def measure(self, name: str, number: int) -> "Extent | None":
        """Length and last page of a version's text; None if none is stored."""

    async def find_page(self, name: str, number: int, page: int) -> int | None:
        """First character of the first page from `page` on that has text; None if none has."""

    async def list_pieces(self, name: str, number: int, start: int, end: int) -> Sequence[Piece]:
        """Pieces with the characters of a range, in order, and the one before them."""


class Uploads(Protocol):
    """Uploads that can be repeated."""

    async def add(self, upload: Upload) -> bool:
        """Record an upload that can be repeated; False, without a change, if it is known."""

    async def find(self, origin: Origin) -> Upload | None:
        """The accepted upload of this source and id."""

    async def settle(self, document: str, number: int, verdict: Verdict) -> Sequence[Upload]:
        """Record the verdict for uploads that wait for this version; returns them."""

    async def settle_deleted(self, document: str, number: int) -> Sequence[Upload]:
        """Record DELETED for uploads that wait for versions up to this one; returns them."""


class Fetches(Protocol):
    """Uploads whose content another server has, until they are accepted or refused."""

    async def add(self, fetch: Fetch) -> None:
        """Record an upload to be fetched now; a known one stays as it is."""

    async def count(self) -> int:
        """Number of the tenant's uploads that wait for their content."""

    async def take(self, source: str, request_id: str, lease_s: float) -> "Fetch | None":
        """Take a due fetch, which is not due for others until `lease_s` has passed.

        Counts an attempt. None if it is not due, or gone.
        """

    async def put_back(self, fetch: Fetch, wait_s: float, *, attempt: int) -> None:
        """Make a fetch due in `wait_s` seconds, and set its count of attempts."""

    async def remove(self, fetch: Fetch) -> None:
        """Remove a fetch that has ended."""


class Sessions(Protocol):
    """Uploads in several calls that are not finished."""

    async def lock(self) -> None:
        """Lock the tenant's set of sessions until the transaction ends."""

    async def find(self, upload_id: str) -> Session | None:
        """Read a session."""

    async def find_same(self, draft: Draft, sha256: str, size_bytes: int) -> Session | None:
        """The session of a document with this content and these labels."""

    async def measure(self) -> tuple[int, int]:
        """Number of the tenant's sessions, and the bytes that they declare."""

    async def put(self, session: Session, expiry_s: float) -> Session:
        """Add a session, or replace the description of a known one, which keeps its offset."""

    async def append(self, upload_id: str, part: Part, expiry_s: float) -> Session | None:
        """Add a part at the offset and move that; None if it is not there, or it does not fit."""

    async def list_parts(self, upload_id: str) -> Sequence[Part]:
        """The parts of a session, in order."""

    async def remove(self, upload_id: str, *, only_expired: bool = False) -> Sequence[str]:
        """Remove a session and its parts; returns the keys of their objects."""


class Tenants(Protocol):
    """The standing of the tenant from auth's events, which may come in any order."""

    async def find_standing(self) -> Standing:
        """The standing of the tenant as far as it is known here."""

    async def admit(self) -> None:
        """Record that the tenant exists."""

    async def suspend(self, sequence: int) -> None:
        """Record that the tenant is suspended, unless a change with a higher sequence is known."""

    async def resume(self, sequence: int) -> None:
        """Record that it is active again, unless a change with a higher sequence is known."""


class Collections(Protocol):
    """Collections of one tenant in one transaction."""

    async def find(self, collection_id: str) -> Collection | None:
        """Read a collection that was created or has documents."""

    async def find_settings(self, collection_id: str) -> CollectionSettings | None:
        """Read the settings of a collection that was created."""

    async def list_page(self, after: str, limit: int) -> Sequence[Collection]:
        """At most `limit` of those, after a collection id (may be empty), in a stable order."""

    async def create(self, collection_id: str, settings: CollectionSettings) -> bool:
        """Create a collection; False if it was created before."""

    async def update(self, collection_id: str, settings: CollectionSettings) -> None:
        """Replace the settings of a collection; it is created if it was not."""

    async def label(self, collection_id: str, labels: tuple[str, ...]) -> None:
        """Give labels to the documents of a collection without own ones; query has to be told."""

    async def lock(self, collection_id: str) -> None:
        """Lock the settings of a collection until the transaction ends."""

    async def delete(self, collection_id: str) -> None:
        """Remove the settings of a collection."""

    async def list_old(self, limit: int) -> Sequence[tuple[str, int]]:
        """Documents older than the retention of their collection, with their newest version."""
