"""`VectorService`; converts messages and calls the stores."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

import grpc
import numpy as np
from typing_extensions import override

from aquifer.query.vectors.v1 import vector_service_pb2 as pb
from aquifer.query.vectors.v1.vector_service_pb2_grpc import VectorServiceServicer
from chassis.base import telemetry
from chassis.base.errors import InvalidInputError, ServiceError
from chassis.base.labels import read_labels
from query.domain import Vector
from query.filters.facts import Facts
from query.names import collection_of
from query.retrieval.lexical import SparseVector, Spelling
from query.retrieval.vector_store import (
    SCROLL_LIMIT_MAX,
    UPSERT_BATCH_MAX,
    Filter,
    Point,
    Probe,
    StoreInfo,
    TenantScope,
    check_point_id,
)
from query.vectors.condition_messages import read_condition
from query.vectors.lanes import Lane
from query.vectors.shard import Shard
from query.vectors.shard_errors import EngineBrokenError
from query.vectors.stores import Stores

log = logging.getLogger(__name__)

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]


class Scoped(Protocol):
    """A request with a tenant and a profile."""

    @property
    def profile(self) -> str: ...
    @property
    def tenant(self) -> str: ...


class VectorRpc(VectorServiceServicer):
    """Implements `VectorService`: one thread writes, other threads read at the same time.

    `on_broken` is called if the engine is broken. The process must then end; its next start checks
    the stores.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        writer: Lane,
        readers: Lane,
        dimensions: int,
        on_broken: Callable[[], None],
    ) -> None:
        self._stores = stores
        self._writer = writer
        self._readers = readers
        self._dimensions = dimensions
        self._on_broken = on_broken

    @override
    async def Prepare(self, request: pb.PrepareRequest, context: Context) -> pb.PrepareResponse:
        dimensions = request.dimensions or self._dimensions
        prepare = partial(self._stores.prepare, request.profile, dimensions)
        return pb.PrepareResponse(info=_info(await self._run(self._writer, prepare)))

    @override
    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:
        info = await self._run(self._readers, partial(self._stores.info, request.profile))
        return pb.InfoResponse(info=_info(info))

    @override
    async def Drop(self, request: pb.DropRequest, context: Context) -> pb.DropResponse:
        await self._run(self._writer, partial(self._stores.drop, request.profile))
        return pb.DropResponse()

    @override
    async def Upsert(self, request: pb.UpsertRequest, context: Context) -> pb.UpsertResponse:
        _check_batch(request.points)
        self._stores.check_space()
        # Decoded in the writer's thread, to keep the event loop free.
        await self._write(
            request,
            lambda shard, scope: shard.upsert(scope, [_point(point) for point in request.points]),
        )
        return pb.UpsertResponse()

    @override
    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        probe = Probe(
            dense=_vector(request.dense) if request.dense else None,
            sparse=_sparse(request.sparse),
            depth=request.depth,
            limit=request.limit,
            within=_filter(request.filter),
            spellings=[
                Spelling(tuple(one.word), _sparse(one.similar)) for one in request.spellings
            ],
            diversity=request.diversity,
        )
        held = frozenset(request.held.labels) if request.HasField("held") else None
        found = await self._read(
            request, lambda shard, scope: shard.search(replace(scope, held=held), probe)
        )
        return pb.SearchResponse(
            point_ids=found.point_ids,
            scores=found.scores,
            cosines=found.cosines,
            bm25s=found.bm25s,
        )

    @override
    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        collection_of(request.document)
        labels = read_labels(request.labels)
        facts = {one.version: _facts(one.description) for one in request.versions}
        await self._write(
            request, lambda shard, scope: shard.describe(scope, request.document, labels, facts)
        )
        return pb.DescribeResponse()

    @override
    async def DeletePoints(
        self, request: pb.DeletePointsRequest, context: Context
    ) -> pb.DeletePointsResponse:
        _check_batch(request.point_ids)
        ids = list(request.point_ids)
        for point_id in ids:
            check_point_id(point_id)
        deleted = await self._write(request, lambda shard, scope: shard.delete_points(scope, ids))
        return pb.DeletePointsResponse(deleted=deleted)

    @override
    async def DeleteVersion(
        self, request: pb.DeleteVersionRequest, context: Context
    ) -> pb.DeleteVersionResponse:
        collection_of(request.document)
        within = Filter(documents=frozenset({request.document}), version=request.version or None)
        deleted = 0
        # One call for each batch, so that other writes can run in between.
        while some := await self._write(
            request, lambda shard, scope: shard.delete_some(scope, within)
        ):
            deleted += some
        return pb.DeleteVersionResponse(deleted=deleted)

    @override
    async def Count(self, request: pb.CountRequest, context: Context) -> pb.CountResponse:
        within = _filter(request.filter)
        points = await self._read(request, lambda shard, scope: shard.count(scope, within))
        return pb.CountResponse(points=points)

    @override
    async def Scroll(self, request: pb.ScrollRequest, context: Context) -> pb.ScrollResponse:
        if not 0 < request.limit <= SCROLL_LIMIT_MAX:
            raise InvalidInputError("LIMIT_RANGE", f"limit must be in 1..{SCROLL_LIMIT_MAX}")
        if request.start:
            check_point_id(request.start)
        within, start, limit = _filter(request.filter), request.start or None, request.limit
        page = await self._read(
            request, lambda shard, scope: shard.scroll(scope, within, start=start, limit=limit)
        )
        entries = [
            pb.Entry(
                point_id=entry.point_id,
                document=entry.document,
                version=entry.version,
                ordinal=entry.ordinal,
                labels=entry.labels,
                described=entry.described,
                analyser=entry.analyser,
            )
            for entry in page.entries
        ]
        return pb.ScrollResponse(entries=entries, next_id=page.next_id or "")

    async def _write(self, request: Scoped, call: Callable[[Shard, TenantScope], T]) -> T:
        return await self._run_in_scope(self._writer, request, call)

    async def _read(self, request: Scoped, call: Callable[[Shard, TenantScope], T]) -> T:
        return await self._run_in_scope(self._readers, request, call)

    async def _run_in_scope(
        self, lane: Lane, request: Scoped, call: Callable[[Shard, TenantScope], T]
    ) -> T:
        scope = TenantScope(request.tenant)
        with telemetry.document_scope(scope.tenant):
            # Looked up in the lane's thread: a drop or a prepare may run before this call.
            return await self._run(lane, lambda: call(self._stores.get(request.profile), scope))

    async def _run(self, lane: Lane, call: Callable[[], T]) -> T:
        try:
            return await lane.run(call)
        except ServiceError as error:
            if error.__cause__ is not None:  # the engine's own error, which callers do not get
                log.exception("vectors.failed", extra={"reason": error.reason})
            if isinstance(error, EngineBrokenError):
                self._on_broken()
            raise


def _check_batch(sent: Sequence[object]) -> None:
    if not 0 < len(sent) <= UPSERT_BATCH_MAX:
        raise InvalidInputError(
            "BATCH_RANGE",
            f"a batch holds 1 to {UPSERT_BATCH_MAX}",
            max_batch=UPSERT_BATCH_MAX,
            given=len(sent),
        )


def _point(sent: pb.Point) -> Point:
    return Point(
        point_id=sent.point_id,
        document=sent.document,
        version=sent.version,
        ordinal=sent.ordinal,
        dense=_vector(sent.dense),
        sparse=_sparse(sent.sparse),
        labels=tuple(sent.labels),
        facts=_facts(sent.description),
        analyser=sent.analyser,
    )


def _facts(sent: pb.Description) -> Facts:
    return Facts(tuple(sent.facts), tuple(sent.ordered), sent.superseded)


def _vector(sent: bytes) -> Vector:
    if len(sent) % 4:
        raise InvalidInputError("VECTOR_INVALID", "a vector is packed 32-bit floats")
    return np.frombuffer(sent, dtype="<f4").astype(np.float32)


def _sparse(sent: pb.SparseVector) -> SparseVector:
    return SparseVector(tuple(sent.indices), tuple(sent.values))


def _filter(sent: pb.Filter) -> Filter:
    return Filter(
        collections=frozenset(sent.collections),
        documents=frozenset(sent.documents),
        version=sent.version or None,
        where=read_condition(sent.where) if sent.HasField("where") else None,
        analyser=sent.analyser or None,
        live_only=sent.live_only,
    )


def _info(info: StoreInfo) -> pb.StoreInfo:
    return pb.StoreInfo(
        store_id=str(info.store_id),
        points=info.points,
        dimensions=info.dimensions,
        engine=info.engine,
    )
