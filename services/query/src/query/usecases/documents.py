"""Hide, purge and give up documents."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from aquifer.ingest.v1.document_events_pb2 import DocumentDeletionRequested, DocumentFailed
from aquifer.query.v1.passage_events_pb2 import PassagesPurged, VersionSearchable
from chassis.base.errors import UnavailableError
from query.domain import Version
from query.usecases.ports import DeadLetters, Effect, Ledger, Once
from query.vectors.port import Filter, TenantScope, VectorStore

PURGE_ROUNDS: Final = 5
DOOMED_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class HideDocument:
    """Commits the tombstone of a document, also of one never seen; a repeat changes nothing."""

    ledger: Ledger

    async def __call__(self, tenant: str, version: Version) -> None:
        async with self.ledger.transaction(tenant) as rows:
            await rows.hide(version)


@dataclass(frozen=True, slots=True)
class PurgeDocument:
    """Removes a document from everything this service keeps, and says how much that was.

    The tombstone is committed first: a batch that passed its first look before it sees it in its
    second, and removes its own points.
    """

    ledger: Ledger
    vectors: VectorStore
    dead_letters: DeadLetters

    async def __call__(self, event: DocumentDeletionRequested, once: Once) -> None:
        version = Version(document=event.document, number=event.version)
        scope = TenantScope(event.tenant)
        points = await self._points(scope, version)
        async with self.ledger.transaction(event.tenant) as rows:
            await rows.hide(version)
            await rows.begin_purge(version, len(points))
        await self._remove_points(scope, version)
        await self._discard_letters(event.tenant, version)
        # Without a document: this inbox row, and the fact stored on it, outlive the purge.
        await once("", partial(_finish, event, version))

    async def _remove_points(self, scope: TenantScope, version: Version) -> None:
        for _ in range(PURGE_ROUNDS):
            points = await self._points(scope, version)
            if not points:
                return
            await self.vectors.delete_points(scope, points)
        raise UnavailableError("POINTS_REMAIN", "removed points were still found")

    async def _discard_letters(self, tenant: str, version: Version) -> None:
        letters = await self.dead_letters.discard_document(tenant, version.document)
        if letters:
            # At once: an attempt that breaks off after this finds none when it is repeated.
            async with self.ledger.transaction(tenant) as rows:
                await rows.discarded(version, letters)

    async def _points(self, scope: TenantScope, version: Version) -> list[str]:
        """Ids of every point of this version and of older ones."""
        found: list[str] = []
        within = Filter(documents=frozenset({version.document}))
        start: str | None = None
        while True:
            page = await self.vectors.scroll(scope, within, start=start)
            found += [one.point_id for one in page.entries if one.version <= version.number]
            if page.next_id is None:
                return found
            start = page.next_id


async def _finish(event: DocumentDeletionRequested, version: Version, effect: Effect) -> bool:
    removed = await effect.rows.finish_purge(version)
    effect.emit(
        PassagesPurged(
            tenant=event.tenant,
            document=version.document,
            version=version.number,
            passages=removed.passages,
            points=removed.points,
            inbox_rows=removed.inbox_rows,
            dead_letters=removed.dead_letters,
        )
    )
    return True


@dataclass(frozen=True, slots=True)
class GiveUpVersion:
    """Removes what is stored of a version that failed; that a live one is live is told again.

    Ingest gave such a version up without having heard of it, and believes what searches see.
    """

    async def __call__(self, event: DocumentFailed, once: Once) -> None:
        """Without effect for an upload that was refused before it had a version."""
        if event.version:
            version = Version(document=event.document, number=event.version)
            await once(version.document, partial(_give_up, event.tenant, version))


async def _give_up(tenant: str, version: Version, effect: Effect) -> None:
    standing = await effect.rows.lock(version)
    if not standing.wants(version.number):
        return
    if version.number != standing.live_version:
        await effect.rows.fail(version)
        return
    effect.emit(
        VersionSearchable(
            tenant=tenant,
            document=version.document,
            version=version.number,
            passage_count=await effect.rows.count(version),
        )
    )


@dataclass(frozen=True, slots=True)
class RemoveDoomedPoints:
    """Removes the points of versions whose passages are gone already."""

    ledger: Ledger
    vectors: VectorStore

    async def __call__(self) -> int:
        """Versions done now; a crash in between repeats the last one, without harm."""
        doomed = await self.ledger.doomed(DOOMED_BATCH)
        for one in doomed:
            await self.vectors.delete_document(
                TenantScope(one.tenant), one.version.document, one.version.number
            )
            await self.ledger.undoom(one)
        return len(doomed)
