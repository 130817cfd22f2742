"""A version ends: searchable, or given up; whoever waits for it is told once."""

from collections.abc import Sequence
from dataclasses import dataclass

from aquifer.inference.v1.embedding_events_pb2 import EmbeddingRejected
from aquifer.query.v1.passage_events_pb2 import ChunksRejected, VersionSearchable
from ingest.domain import (
    SUPERSEDED,
    UNFINISHED,
    Entry,
    State,
    Verdict,
    Version,
    View,
    sources,
)
from ingest.usecases import facts
from ingest.usecases.ports import Objects, Once, Work
from ingest.usecases.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkSearchable:
    """Makes a version INDEXED and live, and puts the older ones out of use.

    Query says what searches see, so it is believed also of a version that was given up here in
    the meantime; then nobody is told anything new, because each upload has one result.
    """

    objects: Objects
    progress: Progress

    async def __call__(self, event: VersionSearchable, once: Once) -> None:
        """Without effect for a version that is live already, older than that, or deleted."""
        async with once(event.document) as work:
            found = await _unless_live(work, event)
            if found is None:
                return
            version = found.version
            retired = await _retire(work, found.entry, version)
            uploads = await work.documents.index(version)
            if version.state in UNFINISHED:
                work.tell(*facts.results(version, uploads, None))
        self.progress.left(version)
        for old in retired:
            await self.objects.delete(old.stored.key)


async def _unless_live(work: Work, event: VersionSearchable) -> View | None:
    view = await work.documents.lock_version(event.document, event.version)
    if view is None or event.version <= view.entry.live_version:
        return None
    return view if view.version.state in sources(State.INDEXED) else None


async def _retire(work: Work, entry: Entry, version: Version) -> Sequence[Version]:
    """Older versions lose their chunks; those still on their way will never be searchable."""
    if version.number == 1:
        return ()
    retired = await work.documents.retired(entry, version.number)
    if retired:
        await work.documents.retire(entry, version.number)
    for old in retired:
        if old.state in UNFINISHED:
            uploads = await work.uploads.settle(old.document, old.number, SUPERSEDED)
            work.tell(*facts.results(old, uploads, SUPERSEDED))
    return retired


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectVersion:
    """Fails a version of which a batch can never be embedded or stored."""

    async def __call__(self, event: EmbeddingRejected | ChunksRejected, once: Once) -> None:
        """Without effect for a version that is finished."""
        verdict = Verdict(
            reason=event.reason or "BATCH_REJECTED",
            detail=f"batch {event.batch} was rejected on its way to the index",
        )
        async with once(event.document) as work:
            await give_up(work, event.document, event.version, verdict)


async def give_up(work: Work, document: str, number: int, verdict: Verdict) -> bool:
    """Fail a version and tell who waits for it; False when it is finished or unknown."""
    view = await work.documents.lock_version(document, number)
    if view is None or view.version.state not in sources(State.FAILED):
        return False
    uploads = await work.documents.fail(view.version, verdict)
    work.tell(*facts.results(view.version, uploads, verdict))
    return True
