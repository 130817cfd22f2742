"""The vector store on a Qdrant server; the only module that builds queries for it.

`qdrant_filters` makes its filters. It passes the same conformance suite as
`engine_client`, but with the client's in-memory mode; it has not been run against a server yet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import numpy as np
from qdrant_client import AsyncQdrantClient, models
from typing_extensions import override

from chassis.base.errors import (
    FailedPreconditionError,
    InvalidInputError,
    UnavailableError,
)
from query.domain import Vector
from query.filters.facts import Facts
from query.names import collection_of
from query.retrieval.diversity import diversify
from query.retrieval.fusion import Candidates, Ranked, fuse, rank_by_words
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
    Quantization,
    StoreInfo,
    TenantScope,
    VectorStore,
    check_profile,
    from_stored,
    to_stored,
)
from query.vectors.qdrant_errors import limit_time, missing_error
from query.vectors.qdrant_filters import INDEXES, make_described, make_payload, tenant_filter

READ_TIMEOUT_S: Final = 5.0
WRITE_TIMEOUT_S: Final = 30.0
# The first version that counts the rarity of words within a tenant.
SERVER_MIN: Final = (1, 19)
DENSE: Final = "dense"
SPARSE: Final = "lexical"
PLACE: Final = ["document", "version", "ordinal", "labels", "described", "analyser"]
# As in the embedded engine: codes choose twice as many points as requested, which are scored again.
SCAN: Final = models.SearchParams(
    quantization=models.QuantizationSearchParams(rescore=True, oversampling=2.0)
)
CODE_BITS: Final = {
    Quantization.TURBO4: models.TurboQuantBitSize.BITS4,
    Quantization.TURBO2: models.TurboQuantBitSize.BITS2,
}
# The fields of a stored point and their meaning; a collection with others is built again.
LAYOUT: Final = 3


def open_client(
    url: str, *, grpc_port: int = 6334, api_key: str | None = None
) -> AsyncQdrantClient:
    """Opens a client for the running loop; `url` is the REST address, queries use gRPC."""
    return AsyncQdrantClient(
        url=url,
        grpc_port=grpc_port,
        prefer_grpc=True,
        api_key=api_key,
        timeout=round(WRITE_TIMEOUT_S),
        check_compatibility=False,  # `prepare` checks the version
    )


class QdrantVectors(VectorStore):
    """See `VectorStore`; one collection per profile. The caller closes the client."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        *,
        profile: str,
        dimensions: int,
        new_id: Callable[[], UUID],
        quantization: Quantization = Quantization.NONE,
    ) -> None:
        check_profile(profile)
        self._quantization = quantization
        self._client = client
        self._profile = profile
        self._dimensions = dimensions
        self._new_id = new_id

    @override
    async def prepare(self) -> StoreInfo:
        async with limit_time(WRITE_TIMEOUT_S):
            await self._check_server()
            if not await self._has_layout():
                await self._create()
            # Also for an existing collection: an earlier process may have died before this step.
            for key, index in INDEXES.items():
                await self._client.create_payload_index(self._profile, key, index)
        info = await self.info()
        if info.dimensions != self._dimensions:
            raise FailedPreconditionError(
                "DIMENSIONS_DIFFER",
                f"the store of {self._profile} holds vectors of {info.dimensions} dimensions",
                profile=self._profile,
                dimensions=info.dimensions,
            )
        return info

    @override
    async def info(self) -> StoreInfo:
        async with limit_time(READ_TIMEOUT_S):
            found = await self._client.get_collection(self._profile)
            server = await self._client.info()
        vectors: Any = found.config.params.vectors
        metadata = found.config.metadata or {}
        if "store_id" not in metadata or DENSE not in vectors:
            raise FailedPreconditionError(
                "STORE_FOREIGN",
                "a collection with this name exists that Aquifer did not create; rename it",
                name=self._profile,
            )
        if metadata.get("layout") != LAYOUT:
            raise missing_error()
        return StoreInfo(
            store_id=UUID(metadata["store_id"]),
            points=found.points_count or 0,
            dimensions=vectors[DENSE].size,
            engine=f"qdrant {server.version}",
        )

    @override
    async def drop(self) -> None:
        async with limit_time(WRITE_TIMEOUT_S):
            if await self._client.collection_exists(self._profile):
                await self._client.delete_collection(self._profile)

    @override
    async def upsert(self, scope: TenantScope, points: Sequence[Point]) -> None:
        for point in points:
            self._check_width(point.dense)
        for first in range(0, len(points), UPSERT_BATCH_MAX):
            async with limit_time(WRITE_TIMEOUT_S):
                result = await self._client.upsert(
                    self._profile,
                    [
                        _to_point_struct(scope, point)
                        for point in points[first : first + UPSERT_BATCH_MAX]
                    ],
                    wait=True,
                    ordering=models.WriteOrdering.STRONG,
                    update_filter=tenant_filter(scope),
                )
            _check_done(result)

    @override
    async def search(self, scope: TenantScope, probe: Probe) -> Ranked:
        if probe.dense is not None:
            self._check_width(probe.dense)
        probe = replace(probe, sparse=await self._replace_unknown(scope, probe))
        lists: dict[str, dict[str, float]] = {DENSE: {}, SPARSE: {}}
        vectors: dict[str, Vector] = {}
        if requests := build_queries(scope, probe):
            async with limit_time(READ_TIMEOUT_S):
                found = await self._client.query_batch_points(self._profile, requests)
            for request, response in zip(requests, found, strict=True):
                for point in response.points:
                    given: Any = point.vector
                    lists[request.using or DENSE][str(point.id)] = point.score
                    vectors[str(point.id)] = np.array(given[DENSE], dtype=np.float32)
        candidates = Candidates.merge(lists[DENSE], lists[SPARSE])
        if probe.dense is None:
            return rank_by_words(candidates)
        rows = np.empty((len(candidates.point_ids), self._dimensions), dtype=np.float32)
        for row, point_id in enumerate(candidates.point_ids):
            rows[row] = vectors[point_id]
        ranked = fuse(candidates, rows, depth=probe.depth, limit=probe.limit)
        return diversify(ranked, candidates, rows, diversity=probe.diversity, limit=probe.limit)

    @override
    async def describe(
        self,
        scope: TenantScope,
        document: str,
        labels: tuple[str, ...],
        facts: Mapping[int, Facts],
    ) -> None:
        named = frozenset({document})
        await self._set(scope, Filter(documents=named), {"labels": to_stored(labels)})
        for version, described in facts.items():
            within = Filter(documents=named, version=version)
            await self._set(scope, within, make_described(scope, described))

    async def _set(self, scope: TenantScope, within: Filter, fields: Mapping[str, Any]) -> None:
        """Sets fields of points."""
        async with limit_time(WRITE_TIMEOUT_S):
            result = await self._client.set_payload(
                self._profile,
                dict(fields),
                points=tenant_filter(scope, within),
                wait=True,
                ordering=models.WriteOrdering.STRONG,
            )
        _check_done(result)

    @override
    async def delete_points(self, scope: TenantScope, point_ids: Sequence[str]) -> int:
        deleted = 0
        for first in range(0, len(point_ids), UPSERT_BATCH_MAX):
            ids: list[models.ExtendedPointId] = [*point_ids[first : first + UPSERT_BATCH_MAX]]
            where = tenant_filter(scope, also=[models.HasIdCondition(has_id=ids)])
            async with limit_time(WRITE_TIMEOUT_S):
                found = await self._client.count(self._profile, where, exact=True)
                result = await self._client.delete(
                    self._profile,
                    models.FilterSelector(filter=where),
                    wait=True,
                    ordering=models.WriteOrdering.STRONG,
                )
            _check_done(result)
            deleted += found.count
        return deleted

    @override
    async def delete_document(
        self, scope: TenantScope, document: str, version: int | None = None
    ) -> int:
        collection_of(document)
        within = Filter(documents=frozenset({document}), version=version)
        deleted = 0
        # By ids: deletes by a wide filter make the server's log grow (qdrant issue 4159).
        while (page := await self.scroll(scope, within, limit=UPSERT_BATCH_MAX)).entries:
            deleted += await self.delete_points(scope, [entry.point_id for entry in page.entries])
        return deleted

    @override
    async def count(self, scope: TenantScope, within: Filter = EVERYTHING) -> int:
        async with limit_time(READ_TIMEOUT_S):
            found = await self._client.count(
                self._profile, tenant_filter(scope, within), exact=True
            )
        return found.count

    @override
    async def scroll(
        self,
        scope: TenantScope,
        within: Filter = EVERYTHING,
        *,
        start: str | None = None,
        limit: int = SCROLL_LIMIT_MAX,
    ) -> Page:
        if not 0 < limit <= SCROLL_LIMIT_MAX:
            raise InvalidInputError("LIMIT_RANGE", f"limit must be in 1..{SCROLL_LIMIT_MAX}")
        async with limit_time(READ_TIMEOUT_S):
            records, next_id = await self._client.scroll(
                self._profile,
                tenant_filter(scope, within),
                limit=limit,
                offset=start,
                with_payload=PLACE,
            )
        entries = [_entry(one) for one in records]
        return Page(entries=tuple(entries), next_id=None if next_id is None else str(next_id))

    async def _replace_unknown(self, scope: TenantScope, probe: Probe) -> SparseVector:
        """The words of a search, with those that look alike for each that no point has."""
        words = probe.sparse
        if not probe.spellings:
            return words
        requests = [
            models.QueryRequest(
                query=models.SparseVector(indices=list(one.word), values=[1.0] * len(one.word)),
                using=SPARSE,
                filter=tenant_filter(scope, probe.corpus),
                limit=1,
                with_payload=False,
            )
            for one in probe.spellings
        ]
        async with limit_time(READ_TIMEOUT_S):
            found = await self._client.query_batch_points(self._profile, requests)
        for spelling, response in zip(probe.spellings, found, strict=True):
            if not response.points:
                words = spelling.replace(words)
        return words

    async def _has_layout(self) -> bool:
        """Whether the collection is there; one of another version of Aquifer is removed."""
        if not await self._client.collection_exists(self._profile):
            return False
        found = await self._client.get_collection(self._profile)
        metadata = found.config.metadata or {}
        if "store_id" not in metadata or metadata.get("layout") == LAYOUT:
            return True
        await self._client.delete_collection(self._profile)
        return False

    async def _check_server(self) -> None:
        version = (await self._client.info()).version
        if tuple(int(part) for part in version.split(".")[:2]) < SERVER_MIN:
            raise FailedPreconditionError(
                "QDRANT_TOO_OLD", f"Qdrant 1.19 or newer is needed, not {version}", version=version
            )

    async def _create(self) -> None:
        await self._client.create_collection(
            self._profile,
            vectors_config={
                DENSE: models.VectorParams(
                    size=self._dimensions,
                    distance=models.Distance.COSINE,
                    quantization_config=_make_codes(self._quantization),
                )
            },
            sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            # A graph for each tenant and none for all: every search is within one tenant.
            hnsw_config=models.HnswConfigDiff(m=0, payload_m=16),
            metadata={"store_id": str(self._new_id()), "layout": LAYOUT},
        )

    def _check_width(self, vector: Vector) -> None:
        if len(vector) != self._dimensions:
            raise InvalidInputError(
                "VECTOR_WIDTH",
                f"this store holds vectors of {self._dimensions} dimensions, not {len(vector)}",
                dimensions=self._dimensions,
                given=len(vector),
            )


def _make_codes(quantization: Quantization) -> models.TurboQuantization | None:
    if quantization not in CODE_BITS:
        return None
    codes = models.TurboQuantQuantizationConfig(bits=CODE_BITS[quantization])
    return models.TurboQuantization(turbo=codes)


def build_queries(scope: TenantScope, probe: Probe) -> list[models.QueryRequest]:
    """Makes one request for each part of the probe: by meaning, by words."""
    asked: list[tuple[str, Any, models.SearchParams | None]] = []
    if probe.dense is not None:
        asked.append((DENSE, probe.dense.tolist(), SCAN))
    if probe.sparse.indices:
        terms = models.SparseVector(
            indices=list(probe.sparse.indices), values=list(probe.sparse.values)
        )
        # Rarity counted over all tenants would reveal what others write about.
        corpus = models.IdfCorpusParams(corpus=tenant_filter(scope, probe.corpus))
        asked.append((SPARSE, terms, models.SearchParams(idf=corpus)))
    return [
        models.QueryRequest(
            query=query,
            using=using,
            filter=tenant_filter(scope, probe.within),
            params=params,
            limit=probe.depth,
            with_payload=False,
            with_vector=[DENSE],  # to smooth by
        )
        for using, query, params in asked
    ]


def _to_point_struct(scope: TenantScope, point: Point) -> models.PointStruct:
    return models.PointStruct(
        id=point.point_id,
        vector={
            DENSE: point.dense.tolist(),
            SPARSE: models.SparseVector(
                indices=list(point.sparse.indices), values=list(point.sparse.values)
            ),
        },
        payload=make_payload(scope, point),
    )


def _entry(record: models.Record) -> Entry:
    payload = dict(record.payload or {})
    labels = from_stored(payload.pop("labels"))
    return Entry(point_id=str(record.id), labels=labels, **payload)


def _check_done(result: models.UpdateResult) -> None:
    """Checks that a write is done: a slow server answers earlier, even with `wait`."""
    if result.status != models.UpdateStatus.COMPLETED:
        raise UnavailableError(
            "VECTORS_UNAVAILABLE", "the vector store did not finish a write; retry later"
        )
