"""Makes chunks searchable: writes points, then passages, and makes a complete version live."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np

from aquifer import lines
from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1 import document_pb2 as pb
from aquifer.ingest.v1.document_events_pb2 import Chunk, ChunksPrepared
from aquifer.query.v1.passage_events_pb2 import ChunksRejected, VersionSearchable
from aquifer.structs import to_json
from chassis.base.errors import ConflictError, InvalidInputError
from chassis.base.tenants import TenantDeletedError
from chassis.events.delivery import Batch as EventBatch
from chassis.events.delivery import Delivery
from query.description import Description
from query.domain import Batch, Matrix, PageBreak, Passage, Standing, Version
from query.labels import NO_LABELS, to_labels
from query.profile import Profile, make_point_id
from query.retrieval.vector_store import Point, TenantScope
from query.usecases.indexes import Index, Indexes
from query.usecases.points import make_point
from query.usecases.ports import Begin, Ledger, Work
from query.usecases.records import InUse

_TRACE_ID = re.compile(r"[0-9a-f]{32}")


Embedded = Delivery[ChunksEmbedded]


@dataclass(frozen=True, slots=True)
class IndexChunks:
    """Stores batches of chunks; the batch that completes a version makes it live.

    Batches may come in any order and any number of times. Points cannot be written inside a
    transaction, so they are written before it. If the transaction finds that the version is
    deleted, superseded or failed, its points are removed afterwards.

    A batch gets points in every index in use. Inference sends its vectors under one profile; under
    the others its texts are embedded here. The transaction locks the profiles in use, and stores
    nothing if they are not those of the points. So every passage that is stored has its points in
    every index whose build began before.

    Points of a version that was superseded, but is kept, stay: they are recorded to be brought up
    to date, as after a change of labels.

    Points get the labels and the description that the event brings. If the document has others by
    then, it is recorded in the same transaction that its points have to follow.
    """

    begin: Begin
    ledger: Ledger
    indexes: Indexes

    async def run(self, events: EventBatch[ChunksEmbedded]) -> None:
        """Indexes batches; rejects those that a retry cannot fix with `ChunksRejected`.

        Raises:
            InvalidInputError: an event has an invalid document name or version.
            ConflictError: PROFILES_CHANGED, a retry uses the new ones.
        """
        scope = TenantScope(events.tenant)
        indexes = await self.indexes.list_in_use()
        read = {id(one): await _read(one, indexes) for one in events}
        batches = [batch for batch in read.values() if isinstance(batch, Batch)]
        for index in indexes:
            name = index.profile.name
            await index.vectors.upsert(
                scope, [point for batch in batches for point in make_points(batch, name)]
            )
        try:
            async with self.begin(events.tenant, events) as work:
                in_use = await work.rows.lock_profiles()
                if list(in_use) != [index.profile for index in indexes]:
                    raise profiles_changed_error()
                # All documents are locked at once, so that two groups cannot deadlock.
                standings = await work.rows.lock_all([batch.version for batch in batches])
                await _label(work, batches, standings)
                described = [(batch.version, batch.description) for batch in batches]
                await work.rows.record_described(described)
                fresh = [(one, read[id(one)]) for one in work.fresh]
                wanted = await _store_all(work, fresh, in_use, standings)
        except TenantDeletedError:
            await _remove_points(
                indexes, scope, {one for each in batches for one in each.point_ids}
            )
            raise
        stored = {one.envelope.event_id: id(one) in wanted for one in work.fresh}
        unwanted: set[UUID] = set()
        for one in events:
            batch = read[id(one)]
            if not isinstance(batch, Batch):
                continue
            stays = stored.pop(one.envelope.event_id, None)
            if stays is None:
                # Handled before: the version of these points may have been removed since.
                stays = await self._stays(events.tenant, batch.version)
            # Of events with the same points the last one decides, as if they came one by one.
            unwanted = unwanted.difference(batch.point_ids)
            if not stays:
                unwanted = unwanted.union(batch.point_ids)
        await _remove_points(indexes, scope, unwanted)

    async def _stays(self, tenant: str, version: Version) -> bool:
        """Whether a version is wanted, or superseded and kept."""
        standing = await self.ledger.read_standing(tenant, version.document)
        if standing.is_wanted(version.number):
            return True
        async with self.begin(tenant) as work:
            await work.rows.lock(version)
            return await work.rows.move_superseded(version)


async def _remove_points(
    indexes: Sequence[Index], scope: TenantScope, point_ids: Collection[UUID]
) -> None:
    if point_ids:
        for index in indexes:
            await index.vectors.delete_points(scope, [str(one) for one in point_ids])


async def _read(one: Embedded, indexes: Sequence[Index]) -> Batch | InvalidInputError:
    """Reads the batch of an event, and embeds it under the profiles that the event lacks."""
    version = read_version(one.event)
    try:
        batch = read_batch(one.event, version, [index.profile for index in indexes])
    except InvalidInputError as refusal:
        return refusal
    vectors = dict(batch.vectors)
    texts = [passage.text_in_context for passage in batch.passages]
    for index in indexes:
        if index.profile.name not in vectors:
            embedded = await index.embedder.embed_passages(one.event.tenant, texts)
            vectors[index.profile.name] = embedded
    return replace(batch, vectors=vectors)


def make_points(batch: Batch, profile: str) -> Iterator[Point]:
    """The points of a batch under one profile."""
    return map(make_point, batch.point_ids, batch.passages, batch.vectors[profile])


def profiles_changed_error() -> ConflictError:
    """PROFILES_CHANGED: a build, flip or drop came in between."""
    return ConflictError("PROFILES_CHANGED", "the profiles in use have just changed; retry")


@dataclass(frozen=True, slots=True)
class RejectChunks:
    """Fails the versions of batches that became dead letters."""

    begin: Begin

    async def run(self, events: EventBatch[ChunksEmbedded], reason: str) -> None:
        """Does nothing for an event with an invalid document name or version."""
        async with self.begin(events.tenant, events) as work:
            for one in work.fresh:
                with suppress(InvalidInputError):
                    read_version(one.event)
                    _reject(work, one, reason)


def _reject(work: Work, one: Embedded, reason: str) -> None:
    """Reports to ingest that this version cannot become searchable."""
    prepared = one.event.prepared
    event = ChunksRejected(
        tenant=one.event.tenant,
        document=prepared.document,
        version=prepared.version,
        batch=prepared.batch,
        reason=reason,
    )
    work.emit(event, about=prepared.document, cause=one)


async def _store_all(
    work: Work,
    read: Sequence[tuple[Embedded, Batch | InvalidInputError]],
    in_use: InUse,
    standings: Mapping[str, Standing],
) -> set[int]:
    """Stores the passages of batches; returns the ids of the deliveries with points to keep.

    All first versions with a single batch together take two statements, because they are complete
    at once and supersede nothing.
    """
    wanted: set[int] = set()
    batches: list[tuple[Embedded, Batch]] = []
    for one, batch in read:
        if isinstance(batch, Batch):
            batches.append((one, batch))
        else:
            _reject(work, one, batch.reason)
    seen = Counter(batch.version.document for _, batch in batches)
    first = [
        (one, batch)
        for one, batch in batches
        if seen[batch.version.document] == 1 and _is_first(standings, batch)
    ]
    if first:
        await work.rows.put([batch for _, batch in first], in_use)
        await work.rows.go_live_first([batch.version for _, batch in first])
    for one, batch in first:
        _announce_live(work, one, batch)
        wanted.add(id(one))
    for one, batch in batches:
        if id(one) not in wanted and await _store(work, one, batch, in_use):
            wanted.add(id(one))
    return wanted


async def _label(work: Work, batches: Sequence[Batch], standings: Mapping[str, Standing]) -> None:
    """Sets labels that are new, and records points that were just written with outdated ones."""
    differing = {
        (batch.version.document, batch.labels)
        for batch in batches
        if batch.labels != standings[batch.version.document].labels
    }
    if differing:
        await work.rows.label(list(differing))


def _is_first(standings: Mapping[str, Standing], batch: Batch) -> bool:
    """Whether it is the only batch of a first version, with nothing else stored of its document."""
    standing = standings[batch.version.document]
    untouched = replace(standing, labels=NO_LABELS) == Standing()
    return batch.version.number == batch.count == 1 and untouched


async def _store(work: Work, one: Embedded, batch: Batch, in_use: InUse) -> bool:
    """Stores the passages unless the version is unwanted; returns whether to keep its points."""
    version = batch.version
    standing = await work.rows.lock(version)
    if not standing.is_wanted(version.number):
        return await work.rows.move_superseded(version)
    live = standing.live_version == version.number
    try:
        complete = live or batch.count == 1 or await work.rows.mark(batch)
    except InvalidInputError as refusal:
        _reject(work, one, refusal.reason)
        return False
    await work.rows.put([batch], in_use)
    if not complete:
        return True
    if not live:
        # Several batches may overlap; a single one was checked to have every chunk.
        if batch.count > 1 and await work.rows.count(version) != batch.chunk_count:
            _reject(work, one, "CHUNKS_MISSING")
            return True
        await work.rows.go_live(version)
    _announce_live(work, one, batch)
    return True


def _announce_live(work: Work, one: Embedded, batch: Batch) -> None:
    event = VersionSearchable(
        tenant=one.event.tenant,
        document=batch.version.document,
        version=batch.version.number,
        passage_count=batch.chunk_count,
    )
    work.emit(event, about=batch.version.document, cause=one)


def read_version(event: ChunksEmbedded) -> Version:
    """The version a batch belongs to.

    Raises:
        InvalidInputError: DOCUMENT_NAME, VERSION_INVALID.
    """
    return Version(document=event.prepared.document, number=event.prepared.version)


def read_batch(event: ChunksEmbedded, version: Version, in_use: Sequence[Profile]) -> Batch:
    """The batch of an event; without vectors if the event's profile is not in use.

    Raises:
        InvalidInputError: it cannot become searchable, and a retry would not help.
    """
    prepared = event.prepared
    if prepared.tenant != event.tenant:
        raise InvalidInputError("TENANT_MISMATCH", "the tenant of the batch is not its event's")
    vectors = _read_vectors(event, in_use)
    description = to_description(prepared.description)
    labels = to_labels(prepared.labels, prepared.labels_order)
    passages = tuple(
        replace(_read_passage(version, description, prepared, chunk), labels=labels.names)
        for chunk in prepared.chunks
    )
    return Batch(
        version=version,
        number=prepared.batch,
        count=prepared.batch_count,
        chunk_count=prepared.chunk_count,
        description=description,
        labels=labels,
        passages=passages,
        point_ids=tuple(make_point_id(passage.chunk_id) for passage in passages),
        vectors=vectors,
    )


def to_description(description: pb.Description) -> Description:
    """The description of a version.

    Raises:
        InvalidInputError: TEXT_NUL, METADATA_RANGE, CREATE_TIME_INVALID.
    """
    return Description(
        title=description.title,
        metadata=to_json(description.metadata),
        revision=description.revision,
        created_at=_read_time(description),
    )


def _read_time(description: pb.Description) -> datetime | None:
    if not description.HasField("create_time"):
        return None
    try:
        return description.create_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            "CREATE_TIME_INVALID", "the time of the version is not in the years 1 to 9999"
        ) from error


def _read_vectors(event: ChunksEmbedded, in_use: Sequence[Profile]) -> Mapping[str, Matrix]:
    profile = next((one for one in in_use if one.name == event.profile), None)
    if profile is None:
        return {}
    if event.dimensions != profile.dimensions:
        raise InvalidInputError(
            "PROFILE_MISMATCH",
            f"the index holds {profile.name} of {profile.dimensions} dimensions",
            profile=profile.name,
            dimensions=profile.dimensions,
        )
    rows = len(event.prepared.chunks)
    if len(event.vectors) != rows * profile.dimensions * np.dtype("<f4").itemsize:
        raise InvalidInputError("VECTORS_SIZE", "not one vector for each chunk", chunks=rows)
    vectors = np.frombuffer(event.vectors, dtype="<f4").reshape(rows, profile.dimensions)
    return {profile.name: vectors}


def _read_passage(
    version: Version, description: Description, prepared: ChunksPrepared, chunk: Chunk
) -> Passage:
    try:
        chunk_id = UUID(chunk.chunk_id)
    except ValueError as error:
        raise InvalidInputError("CHUNK_ID_INVALID", "a chunk id is a UUID") from error
    return Passage(
        version=version,
        ordinal=chunk.ordinal,
        chunk_id=chunk_id,
        text=chunk.text,
        title=description.title,
        metadata=description.metadata,
        created_at=description.created_at,
        start=chunk.start,
        end=chunk.end,
        page=chunk.page,
        page_breaks=tuple(PageBreak(one.start, one.page) for one in chunk.page_breaks),
        headings=tuple(chunk.headings),
        table_header=chunk.table_header,
        lines=_read_lines(chunk),
        # Only used for links between traces, so a malformed id is ignored.
        ingest_trace_id=prepared.trace_id if _TRACE_ID.fullmatch(prepared.trace_id) else "",
        upload_event_id=prepared.upload_event_id.replace("\x00", ""),
    )


def _read_lines(chunk: Chunk) -> bytes:
    if not lines.are_valid(chunk.lines, len(chunk.text)):
        raise InvalidInputError(
            "LINES_INVALID", "the lines of a chunk are not in order in its text"
        )
    return chunk.lines
