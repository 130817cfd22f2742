"""Deleting a document: hidden from searches at once, then removed from every store."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from aquifer.query.v1.passage_events_pb2 import PassagesPurged
from chassis.base.errors import (
    FailedPreconditionError,
    NotFoundError,
    ServiceError,
    UnavailableError,
)
from chassis.events.delivery import Delivery
from ingest.domain import Origin, Version, View, check_name
from ingest.pace import Pace
from ingest.usecases import announce
from ingest.usecases.ports import DeadLetters, Hide, Objects, Sweeper
from ingest.usecases.rows import Receipt, Tombstone
from ingest.usecases.work import Begin, Work

log = logging.getLogger(__name__)

HIDE_RETRY_S: Final = 1.0
OLD_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDocument:
    """Commits the tombstone, then asks query to hide the document; the rest follows by events."""

    begin: Begin
    hide: Hide
    pace: Pace

    async def run(self, tenant: str, name: str) -> View:
        """Returns the document, which searches no longer find; can be repeated.

        Raises:
            InvalidInputError: DOCUMENT_NAME.
            NotFoundError: DOCUMENT_UNKNOWN.
            UnavailableError: HIDE_PENDING; the tombstone is committed and hiding is retried.
        """
        check_name(name)
        async with self.begin(tenant) as work:
            view = await mark_deleting(work, name, self.pace)
        return await self.hide_deleted(tenant, view)

    async def hide_deleted(self, tenant: str, view: View) -> View:
        """Asks query to hide a document with a tombstone; returns the hidden document.

        Raises:
            UnavailableError: HIDE_PENDING.
        """
        name, tombstone = view.entry.name, view.entry.tombstone_version
        if view.entry.hidden_version >= tombstone:
            return view
        try:
            await self.hide(tenant, name, tombstone)
        except ServiceError as error:
            log.warning("document.hide_pending", extra={"reason": error.reason})
            raise UnavailableError(
                "HIDE_PENDING",
                "the deletion continues by itself; until then searches may find the document",
                retry_after_s=HIDE_RETRY_S,
            ) from error
        async with self.begin(tenant) as work:
            await work.deletions.mark_hidden([(name, tombstone)])
        entry = replace(view.entry, hidden_version=tombstone, live_version=0)
        return replace(view, entry=entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOldDocuments:
    """Deletes the documents that are older than the retention of their collection."""

    begin: Begin
    sweeper: Sweeper
    pace: Pace

    async def run(self) -> int:
        """Orders the deletion of old documents; returns their number.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next round.
        """
        deleted = 0
        for tenant in await self.sweeper.list_tenants_with_retention():
            more = True
            while more:
                async with self.begin(tenant) as work:
                    old = await work.collections.list_old(OLD_AT_ONCE)
                done = sum([await self._delete(tenant, name, number) for name, number in old])
                deleted += done
                more = done > 0 and len(old) == OLD_AT_ONCE
        return deleted

    async def _delete(self, tenant: str, name: str, number: int) -> bool:
        async with self.begin(tenant) as work:
            await work.collection_deletions.share(name)
            entry = await work.documents.lock(name)
            if entry is None or entry.latest_version != number:
                return False  # uploaded again in the meantime
            await mark_deleting(work, name, self.pace)
            return True


async def mark_deleting(work: Work, name: str, pace: Pace, *, order_ns: int = 0) -> View:
    """Commits with the transaction: the tombstone, and the order to remove the rest.

    `order_ns` is the order of the delete, see `Draft.order_ns`; 0 means now.
    """
    await work.collection_deletions.share(name)
    entry = await work.documents.lock(name)
    if entry is None:
        raise unknown_document_error()
    if entry.tombstone_version == entry.latest_version and not order_ns:
        # Also a description that is kept for an upload that has not come.
        await work.deletions.record_removal(entry, 0)
    if entry.tombstone_version < entry.latest_version:
        tombstone = Tombstone(document=name, number=entry.latest_version, order_ns=order_ns)
        await write_tombstones(work, [tombstone], pace.wait_s(0))
    view = await work.documents.find_newest(name)
    assert view is not None, "a document's newest version is never removed"
    return view


async def write_tombstones(
    work: Work, tombstones: Sequence[Tombstone], wait_s: float
) -> Sequence[Version]:
    """Marks locked documents as deleted and orders the removal; returns their newest versions."""
    marked = await work.deletions.mark_deleting(tombstones, wait_s)
    for version in marked:
        announce.order_deletion(work, version)
    return marked


def unknown_document_error() -> NotFoundError:
    """The same error for a document that does not exist and for one of another tenant."""
    return NotFoundError("DOCUMENT_UNKNOWN", "no document has this name; check name and key")


def deleted_document_error() -> FailedPreconditionError:
    """A deleted document cannot be described."""
    return FailedPreconditionError(
        "DOCUMENT_DELETED", "the document is deleted; upload it again with the new values"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeDocument:
    """Removes the deleted versions from ingest, after query has removed them.

    Files and dead letters are removed first; a repeat does no harm. Until the end, the rows record
    what has to be removed and how much was removed, so the receipt includes interrupted attempts.
    """

    begin: Begin
    objects: Objects
    dead_letters: DeadLetters

    async def run(self, delivery: Delivery[PassagesPurged]) -> None:
        """Does nothing if the versions are already removed."""
        event = delivery.event
        async with self.begin(event.tenant) as work:
            deleting = await work.deletions.list_deleting(event.document, event.version)
        if deleting:
            keys = [version.stored.key for version in deleting if version.stored.key]
            await self._remove_objects(event, keys)
            await self._discard_letters(event)
        async with self.begin(event.tenant, [delivery]) as work:
            if work.fresh:
                await _purge(work, delivery)

    async def _remove_objects(self, event: PassagesPurged, keys: Sequence[str]) -> None:
        if not keys:
            return
        # Files of superseded versions are already gone; an earlier attempt recorded its own.
        stored = await self.objects.list(keys[0].rpartition("/")[0])
        async with self.begin(event.tenant) as work:
            await work.documents.lock(event.document)
            await work.deletions.begin_purge(event.document, event.version, stored)
        for key in keys:
            await self.objects.delete(key)

    async def _discard_letters(self, event: PassagesPurged) -> None:
        letters = await self.dead_letters.discard_document(event.tenant, event.document)
        if letters:
            # Recorded at once, because a repeat of an interrupted attempt no longer finds them.
            async with self.begin(event.tenant) as work:
                await work.documents.lock(event.document)
                await work.deletions.mark_discarded(event.document, event.version, letters)


async def _purge(work: Work, delivery: Delivery[PassagesPurged]) -> None:
    """Removes the rows and sends the receipts."""
    event = delivery.event
    await work.documents.lock(event.document)
    deleting = await work.deletions.list_deleting(event.document, event.version)
    if not deleting:
        return
    purged = await work.deletions.purge(event.document, event.version)
    receipt = Receipt(
        objects=purged.objects,
        chunks=purged.chunks,
        passages=event.passages,
        points=event.points,
        outbox_rows=purged.outbox_rows,
        dead_letters=purged.dead_letters + event.dead_letters,
        redacted_answers=event.redacted_answers,
        signatures=purged.signatures,
    )
    last = deleting[-1]
    waiting = await work.uploads.settle_deleted(event.document, last.number)
    await work.deletions.close(event.document, last.number, receipt)
    origins: dict[tuple[str, str], Origin] = {
        (origin.source, origin.request_id): origin
        for origin in (last.origin, *(upload.origin for upload in waiting))
    }
    for origin in origins.values():
        announce.send_deletion(work, last, origin, receipt, delivery)
