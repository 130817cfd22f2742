"""Make chunks searchable: points first, then the passages, and the flip when all are there."""

import re
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import numpy as np

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import Chunk, ChunksPrepared
from aquifer.query.v1.passage_events_pb2 import ChunksRejected, VersionSearchable
from chassis.base.errors import InvalidInputError
from query.domain import Batch, Matrix, Passage, Profile, Version
from query.usecases.points import point_of
from query.usecases.ports import Effect, Ledger, Once
from query.vectors.port import TenantScope, VectorStore

_TRACE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class IndexBatch:
    """Stores one batch; the version goes live with the batch that completes it.

    Batches may come in any order and any number of times. A version that is deleted, superseded or
    given up leaves nothing behind: it is looked at before the points are written and again in the
    transaction after, because points can not be written inside one.
    """

    profile: Profile
    ledger: Ledger
    vectors: VectorStore

    async def __call__(self, event: ChunksEmbedded, once: Once) -> None:
        """What no retry would mend is told as `ChunksRejected`.

        Raises:
            InvalidInputError: the event names no document that could exist.
        """
        version = version_of(event)
        try:
            batch = read_batch(event, version, self.profile)
        except InvalidInputError as refusal:
            await once(version.document, partial(reject, event, refusal.reason))
            return
        scope = TenantScope(event.tenant)
        wanted: bool | None = False
        if await self._wanted(event.tenant, version):
            points = map(point_of, batch.point_ids, batch.passages, batch.vectors)
            await self.vectors.upsert(scope, list(points))
            wanted = await once(version.document, partial(_land, event, batch))
        else:
            await once(version.document, _nothing)
        if wanted is None:
            # Handled before; the points just written again may have lost their version since.
            wanted = await self._wanted(event.tenant, version)
        if not wanted:
            await self.vectors.delete_points(scope, [str(one) for one in batch.point_ids])

    async def _wanted(self, tenant: str, version: Version) -> bool:
        standing = await self.ledger.standing(tenant, version.document)
        return standing.wants(version.number)


@dataclass(frozen=True, slots=True)
class RejectBatch:
    """Fails the version of a batch that was given up for another reason than its content."""

    async def __call__(self, event: ChunksEmbedded, reason: str, once: Once) -> None:
        """Without effect where the event names no document that could exist."""
        try:
            version = version_of(event)
        except InvalidInputError:
            return
        await once(version.document, partial(reject, event, reason))


async def reject(event: ChunksEmbedded, reason: str, effect: Effect) -> bool:
    """Tell ingest that this version can not become searchable."""
    effect.emit(
        ChunksRejected(
            tenant=event.tenant,
            document=event.prepared.document,
            version=event.prepared.version,
            batch=event.prepared.batch,
            reason=reason,
        )
    )
    return False


async def _nothing(_: Effect) -> bool:
    return False


async def _land(event: ChunksEmbedded, batch: Batch, effect: Effect) -> bool:
    """Store the passages unless the version is unwanted by now; says whether they were."""
    version = batch.version
    standing = await effect.rows.lock(version)
    if not standing.wants(version.number):
        return False
    live = standing.live_version == version.number
    try:
        complete = live or batch.count == 1 or await effect.rows.mark(batch)
    except InvalidInputError as refusal:
        return await reject(event, refusal.reason, effect)
    await effect.rows.put(batch)
    if not complete:
        return True
    if not live:
        # Several batches may overlap; a single one was seen to hold every chunk.
        if batch.count > 1 and await effect.rows.count(version) != batch.chunk_count:
            await reject(event, "CHUNKS_MISSING", effect)
            return True
        await effect.rows.go_live(version)
    effect.emit(
        VersionSearchable(
            tenant=event.tenant,
            document=version.document,
            version=version.number,
            passage_count=batch.chunk_count,
        )
    )
    return True


def version_of(event: ChunksEmbedded) -> Version:
    """The version a batch belongs to.

    Raises:
        InvalidInputError: DOCUMENT_NAME, VERSION_INVALID.
    """
    return Version(document=event.prepared.document, number=event.prepared.version)


def read_batch(event: ChunksEmbedded, version: Version, profile: Profile) -> Batch:
    """The batch of an event, checked against the profile of the index.

    Raises:
        InvalidInputError: it can not become searchable, for a reason no retry would mend.
    """
    prepared = event.prepared
    if prepared.tenant != event.tenant:
        raise InvalidInputError("TENANT_MISMATCH", "the batch names another tenant than its event")
    vectors = _vectors(event, profile)
    passages = tuple(_passage(version, prepared, chunk) for chunk in prepared.chunks)
    return Batch(
        version=version,
        number=prepared.batch,
        count=prepared.batch_count,
        chunk_count=prepared.chunk_count,
        passages=passages,
        point_ids=tuple(profile.point_id(passage.chunk_id) for passage in passages),
        vectors=vectors,
    )


def _vectors(event: ChunksEmbedded, profile: Profile) -> Matrix:
    if (event.profile, event.dimensions) != (profile.name, profile.dimensions):
        raise InvalidInputError(
            "PROFILE_MISMATCH",
            f"the index holds {profile.name} of {profile.dimensions} dimensions",
            profile=profile.name,
            dimensions=profile.dimensions,
        )
    rows = len(event.prepared.chunks)
    if len(event.vectors) != rows * profile.dimensions * np.dtype("<f4").itemsize:
        raise InvalidInputError("VECTORS_SIZE", "not one vector for each chunk", chunks=rows)
    return np.frombuffer(event.vectors, dtype="<f4").reshape(rows, profile.dimensions)


def _passage(version: Version, prepared: ChunksPrepared, chunk: Chunk) -> Passage:
    try:
        chunk_id = UUID(chunk.chunk_id)
    except ValueError as error:
        raise InvalidInputError("CHUNK_ID_INVALID", "a chunk id is a UUID") from error
    return Passage(
        version=version,
        ordinal=chunk.ordinal,
        chunk_id=chunk_id,
        text=chunk.text,
        title=prepared.title,
        start=chunk.start,
        end=chunk.end,
        page=chunk.page,
        # Only for people to follow: a malformed one costs the link, not the document.
        ingest_trace_id=prepared.trace_id if _TRACE_ID.fullmatch(prepared.trace_id) else "",
    )
