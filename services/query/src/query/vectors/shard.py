"""One store on Qdrant's embedded engine; the only module that builds its queries.

`shard_filters` makes its filters. Methods block and may be called from
several threads. The engine holds the interpreter lock while it writes, so it gets small batches:
meanwhile no search can run.
"""

import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import qdrant_edge as edge
from numpy.typing import NDArray
from opentelemetry import trace

from chassis.base.errors import InvalidInputError, UnavailableError
from chassis.base.telemetry import TRACER_NAME
from query.domain import Matrix, Vector
from query.filters.facts import Facts
from query.retrieval.diversity import diversify
from query.retrieval.fusion import Candidates, Ranked, fuse, rank_by_words
from query.retrieval.lexical import SparseVector
from query.retrieval.vector_store import (
    EVERYTHING,
    Entry,
    Filter,
    Page,
    Point,
    Probe,
    Quantization,
    TenantScope,
    from_stored,
    to_stored,
)
from query.vectors.shard_codes import SCAN, make_codes
from query.vectors.shard_errors import EngineBrokenError, store_missing_error, translate_errors
from query.vectors.shard_filters import (
    INDEXES,
    filter_points,
    filter_tenant,
    make_described,
    make_payload,
    match_any,
)
from query.vectors.vector_cache import VectorCache

log = logging.getLogger(__name__)

ENGINE: Final = f"qdrant-edge {version('qdrant-edge-py')}"
DENSE: Final = "dense"
SPARSE: Final = "lexical"
# The fields of a stored point and their meaning; a store with another layout is built again.
LAYOUT: Final = 4
DELETE_BATCH: Final = 256
# Writing 8 points takes about 4 ms; larger batches are hardly faster.
WRITE_BATCH: Final = 8
CACHE_BYTES: Final = 128 * 2**20
KNOWN_WORDS_MAX: Final = 8_192


class Shard:
    """The points of all tenants for one profile, in one folder."""

    def __init__(self, shard: edge.EdgeShard, dimensions: int) -> None:
        self._shard = shard
        self._dimensions = dimensions
        self._unflushed = 0
        self._closed = False
        self._cache = VectorCache(dimensions, CACHE_BYTES)
        self._packed = struct.Struct(f"<{dimensions}f")
        self._known: set[tuple[TenantScope, frozenset[str], tuple[int, ...]]] = set()

    @classmethod
    def create(
        cls,
        folder: Path,
        dimensions: int,
        quantization: Quantization = Quantization.TURBO4,
    ) -> "Shard":
        """Create an empty store in an empty folder."""
        dense = edge.EdgeVectorParams(
            dimensions,
            edge.Distance.Cosine,
            quantization_config=make_codes(quantization, dimensions),
        )
        config = edge.EdgeConfig(
            vectors={DENSE: dense},
            sparse_vectors={SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
            # 0: never build a graph. A scan of one tenant's codes is fast up to about 100,000
            # points, and building a graph would hold the interpreter lock for minutes.
            optimizers=edge.EdgeOptimizersConfig(indexing_threshold=0, default_segment_number=1),
            wal_enabled=True,
        )
        with translate_errors():
            shard = edge.EdgeShard.create(str(folder), config)
            _create_indexes(shard)
        return cls(shard, dimensions)

    @classmethod
    def load(cls, folder: Path, dimensions: int) -> "Shard":
        """Open a store and replay its log; raises UnavailableError if it cannot be read."""
        with translate_errors():
            loaded = edge.EdgeShard.load(str(folder))
            _create_indexes(loaded)
            shard = cls(loaded, dimensions)
        if not shard.is_whole():
            shard.close()
            raise UnavailableError("VECTORS_FAILED", "the store has points that cannot be read")
        return shard

    def count_points(self) -> int:
        """Exact number of points of all tenants."""
        with self._use_engine():
            return self._shard.count(edge.CountRequest())

    def is_whole(self) -> bool:
        """Whether every point's payload can be read; the engine does not check this itself."""
        # Ordinals have no index, so counting them reads each payload.
        every = edge.FieldCondition("ordinal", range=edge.RangeFloat(gte=0))
        try:
            with translate_errors():
                read = self._shard.count(edge.CountRequest(filter=edge.Filter(must=[every])))
                return read == self._shard.count(edge.CountRequest())
        except UnavailableError:
            log.exception("store.unreadable")
            return False

    def upsert(self, scope: TenantScope, points: Sequence[Point]) -> None:
        for point in points:
            self._check_width(point.dense)
        for first in range(0, len(points), WRITE_BATCH):
            self._upsert(scope, points[first : first + WRITE_BATCH])

    def _upsert(self, scope: TenantScope, points: Sequence[Point]) -> None:
        rows = _normalise([point.dense for point in points])
        stored = [
            edge.Point(
                point.point_id,
                {
                    DENSE: row.tolist(),
                    SPARSE: edge.SparseVector(
                        list(point.sparse.indices), list(point.sparse.values)
                    ),
                },
                make_payload(scope, point),
            )
            for point, row in zip(points, rows, strict=True)
        ]
        ids = [point.point_id for point in points]
        self._cache.forget(scope.tenant, ids)
        self._write(
            edge.UpdateOperation.upsert_points(stored, condition=filter_points(scope, EVERYTHING)),
            len(points),
        )
        self._cache.put(scope.tenant, list(zip(ids, rows, strict=True)))

    def search(self, scope: TenantScope, probe: Probe) -> Ranked:
        within = filter_points(scope, probe.within)
        dense: dict[str, float] = {}
        sparse: dict[str, float] = {}
        if probe.dense is not None:
            self._check_width(probe.dense)
            nearest = edge.Query.Nearest(probe.dense.tolist(), using=DENSE)
            with _start_span("search by meaning"):
                dense = self._query(nearest, probe.depth, within, SCAN)
        with _start_span("search by words"):
            words = self._replace_unknown(scope, probe)
            if words.indices:
                # Rarity counted over all tenants would reveal what others write about.
                corpus = edge.SearchParams(
                    idf=edge.IdfParams(corpus=filter_points(scope, probe.corpus))
                )
                sparse = self._query(_by_words(words), probe.depth, within, corpus)
        found = Candidates.merge(dense, sparse)
        if probe.dense is None:
            return rank_by_words(found)
        vectors, kept = self._read_vectors(scope, found.point_ids)
        if len(kept) < len(found.point_ids):
            found = found.take(kept)
        with _start_span("fuse the candidates"):
            ranked = fuse(found, vectors, depth=probe.depth, limit=probe.limit)
            return diversify(ranked, found, vectors, diversity=probe.diversity, limit=probe.limit)

    def describe(
        self,
        scope: TenantScope,
        document: str,
        labels: tuple[str, ...],
        facts: Mapping[int, Facts],
    ) -> None:
        """Set the labels of all points of a document, and the facts of some of its versions."""
        named = match_any("document", [document])
        fields: dict[str, Any] = {"labels": to_stored(labels)}
        where = filter_tenant(scope, named)
        self._write(edge.UpdateOperation.set_payload_by_filter(where, fields), 1)
        for number, described in facts.items():
            version = edge.FieldCondition("version", edge.MatchValue(number))
            where = filter_tenant(scope, named, version)
            fields = make_described(scope, document, described)
            self._write(edge.UpdateOperation.set_payload_by_filter(where, fields), 1)

    def delete_points(self, scope: TenantScope, point_ids: Sequence[str]) -> int:
        """Remove at most `DELETE_BATCH` points; returns how many of them existed."""
        where = filter_tenant(scope, edge.HasIdCondition(set(point_ids)))
        with self._use_engine():
            found = self._shard.count(edge.CountRequest(filter=where))
        if found:
            self._cache.forget(scope.tenant, point_ids)
            self._write(edge.UpdateOperation.delete_points_by_filter(where), found)
        return found

    def delete_some(self, scope: TenantScope, within: Filter) -> int:
        """Remove the next `DELETE_BATCH` matching points; returns their number, 0 at the end."""
        page = self.scroll(scope, within, start=None, limit=DELETE_BATCH)
        if not page.entries:
            return 0
        return self.delete_points(scope, [entry.point_id for entry in page.entries])

    def count(self, scope: TenantScope, within: Filter) -> int:
        with self._use_engine():
            return self._shard.count(edge.CountRequest(filter=filter_points(scope, within)))

    def scroll(self, scope: TenantScope, within: Filter, *, start: str | None, limit: int) -> Page:
        with self._use_engine():
            records, next_id = self._shard.scroll(
                edge.ScrollRequest(
                    offset=start,
                    limit=limit,
                    filter=filter_points(scope, within),
                    with_payload=True,
                )
            )
        return Page(
            entries=tuple(
                Entry(point_id=str(record.id), **_read_place(record.payload)) for record in records
            ),
            next_id=None if next_id is None else str(next_id),
        )

    @property
    def unflushed(self) -> int:
        """Changes since the last flush: points written or removed, and calls that changed fields.

        They are in the engine's log, so a crash loses none; the next start repeats them.
        """
        return self._unflushed

    def flush(self) -> None:
        """Write changes to disk and empty the log; holds the interpreter lock until it is done."""
        if self._unflushed:
            with self._use_engine(writing=True):
                self._shard.flush()
            self._unflushed = 0

    def compact(self) -> None:
        """Free the space of removed points; holds the interpreter lock until it is done."""
        with self._use_engine(writing=True):
            self._shard.optimize()

    def close(self) -> None:
        """Close the store; concurrent calls get STORE_MISSING."""
        self._closed = True
        with translate_errors():
            self._shard.close()

    def _write(self, operation: edge.UpdateOperation, changes: int) -> None:
        self._unflushed += changes
        with self._use_engine(writing=True):
            self._shard.update(operation)

    def _replace_unknown(self, scope: TenantScope, probe: Probe) -> SparseVector:
        """The words of a search, with those that look alike for each that no point has."""
        words = probe.sparse
        for spelling in probe.spellings:
            if not self._is_known(scope, probe.corpus, spelling.word):
                words = spelling.replace(words)
        return words

    def _is_known(self, scope: TenantScope, corpus: Filter, word: tuple[int, ...]) -> bool:
        """Whether a point of these collections has one of the terms of a word.

        Points that had it may be removed since; then the word finds nothing for a while. Labels are
        part of the scope: what only hidden points have is unknown.
        """
        key = scope, corpus.collections, word
        if key in self._known:
            return True
        terms = SparseVector(word, (1.0,) * len(word))
        if not self._query(_by_words(terms), 1, filter_points(scope, corpus), edge.SearchParams()):
            return False
        if len(self._known) >= KNOWN_WORDS_MAX:
            self._known.clear()
        self._known.add(key)
        return True

    def _query(
        self,
        query: edge.Query,
        limit: int,
        within: edge.Filter,
        params: edge.SearchParams,
    ) -> dict[str, float]:
        """Scores by point id."""
        with self._use_engine():
            points = self._shard.query(
                edge.QueryRequest(
                    limit=limit, query=query, filter=within, params=params, with_payload=False
                )
            )
        return {str(point.id): point.score for point in points}

    def _read_vectors(
        self, scope: TenantScope, point_ids: Sequence[str]
    ) -> tuple[Matrix, NDArray[np.intp]]:
        """Dense vectors of the points that still exist, and their positions in `point_ids`."""
        writes = self._cache.writes
        vectors, missing = self._cache.get(scope.tenant, point_ids)
        if not missing:
            return vectors, np.arange(len(point_ids))
        wanted: list[edge.PointId] = [point_ids[row] for row in missing]
        with self._use_engine():
            records = self._shard.retrieve(wanted, with_payload=False, with_vector=[DENSE])
        read = {str(record.id): self._read_vector(record) for record in records}
        self._cache.put_if_unchanged(scope.tenant, list(read.items()), writes=writes)
        gone = [row for row in missing if point_ids[row] not in read]
        for row in missing:
            vectors[row] = read.get(point_ids[row], 0.0)
        kept = np.delete(np.arange(len(point_ids)), gone)
        return vectors[kept], kept

    def _read_vector(self, record: edge.Record) -> Vector:
        """Converts the engine's list of floats; packing is twice as fast as `np.array`."""
        given: Any = record.vector
        return np.frombuffer(self._packed.pack(*given[DENSE]), dtype="<f4")

    @contextmanager
    def _use_engine(self, *, writing: bool = False) -> Iterator[None]:
        """Translates errors, and distinguishes a failed call from a broken engine.

        After a failed write the engine refuses all further writes until the store is opened again.
        """
        try:
            with translate_errors():
                yield
        except EngineBrokenError:
            raise
        except UnavailableError as error:
            if self._closed:
                raise store_missing_error() from error
            if writing or not self.is_whole():
                raise EngineBrokenError("VECTORS_BROKEN", "the vector store is broken") from error
            raise

    def _check_width(self, vector: Vector) -> None:
        if len(vector) != self._dimensions:
            raise InvalidInputError(
                "VECTOR_WIDTH",
                f"this store holds vectors of {self._dimensions} dimensions, not {len(vector)}",
                dimensions=self._dimensions,
                given=len(vector),
            )


def _create_indexes(shard: edge.EdgeShard) -> None:
    """Creates the indexes that are missing; an earlier version may have had fewer."""
    for key in INDEXES.keys() - shard.info().payload_schema.keys():
        shard.update(edge.UpdateOperation.create_field_index(key, INDEXES[key]))


def _by_words(words: SparseVector) -> edge.Query:
    return edge.Query.Nearest(
        edge.SparseVector(list(words.indices), list(words.values)), using=SPARSE
    )


def _normalise(vectors: Sequence[Vector]) -> Matrix:
    """Scales rows to unit length exactly as the engine does, so that it stores them unchanged."""
    rows = np.stack(vectors).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = (rows / np.where(lengths > 0, lengths, 1.0)).astype("<f4")
    return unit


def _read_place(payload: Any) -> dict[str, Any]:
    place = {key: payload[key] for key in ("document", "version", "ordinal", "described")}
    # The first points did not say which analyser made them.
    analyser = payload.get("analyser", 0)
    return {**place, "labels": from_stored(payload["labels"]), "analyser": analyser}


def _start_span(name: str) -> AbstractContextManager[Any]:
    """A span of a stage of a search."""
    return trace.get_tracer(TRACER_NAME).start_as_current_span(name)
