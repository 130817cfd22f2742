"""What a unit of work does for deletions of documents and collections."""

from collections.abc import Sequence
from typing import Protocol

from ingest.domain import Entry, Version
from ingest.usecases.rows import CollectionDeletion, Purged, Receipt, Tombstone


class Deletions(Protocol):
    """Changes of a delete, made while the document is locked."""

    async def mark_deleting(
        self, tombstones: Sequence[Tombstone], wait_s: float
    ) -> Sequence[Version]:
        """Write tombstones, each up to the newest version of its document; returns these versions.

        All versions of the documents become DELETING.
        """

    async def record_removal(self, entry: Entry, order_ns: int) -> None:
        """Record a removal event of a document that is deleted or has no version yet."""

    async def mark_hidden(self, versions: Sequence[tuple[str, int]]) -> None:
        """Record that searches no longer find versions of documents up to these."""

    async def list_deleting(self, document: str, number: int) -> Sequence[Version]:
        """Versions up to this one that are DELETING, oldest first."""

    async def begin_purge(self, document: str, number: int, keys: Sequence[str]) -> None:
        """Record which DELETING versions up to this one have bytes that will be removed."""

    async def mark_discarded(self, document: str, number: int, dead_letters: int) -> None:
        """Record how many dead letters the delete up to this version removed."""

    async def purge(self, document: str, number: int) -> Purged:
        """Remove all data of the DELETING versions up to this one but what the receipt needs."""

    async def close(self, document: str, number: int, receipt: Receipt) -> None:
        """Make those versions DELETED, clear their descriptions and store the receipt."""

    async def adopt(self, document: str, number: int, wait_s: float) -> Version | None:
        """Record a document that only query knows as DELETING up to a version.

        None if it is known here. Later uploads of it get higher versions.
        """

    async def find_receipt(self, document: str, number: int) -> tuple[int, Receipt] | None:
        """Find the delete that removed this version: its last version and its receipt."""


class CollectionDeletions(Protocol):
    """Deletions of collections with their documents."""

    async def exclude_uploads(self, collection_id: str) -> None:
        """Wait for open uploads into a collection, and let no other begin until the end.

        To be called first in a transaction, because an upload locks its documents after it.
        """

    async def share(self, document: str) -> None:
        """Let no deletion of the document's collection be recorded until the end.

        To be called before the document is locked.
        """

    async def includes(self, document: str) -> bool:
        """Whether a document belongs to a deletion and has no tombstone of it yet."""

    async def add(self, collection_id: str) -> CollectionDeletion:
        """Record a deletion of all documents of now; uploads must be excluded.

        Unfinished uploads into the collection are removed; their parts become unused objects.
        """

    async def find_last(self, collection_id: str) -> CollectionDeletion | None:
        """The last deletion of a collection."""

    async def lock_unmarked(
        self, deletion: CollectionDeletion, after: str, limit: int
    ) -> Sequence[Tombstone]:
        """Lock at most `limit` documents of a deletion, after a name, without its tombstone.

        Returns the tombstones to write; fewer than `limit` if no more follow.
        """

    async def list_shown(
        self, collection_id: str, after: str, limit: int
    ) -> Sequence[tuple[str, int]]:
        """Documents after a name that searches may still find, with their tombstone version."""

    async def mark_hidden(self, deletion: CollectionDeletion) -> None:
        """Record that all documents have their tombstone and searches find none of them."""

    async def finish(self, deletion: CollectionDeletion) -> CollectionDeletion | None:
        """Store the receipt of a deletion; None if a document is left, or it was done before."""
