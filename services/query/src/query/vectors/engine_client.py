"""Client of the vector process (`python -m query.vectors`), over its unix socket."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from uuid import UUID

import grpc
import numpy as np
from typing_extensions import override

from aquifer.query.vectors.v1 import vector_service_pb2 as pb
from aquifer.query.vectors.v1.vector_service_pb2_grpc import VectorServiceStub
from chassis.base.errors import DeadlineError, FailedPreconditionError, UnavailableError
from chassis.identity import tokens as identity
from chassis.rpc import channel
from chassis.rpc.limits import MESSAGE_MAX_BYTES
from chassis.rpc.server import time_left_s
from query.domain import Vector
from query.filters.facts import Facts
from query.retrieval.fusion import Ranked
from query.retrieval.lexical import SparseVector
from query.retrieval.vector_store import (
    EVERYTHING,
    SCROLL_LIMIT_MAX,
    UPSERT_BATCH_MAX,
    Entry,
    Filter,
    Page,
    Point,
    Probe,
    StoreInfo,
    TenantScope,
    VectorStore,
    check_profile,
)
from query.vectors.condition_messages import write_condition

READ_TIMEOUT_S: Final = 5.0
WRITE_TIMEOUT_S: Final = 30.0
# Size of a point without its vector: names, up to 400 terms, and 2,100 facts.
POINT_BYTES: Final = 24_576

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["VectorService"]


def open_channel(address: str) -> grpc.aio.Channel:
    """Opens a channel to the process, for the running loop; `address` is `unix:/path`.

    Calls are retried while the process restarts, because all of them can be repeated.
    """
    return channel.open_channel(
        address,
        service="vectors",
        credentials=identity.send_no_credentials,
        retried=[f"{_SERVICE.full_name}/{method.name}" for method in _SERVICE.methods],
    )


class EngineVectors(VectorStore):
    """See `VectorStore`; several profiles may share the channel, which the caller closes."""

    def __init__(self, channel: grpc.aio.Channel, *, profile: str, dimensions: int) -> None:
        check_profile(profile)
        self._stub = VectorServiceStub(channel)
        self._profile = profile
        self._dimensions = dimensions

    @override
    async def prepare(self) -> StoreInfo:
        request = pb.PrepareRequest(profile=self._profile, dimensions=self._dimensions)
        with _translate_errors():
            response = await self._stub.Prepare(request, timeout=WRITE_TIMEOUT_S)
        return _info(response.info)

    @override
    async def info(self) -> StoreInfo:
        with _translate_errors():
            response = await self._stub.Info(
                pb.InfoRequest(profile=self._profile), timeout=READ_TIMEOUT_S
            )
        return _info(response.info)

    @override
    async def drop(self) -> None:
        with _translate_errors():
            await self._stub.Drop(pb.DropRequest(profile=self._profile), timeout=WRITE_TIMEOUT_S)

    @override
    async def upsert(self, scope: TenantScope, points: Sequence[Point]) -> None:
        fitting = (MESSAGE_MAX_BYTES - POINT_BYTES) // (4 * self._dimensions + POINT_BYTES)
        size = min(UPSERT_BATCH_MAX, fitting)
        for first in range(0, len(points), size):
            request = pb.UpsertRequest(
                profile=self._profile,
                tenant=scope.tenant,
                points=map(_point, points[first : first + size]),
            )
            with _translate_errors():
                await self._stub.Upsert(request, timeout=WRITE_TIMEOUT_S)

    @override
    async def search(self, scope: TenantScope, probe: Probe) -> Ranked:
        request = pb.SearchRequest(
            profile=self._profile,
            tenant=scope.tenant,
            dense=b"" if probe.dense is None else _pack(probe.dense),
            sparse=_sparse(probe.sparse),
            depth=probe.depth,
            limit=probe.limit,
            filter=_filter(probe.within),
            held=None if scope.held is None else pb.HeldLabels(labels=sorted(scope.held)),
            spellings=[
                pb.Spelling(word=one.word, similar=_sparse(one.similar)) for one in probe.spellings
            ],
            diversity=probe.diversity,
        )
        with _translate_errors():
            response = await self._stub.Search(request, timeout=READ_TIMEOUT_S)
        return Ranked(
            point_ids=list(response.point_ids),
            scores=list(response.scores),
            cosines=list(response.cosines),
            bm25s=list(response.bm25s),
        )

    @override
    async def describe(
        self,
        scope: TenantScope,
        document: str,
        labels: tuple[str, ...],
        facts: Mapping[int, Facts],
    ) -> None:
        request = pb.DescribeRequest(
            profile=self._profile,
            tenant=scope.tenant,
            document=document,
            labels=labels,
            versions=[
                pb.DescribedVersion(version=version, description=_description(described))
                for version, described in facts.items()
            ],
        )
        with _translate_errors():
            await self._stub.Describe(request, timeout=WRITE_TIMEOUT_S)

    @override
    async def delete_points(self, scope: TenantScope, point_ids: Sequence[str]) -> int:
        deleted = 0
        for first in range(0, len(point_ids), UPSERT_BATCH_MAX):
            request = pb.DeletePointsRequest(
                profile=self._profile,
                tenant=scope.tenant,
                point_ids=point_ids[first : first + UPSERT_BATCH_MAX],
            )
            with _translate_errors():
                response = await self._stub.DeletePoints(request, timeout=WRITE_TIMEOUT_S)
            deleted += response.deleted
        return deleted

    @override
    async def delete_document(
        self, scope: TenantScope, document: str, version: int | None = None
    ) -> int:
        request = pb.DeleteVersionRequest(
            profile=self._profile, tenant=scope.tenant, document=document, version=version or 0
        )
        with _translate_errors():
            response = await self._stub.DeleteVersion(request, timeout=WRITE_TIMEOUT_S)
        return response.deleted

    @override
    async def count(self, scope: TenantScope, within: Filter = EVERYTHING) -> int:
        request = pb.CountRequest(
            profile=self._profile, tenant=scope.tenant, filter=_filter(within)
        )
        with _translate_errors():
            response = await self._stub.Count(request, timeout=READ_TIMEOUT_S)
        return response.points

    @override
    async def scroll(
        self,
        scope: TenantScope,
        within: Filter = EVERYTHING,
        *,
        start: str | None = None,
        limit: int = SCROLL_LIMIT_MAX,
    ) -> Page:
        request = pb.ScrollRequest(
            profile=self._profile,
            tenant=scope.tenant,
            filter=_filter(within),
            start=start or "",
            limit=limit,
        )
        with _translate_errors():
            response = await self._stub.Scroll(request, timeout=READ_TIMEOUT_S)
        entries = [
            Entry(
                point_id=entry.point_id,
                document=entry.document,
                version=entry.version,
                ordinal=entry.ordinal,
                labels=tuple(entry.labels),
                described=entry.described,
                analyser=entry.analyser,
            )
            for entry in response.entries
        ]
        return Page(entries=tuple(entries), next_id=response.next_id or None)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translates the errors of a store that is too slow or missing into `UnavailableError`."""
    try:
        yield
    except FailedPreconditionError as error:
        if error.reason != "STORE_MISSING":
            raise
        raise UnavailableError("VECTORS_STORE_MISSING", error.detail) from error
    except DeadlineError as error:
        left_s = time_left_s()
        if left_s is not None and left_s <= channel.MARGIN_S:
            raise  # the caller's deadline, not the timeout of this call
        raise UnavailableError(
            "VECTORS_UNAVAILABLE", "the vector store is too slow; retry later"
        ) from error


def _pack(vector: Vector) -> bytes:
    return np.asarray(vector, dtype="<f4").tobytes()


def _sparse(vector: SparseVector) -> pb.SparseVector:
    return pb.SparseVector(indices=vector.indices, values=vector.values)


def _point(point: Point) -> pb.Point:
    return pb.Point(
        point_id=point.point_id,
        document=point.document,
        version=point.version,
        ordinal=point.ordinal,
        dense=_pack(point.dense),
        sparse=_sparse(point.sparse),
        labels=point.labels,
        description=_description(point.facts),
        analyser=point.analyser,
    )


def _description(facts: Facts) -> pb.Description:
    return pb.Description(facts=facts.stated, ordered=facts.ordered, superseded=facts.superseded)


def _filter(within: Filter) -> pb.Filter:
    return pb.Filter(
        collections=sorted(within.collections),
        documents=sorted(within.documents),
        version=within.version or 0,
        where=None if within.where is None else write_condition(within.where),
        analyser=within.analyser or 0,
        live_only=within.live_only,
    )


def _info(sent: pb.StoreInfo) -> StoreInfo:
    return StoreInfo(
        store_id=UUID(sent.store_id),
        points=sent.points,
        dimensions=sent.dimensions,
        engine=sent.engine,
    )
