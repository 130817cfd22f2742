"""Stores the newest spans in one SQLite file; finds them by trace or attribute."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
TAG_CHARS_MAX = 1024
ROOT_MISSING = "<root span not yet received>"
_TIME_MAX = 2**63 - 1
_BUSY_S = 5.0
_SERVICE = "service.name"
# Spans above the limit are deleted in groups of one twentieth of the limit.
_SLACK = 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sources (
    source_id INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    body BLOB NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS source_tags (
    key TEXT NOT NULL, value TEXT NOT NULL,
    source_id INTEGER NOT NULL REFERENCES sources ON DELETE CASCADE,
    PRIMARY KEY (key, value, source_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spans (
    span_row INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    root_name TEXT,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    source_id INTEGER NOT NULL REFERENCES sources,
    body BLOB NOT NULL,
    UNIQUE (trace_id, span_id)
);
CREATE INDEX IF NOT EXISTS spans_source ON spans (source_id);
CREATE TABLE IF NOT EXISTS span_tags (
    key TEXT NOT NULL, value TEXT NOT NULL,
    span_row INTEGER NOT NULL REFERENCES spans ON DELETE CASCADE,
    PRIMARY KEY (key, value, span_row)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS span_tags_span ON span_tags (span_row);
"""

_TAGGED = """
SELECT span_row FROM span_tags WHERE key = ? AND value = ?
UNION ALL
SELECT span_row FROM source_tags JOIN spans USING (source_id) WHERE key = ? AND value = ?
"""

_SEARCH = """
WITH matched AS (SELECT DISTINCT trace_id FROM spans WHERE {conditions})
SELECT trace_id, min(start_ns) AS first_ns, max(end_ns) AS last_ns, max(root_name),
       max(CASE WHEN root_name IS NOT NULL THEN service END)
FROM spans JOIN matched USING (trace_id) JOIN sources USING (source_id)
GROUP BY trace_id HAVING last_ns >= ? AND first_ns <= ?
ORDER BY first_ns DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """A trace found by a search; times in nanoseconds since 1970."""

    trace_id: bytes
    root_service: str
    root_name: str
    start_ns: int
    end_ns: int


class SpanStore:
    """Stores each span once, at most `max_spans` plus one twentieth.

    Thread-safe: writes use a lock, each read opens its own connection.
    """

    def __init__(self, path: Path, *, max_spans: int) -> None:
        self._path = path
        self._max_spans = max_spans
        self._lock = Lock()
        self._db = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
        self._db.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;"
        )
        self._db.executescript(_SCHEMA)
        self._count: int = self._db.execute("SELECT count(*) FROM spans").fetchone()[0]

    def add(self, batches: Iterable[ResourceSpans]) -> int:
        """Stores spans in one transaction; existing spans are not changed.

        Returns:
            The number of refused spans: ids of the wrong length, or a time after the year 2262.
        """
        refused = 0
        with self._lock, self._db:
            for source, spans in _group_by_source(batches):
                source_id = self._source_id(source)
                for span in spans:
                    if _is_valid(span):
                        self._count += self._insert(source_id, span)
                    else:
                        refused += 1
            if self._count > self._max_spans + self._max_spans // _SLACK:
                self._prune()
        return refused

    def trace(self, trace_id: bytes) -> TracesData:
        """All spans of a trace with resource and scope; empty if there are none."""
        with self._reader() as db:
            rows = db.execute(
                "SELECT source_id, sources.body, spans.body FROM spans JOIN sources"
                " USING (source_id) WHERE trace_id = ? ORDER BY source_id, start_ns",
                (trace_id,),
            ).fetchall()
        found: dict[int, ResourceSpans] = {}
        for source_id, source, span in rows:
            if source_id not in found:
                found[source_id] = ResourceSpans.FromString(source)
            found[source_id].scope_spans[0].spans.add().ParseFromString(span)
        return TracesData(resource_spans=found.values())

    def search(
        self, tags: Mapping[str, str], *, from_ns: int, to_ns: int, limit: int
    ) -> list[TraceSummary]:
        """Traces in the time range with a span that has all tags, newest first.

        A tag is an attribute of the span or of its resource, equal as text.
        """
        conditions = " AND ".join(f"span_row IN ({_TAGGED})" for _ in tags) or "true"
        values = [part for key, value in tags.items() for part in (key, value) * 2]
        with self._reader() as db:
            rows = db.execute(
                _SEARCH.format(conditions=conditions), (*values, from_ns, to_ns, limit)
            ).fetchall()
        return [
            TraceSummary(
                trace_id=trace_id,
                root_service=service or ROOT_MISSING,
                root_name=name or "",
                start_ns=start_ns,
                end_ns=end_ns,
            )
            for trace_id, start_ns, end_ns, name, service in rows
        ]

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _reader(self) -> "closing[sqlite3.Connection]":
        return closing(sqlite3.connect(self._path, timeout=_BUSY_S))

    def _source_id(self, source: ResourceSpans) -> int:
        body = source.SerializeToString(deterministic=True)
        tags = dict(_tags(source.resource.attributes))
        self._db.execute(
            "INSERT OR IGNORE INTO sources (service, body) VALUES (?, ?)",
            (tags.get(_SERVICE, ""), body),
        )
        found = self._db.execute("SELECT source_id FROM sources WHERE body = ?", (body,))
        source_id: int = found.fetchone()[0]
        self._db.executemany(
            "INSERT OR IGNORE INTO source_tags VALUES (?, ?, ?)",
            [(key, value, source_id) for key, value in tags.items()],
        )
        return source_id

    def _insert(self, source_id: int, span: Span) -> int:
        inserted = self._db.execute(
            "INSERT OR IGNORE INTO spans"
            " (trace_id, span_id, root_name, start_ns, end_ns, source_id, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                span.trace_id,
                span.span_id,
                None if span.parent_span_id else span.name,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                source_id,
                span.SerializeToString(),
            ),
        )
        if inserted.rowcount:
            self._db.executemany(
                "INSERT OR IGNORE INTO span_tags VALUES (?, ?, ?)",
                [(key, value, inserted.lastrowid) for key, value in _tags(span.attributes)],
            )
        return inserted.rowcount

    def _prune(self) -> None:
        self._db.execute(
            "DELETE FROM spans WHERE span_row <="
            " (SELECT span_row FROM spans ORDER BY span_row DESC LIMIT 1 OFFSET ?)",
            (self._max_spans,),
        )
        self._db.execute("DELETE FROM sources WHERE source_id NOT IN (SELECT source_id FROM spans)")
        self._count = self._db.execute("SELECT count(*) FROM spans").fetchone()[0]


def _group_by_source(
    batches: Iterable[ResourceSpans],
) -> Iterator[tuple[ResourceSpans, Iterable[Span]]]:
    """Groups spans by source: a message with resource and scope but without spans."""
    for batch in batches:
        for scoped in batch.scope_spans:
            shared = ScopeSpans(scope=scoped.scope, schema_url=scoped.schema_url)
            yield (
                ResourceSpans(
                    resource=batch.resource, schema_url=batch.schema_url, scope_spans=[shared]
                ),
                scoped.spans,
            )


def _is_valid(span: Span) -> bool:
    return (
        len(span.trace_id) == TRACE_ID_BYTES
        and len(span.span_id) == SPAN_ID_BYTES
        and max(span.start_time_unix_nano, span.end_time_unix_nano) <= _TIME_MAX
    )


def _tags(attributes: Iterable[KeyValue]) -> Iterator[tuple[str, str]]:
    """Attributes for the search: scalar ones, the first 1,024 characters of each."""
    for attribute in attributes:
        value = _text(attribute.value)
        if value is not None:
            yield attribute.key, value[:TAG_CHARS_MAX]


def _text(value: AnyValue) -> str | None:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return str(value.bool_value).lower()
        case "int_value":
            return str(value.int_value)
        case "double_value":
            return f"{value.double_value:g}"
        case _:
            return None
