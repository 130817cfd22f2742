"""Hides, purges, describes and gives up documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aquifer.ingest.v1.document_events_pb2 import (
    DescriptionChanged,
    DocumentDeletionRequested,
    DocumentFailed,
)
from aquifer.query.v1.passage_events_pb2 import (
    PassagesPurged,
    VersionDescribed,
    VersionSearchable,
)
from chassis.base.errors import FieldViolation, InvalidInputError, UnavailableError
from chassis.events.delivery import Batch, Delivery
from query.description import Description
from query.domain import Version
from query.retrieval.vector_store import Filter, TenantScope, VectorStore
from query.usecases.index_chunks import to_description
from query.usecases.indexes import Indexes
from query.usecases.ports import Begin, DeadLetters, Ledger, Work

PURGE_ROUNDS: Final = 5
REMOVED_BATCH: Final = 100
HIDDEN_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class HideDocument:
    """Commits the tombstone of a document, even of an unknown one; a repeat changes nothing."""

    begin: Begin

    async def run(self, tenant: str, version: Version) -> None:
        async with self.begin(tenant) as work:
            await work.rows.hide(version)


@dataclass(frozen=True, slots=True)
class HideDocuments:
    """Does the same for many documents at once, for all or for none."""

    begin: Begin

    async def run(self, tenant: str, versions: Sequence[Version]) -> None:
        """Raises InvalidInputError: HIDE_COUNT."""
        names = {version.document for version in versions}
        if not 1 <= len(versions) == len(names) <= HIDDEN_MAX:
            detail = f"send 1 to {HIDDEN_MAX} documents, each once"
            raise InvalidInputError(
                "HIDE_COUNT", detail, fields=[FieldViolation("documents", detail)]
            )
        async with self.begin(tenant) as work:
            await work.rows.hide(*versions)


@dataclass(frozen=True, slots=True)
class PurgeDocument:
    """Removes a document from all stores of this service and reports how much was removed.

    The tombstone is committed first, so a batch that has just written points sees it in its
    transaction and removes them. An index whose build begins after the tombstone gets no points of
    the document, so those in use when the points are removed are all.
    """

    begin: Begin
    indexes: Indexes
    dead_letters: DeadLetters

    async def run(self, delivery: Delivery[DocumentDeletionRequested]) -> None:
        event = delivery.event
        version = Version(document=event.document, number=event.version)
        scope = TenantScope(event.tenant)
        points = [
            await _list_points(index.vectors, scope, version)
            for index in await self.indexes.list_in_use()
        ]
        async with self.begin(event.tenant) as work:
            await work.rows.hide(version)
            await work.rows.begin_purge(version, sum(map(len, points)))
        for index in await self.indexes.list_in_use():
            await _remove_points(index.vectors, scope, version)
        await self._discard_letters(event.tenant, version)
        async with self.begin(event.tenant, [delivery]) as work:
            if work.fresh:
                await _finish(work, delivery, version)

    async def _discard_letters(self, tenant: str, version: Version) -> None:
        letters = await self.dead_letters.discard_document(tenant, version.document)
        if letters:
            # Recorded at once, because a repeat of an interrupted attempt no longer finds them.
            async with self.begin(tenant) as work:
                await work.rows.mark_discarded(version, letters)


async def _remove_points(vectors: VectorStore, scope: TenantScope, version: Version) -> None:
    for _ in range(PURGE_ROUNDS):
        points = await _list_points(vectors, scope, version)
        if not points:
            return
        await vectors.delete_points(scope, points)
    raise UnavailableError("POINTS_REMAIN", "removed points are still found; retry")


async def _list_points(vectors: VectorStore, scope: TenantScope, version: Version) -> list[str]:
    """Ids of all points of this version and of older ones."""
    found: list[str] = []
    within = Filter(documents=frozenset({version.document}))
    start: str | None = None
    while True:
        page = await vectors.scroll(scope, within, start=start)
        found += [one.point_id for one in page.entries if one.version <= version.number]
        if page.next_id is None:
            return found
        start = page.next_id


async def _finish(
    work: Work, delivery: Delivery[DocumentDeletionRequested], version: Version
) -> None:
    removed = await work.rows.finish_purge(version)
    event = PassagesPurged(
        tenant=delivery.event.tenant,
        document=version.document,
        version=version.number,
        passages=removed.passages,
        points=removed.points,
        dead_letters=removed.dead_letters,
        redacted_answers=removed.redacted_answers,
    )
    work.emit(event, about=version.document, cause=delivery)


@dataclass(frozen=True, slots=True)
class GiveUpVersion:
    """Removes failed versions; for one that is live here, sends `VersionSearchable` again.

    Ingest marked such a version FAILED before it knew that it is live, and then marks it INDEXED.
    """

    begin: Begin

    async def run(self, batch: Batch[DocumentFailed]) -> None:
        """Does nothing for an upload without a version."""
        async with self.begin(batch.tenant, batch) as work:
            failed = [
                (one, Version(document=one.event.document, number=one.event.version))
                for one in work.fresh
                if one.event.version
            ]
            # All documents are locked at once, so that two groups cannot deadlock.
            await work.rows.lock_all([version for _, version in failed])
            for delivery, version in failed:
                await _give_up(work, delivery, version)


async def _give_up(work: Work, delivery: Delivery[DocumentFailed], version: Version) -> None:
    standing = await work.rows.lock(version)
    if not standing.is_wanted(version.number):
        return
    if version.number != standing.live_version:
        await work.rows.fail(version)
        return
    event = VersionSearchable(
        tenant=delivery.event.tenant,
        document=version.document,
        version=version.number,
        passage_count=await work.rows.count(version),
    )
    work.emit(event, about=version.document, cause=delivery)


@dataclass(frozen=True, slots=True)
class DescribeVersions:
    """Sets the title and metadata of versions, even before their chunks arrive.

    The description with the highest revision stays, whatever order they come in. That points have
    to follow is recorded in the same transaction. A version that is
    deleted, superseded or failed gets none, because nothing would remove it again.
    """

    begin: Begin

    async def run(self, batch: Batch[DescriptionChanged]) -> None:
        """Raises InvalidInputError for an invalid name or version."""
        async with self.begin(batch.tenant, batch) as work:
            latest: dict[Version, Description] = {}
            for one in work.fresh:
                version = Version(document=one.event.document, number=one.event.version)
                description = to_description(one.event.description)
                if description.revision >= latest.get(version, description).revision:
                    latest[version] = description
            standings = await work.rows.lock_all(list(latest))
            wanted = {
                version: description
                for version, description in latest.items()
                if standings[version.document].is_wanted(version.number)
            }
            await work.rows.record_described(list(wanted.items()))
            await work.rows.describe(wanted)
            for one in work.fresh:
                _confirm(work, one)


def _confirm(work: Work, delivery: Delivery[DescriptionChanged]) -> None:
    """Reports to ingest that it need not send this description again."""
    changed = delivery.event
    event = VersionDescribed(
        tenant=changed.tenant,
        document=changed.document,
        version=changed.version,
        revision=changed.description.revision,
    )
    work.emit(event, about=changed.document, cause=delivery)


@dataclass(frozen=True, slots=True)
class RemovePoints:
    """Removes the points of versions without passages, in every index in use.

    An index whose build begins later gets no points of them.
    """

    ledger: Ledger
    indexes: Indexes

    async def run(self) -> int:
        """Returns the number of versions; after a crash the last one is repeated."""
        removed = await self.ledger.list_removed_versions(REMOVED_BATCH)
        indexes = await self.indexes.list_in_use() if removed else []
        for one in removed:
            for index in indexes:
                await index.vectors.delete_document(
                    TenantScope(one.tenant), one.version.document, one.version.number
                )
            await self.ledger.mark_points_removed(one)
        return len(removed)
