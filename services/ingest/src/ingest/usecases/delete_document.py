"""A document vanishes: out of every search at once, then out of every store, with a receipt."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from aquifer.query.v1.passage_events_pb2 import PassagesPurged
from chassis.base.errors import NotFoundError, ServiceError, UnavailableError
from chassis.events.delivery import Delivery
from ingest.domain import Origin, Receipt, View, check_name
from ingest.pace import Pace
from ingest.usecases import announce
from ingest.usecases.ports import DeadLetters, Hide, Objects
from ingest.usecases.work import Begin, Work

log = logging.getLogger(__name__)

HIDE_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDocument:
    """Commits the tombstone, then has query hide the document; the rest goes on by itself."""

    begin: Begin
    hide: Hide
    pace: Pace

    async def run(self, tenant: str, name: str) -> View:
        """The document, which no search finds any more; a repeat is harmless.

        Raises:
            InvalidInputError: DOCUMENT_NAME.
            NotFoundError: DOCUMENT_UNKNOWN.
            UnavailableError: HIDE_PENDING; the tombstone stands, hiding is tried on.
        """
        check_name(name)
        view = await self._mark_deleting(tenant, name)
        tombstone = view.entry.tombstone_version
        if view.entry.hidden_version >= tombstone:
            return view
        try:
            await self.hide(name, tombstone)
        except ServiceError as error:
            log.warning("document.hide_pending", extra={"reason": error.reason})
            raise UnavailableError(
                "HIDE_PENDING",
                "the deletion goes on by itself; searches may find the document until then",
                retry_after_s=HIDE_RETRY_S,
            ) from error
        async with self.begin(tenant) as work:
            await work.deletions.mark_hidden(name, tombstone)
        entry = replace(view.entry, hidden_version=tombstone, live_version=0)
        return replace(view, entry=entry)

    async def _mark_deleting(self, tenant: str, name: str) -> View:
        async with self.begin(tenant) as work:
            entry = await work.documents.lock(name)
            if entry is None:
                raise unknown_document_error()
            if entry.tombstone_version < entry.latest_version:
                await work.deletions.mark_deleting(entry, self.pace.wait_s(0))
            view = await work.documents.find_newest(name)
            assert view is not None, "a document's newest version is never removed"
            if entry.tombstone_version < entry.latest_version:
                announce.order_deletion(work, view.version)
            return view


def unknown_document_error() -> NotFoundError:
    """The same for a document that does not exist and for one of another tenant."""
    return NotFoundError("DOCUMENT_UNKNOWN", "no such document")


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeDocument:
    """Removes what ingest holds of the deleted versions, once query has removed its part.

    Files and dead letters go first and may go twice; the rows say until the end that they must, and
    how many there were: an attempt that is broken off is in the receipt as well.
    """

    begin: Begin
    objects: Objects
    dead_letters: DeadLetters

    async def run(self, delivery: Delivery[PassagesPurged]) -> None:
        """Without effect when the versions are gone already."""
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
        # A superseded version lost its file long ago, one that an earlier attempt removed is noted.
        stored = await self.objects.list(keys[0].rpartition("/")[0])
        async with self.begin(event.tenant) as work:
            await work.documents.lock(event.document)
            await work.deletions.begin_purge(event.document, event.version, stored)
        for key in keys:
            await self.objects.delete(key)

    async def _discard_letters(self, event: PassagesPurged) -> None:
        letters = await self.dead_letters.discard_document(event.tenant, event.document)
        if letters:
            # At once: an attempt that breaks off after this finds none when it is repeated.
            async with self.begin(event.tenant) as work:
                await work.documents.lock(event.document)
                await work.deletions.mark_discarded(event.document, event.version, letters)


async def _purge(work: Work, delivery: Delivery[PassagesPurged]) -> None:
    """Removes the rows and tells what was removed."""
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
