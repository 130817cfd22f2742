"""The end of a version: it is searchable or has failed, and each upload gets its result."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aquifer.inference.v1.embedding_events_pb2 import EmbeddingRejected
from aquifer.query.v1.passage_events_pb2 import ChunksRejected, VersionSearchable
from chassis.events.delivery import Batch, Delivery
from ingest.domain import (
    SUPERSEDED,
    UNFINISHED,
    Entry,
    State,
    Verdict,
    Version,
    View,
    source_states,
)
from ingest.usecases import announce
from ingest.usecases.documents.duplicates import list_same_content, note_near_duplicates
from ingest.usecases.ports import Objects
from ingest.usecases.versions.keep_versions import remove_objects, retire_older
from ingest.usecases.work import Begin, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkSearchable:
    """Makes versions INDEXED and live, and retires the older ones.

    Query knows what searches find, so a version that query reports searchable becomes INDEXED even
    if it has FAILED here. Its uploads get no second result.
    """

    begin: Begin
    objects: Objects

    async def run(self, batch: Batch[VersionSearchable]) -> None:
        """Does nothing for a version that is live, older than the live one, or deleted.

        All first versions together take two statements, because they retire nothing.
        """
        dropped: list[Version] = []
        async with self.begin(batch.tenant, batch) as work:
            first, others = _split(work.fresh)
            await _index_first(work, first)
            for delivery in others:
                dropped += await _index(work, delivery)
        await remove_objects(self.objects, dropped)


Searchable = Delivery[VersionSearchable]


def _split(fresh: Sequence[Searchable]) -> tuple[Sequence[Searchable], Sequence[Searchable]]:
    """Separates single events of first versions from all others, which keep their order."""
    seen = Counter(one.event.document for one in fresh)
    first = [one for one in fresh if one.event.version == 1 and seen[one.event.document] == 1]
    return first, [one for one in fresh if one not in first]


async def _index_first(work: Work, deliveries: Sequence[Searchable]) -> None:
    if not deliveries:
        return
    causes = {one.event.document: one for one in deliveries}
    views = await work.documents.lock_versions([(name, 1) for name in sorted(causes)])
    found = [view.version for view in views if _is_new(view)]
    await _settle_indexed(work, found, causes)


async def _index(work: Work, delivery: Searchable) -> Sequence[Version]:
    """Makes one version live; returns the older ones whose data is removed."""
    event = delivery.event
    view = await work.documents.lock_version(event.document, event.version)
    if view is None or not _is_new(view):
        return ()
    dropped = await _retire(work, view.entry, view.version, delivery)
    await _settle_indexed(work, [view.version], {event.document: delivery})
    return dropped


def _is_new(view: View) -> bool:
    is_newer = view.version.number > view.entry.live_version
    return is_newer and view.version.state in source_states(State.INDEXED)


async def _settle_indexed(
    work: Work, versions: Sequence[Version], causes: Mapping[str, Searchable]
) -> None:
    """Makes versions INDEXED and sends their results, unless a version had one."""
    versions = await note_near_duplicates(work.duplicates, versions)
    uploads = await work.documents.index(versions)
    expected = [one for one in versions if one.state in UNFINISHED]
    same = await list_same_content(work.duplicates, expected)
    for version in expected:
        name = version.document
        waiting, cause = uploads.get(name, ()), causes[name]
        announce.send_results(work, version, waiting, None, cause, same.get(name, ()))


async def _retire(
    work: Work, entry: Entry, version: Version, cause: Searchable
) -> Sequence[Version]:
    """Retires older versions and ends the unfinished ones as superseded.

    Returns those whose data is removed.
    """
    if version.number == 1:
        return ()
    older, dropped = await retire_older(work, entry, version.number)
    for old in older:
        if old.state in UNFINISHED:
            uploads = await work.uploads.settle(old.document, old.number, SUPERSEDED)
            announce.send_results(work, old, uploads, SUPERSEDED, cause)
    return dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectVersion:
    """Fails versions with a batch that cannot be embedded or stored."""

    begin: Begin

    async def run(self, batch: Batch[EmbeddingRejected] | Batch[ChunksRejected]) -> None:
        """Does nothing for a version that is finished."""
        async with self.begin(batch.tenant, batch) as work:
            for delivery in work.fresh:
                event = delivery.event
                verdict = Verdict(
                    reason=event.reason or "BATCH_REJECTED",
                    detail=f"batch {event.batch} was rejected on its way to the index",
                )
                await give_up(work, event.document, event.version, verdict, delivery)


async def give_up(
    work: Work,
    document: str,
    number: int,
    verdict: Verdict,
    cause: Delivery[Any] | None = None,
) -> bool:
    """Fails a version and sends the results; False if it is finished or unknown."""
    view = await work.documents.lock_version(document, number)
    if view is None or view.version.state not in source_states(State.FAILED):
        return False
    uploads = await work.documents.fail(view.version, verdict)
    announce.send_results(work, view.version, uploads, verdict, cause)
    return True
