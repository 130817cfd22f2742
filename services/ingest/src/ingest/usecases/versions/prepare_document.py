"""Preparing an accepted version: parse it, cut its text and send the chunks to be embedded."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from aquifer.ingest.v1.document_events_pb2 import VersionAccepted
from chassis.base.errors import DataLossError, InvalidInputError, NotFoundError
from chassis.events.delivery import Delivery
from ingest.collections import CollectionSettings, collection_of
from ingest.domain import State, Verdict, Version
from ingest.lanes import share_of
from ingest.pace import Pace, work_s
from ingest.pieces import Piece, Prepared
from ingest.usecases import announce
from ingest.usecases.documents.duplicates import keep_signature
from ingest.usecases.ports import Changed, Objects, Parse, Passwords, Room
from ingest.usecases.uploads.fresh import FreshVersions
from ingest.usecases.versions.finish_document import give_up
from ingest.usecases.versions.send_pieces import PAGE_PIECES, SendPieces
from ingest.usecases.work import Begin

log = logging.getLogger(__name__)

# A version with more is stored in several transactions.
PIECES_AT_ONCE: Final = PAGE_PIECES
# What is made of a small document takes more memory than its bytes.
ROOM_MIN_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareDocument:
    """Parses and cuts a version without a transaction, then commits the outcome.

    Its bytes are read when there is room for them, in turn with other tenants. If the parser
    refuses it, or its object is damaged or missing, the version fails with that reason. An event
    has no effect if its version is in a later state.

    A version with more than `PIECES_AT_ONCE` pieces takes several transactions, which bounds the
    memory. It stays ACCEPTED until all its pieces are stored, and nothing is sent before. Then they
    are sent; the event is handled with the last of them, so it comes again if that is interrupted.
    """

    begin: Begin
    objects: Objects
    parse: Parse
    room: Room
    passwords: Passwords
    fresh: FreshVersions
    pace: Pace
    changed: Changed
    send: SendPieces

    async def run(self, delivery: Delivery[VersionAccepted]) -> None:
        """Prepares a version.

        Raises:
            ConflictError: PIECES_CHANGED, two processes prepare it; and errors that the document
                did not cause.
        """
        version = await self._find(delivery.event)
        if version is None:
            return
        if version.state is State.PREPARED:
            await self.send.run(version, [delivery])
            return
        share = share_of(version.tenant, version.lane)
        async with self.room.acquire(share, max(version.stored.size_bytes, ROOM_MIN_BYTES)):
            await self._prepare_in_room(version, delivery)
        # No event reports this state to watchers.
        self.changed(version.tenant, version.document)

    async def _prepare_in_room(self, version: Version, delivery: Delivery[VersionAccepted]) -> None:
        outcome = await self._prepare(version)
        if isinstance(outcome, Prepared) and len(outcome.pieces) > PIECES_AT_ONCE:
            await self._keep_large(version, outcome, delivery)
        elif outcome is not None:
            await self._keep(version, outcome, delivery)

    async def _keep(
        self, version: Version, outcome: Prepared | Verdict, delivery: Delivery[VersionAccepted]
    ) -> None:
        async with self.begin(version.tenant, [delivery]) as work:
            if not work.fresh:
                return
            if isinstance(outcome, Verdict):
                await give_up(work, version.document, version.number, outcome, delivery)
                return
            prepared = await work.documents.prepare(version, outcome, self._wait_s(outcome))
            if prepared is not None:
                if outcome.signature:
                    await keep_signature(work.duplicates, prepared, outcome.signature)
                entry = await work.documents.find_entry(version.document)
                assert entry is not None, "the row of a version's document is never removed"
                announce.send_chunks(work, prepared, outcome.pieces, entry.labels, cause=delivery)

    async def _keep_large(
        self, version: Version, outcome: Prepared, delivery: Delivery[VersionAccepted]
    ) -> None:
        for part in _split(outcome.pieces):
            async with self.begin(version.tenant) as work:
                if not await work.documents.keep_pieces(version, part):
                    return
        async with self.begin(version.tenant) as work:
            prepared = await work.documents.finish_pieces(version, outcome, self._wait_s(outcome))
            if prepared is not None and outcome.signature:
                await keep_signature(work.duplicates, prepared, outcome.signature)
        if prepared is not None:
            await self.send.run(prepared, [delivery])

    def _wait_s(self, outcome: Prepared) -> float:
        return self.pace.wait_s(0, work_s(State.PREPARED, 0, outcome.batch_count))

    async def _find(self, event: VersionAccepted) -> Version | None:
        """The version, if it still has to be prepared."""
        version = self.fresh.take(event.tenant, event.document, event.version)
        if version is None:
            async with self.begin(event.tenant) as work:
                version = await work.documents.find_version(event.document, event.version)
        if version is None:
            log.warning("version.unknown", extra={"version": event.version})
            return None
        is_sent = version.state is State.PREPARED and version.chunk_count > PIECES_AT_ONCE
        return version if version.state is State.ACCEPTED or is_sent else None

    async def _prepare(self, version: Version) -> Prepared | Verdict | None:
        """None for a version whose collection was deleted: without its settings it is not parsed.

        Its tombstone follows.
        """
        try:
            content = await self._read(version)
            settings, password = await self._read_settings(version)
            if settings is None:
                return None
            return await self.parse(version, content, settings, password)
        except (InvalidInputError, NotFoundError, DataLossError) as error:
            log.info("document.refused", extra={"reason": error.reason})
            return Verdict(reason=error.reason, detail=error.detail)

    async def _read_settings(self, version: Version) -> tuple[CollectionSettings | None, str]:
        """The settings of the collection, None if it was deleted; the password of the document."""
        tenant, document, number = version.tenant, version.document, version.number
        sealed = None
        async with self.begin(tenant) as work:
            found = await work.collections.find_settings(collection_of(document))
            # After the settings, which may be deleted in between.
            if await work.collection_deletions.includes(document):
                return None, ""
            if version.has_password:
                sealed = await work.documents.read_password(document, number)
        password = self.passwords.open(tenant, document, number, sealed) if sealed else ""
        return found or CollectionSettings(), password

    async def _read(self, version: Version) -> bytes:
        if version.stored.key:
            return await self.objects.read(version.stored.key, sha256=version.stored.sha256)
        async with self.begin(version.tenant) as work:
            content = await work.documents.read_content(version.document, version.number)
        if content is None:
            raise NotFoundError(
                "OBJECT_MISSING", "the bytes of the version are missing; upload the document again"
            )
        return content


def _split(pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    for start in range(0, len(pieces), PIECES_AT_ONCE):
        yield pieces[start : start + PIECES_AT_ONCE]
