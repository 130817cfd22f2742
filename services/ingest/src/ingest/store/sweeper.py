"""Finds pending work of all tenants, as the sweeper role; changes no tenant's documents."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from typing_extensions import override

from chassis.base.postgres import Database
from chassis.events.inbox import forget_old
from ingest.domain import STEPS, UNFINISHED, State
from ingest.store import rows
from ingest.store.collection_deletions import read_deletion
from ingest.store.rows import Row
from ingest.usecases.ports import Backlog, Sweeper
from ingest.usecases.rows import CollectionDeletion, Line, Pending

_PENDING: Final = (
    "tenant_id, document, version, state, attempt, size_bytes, batch_count, step_due_at"
)

# No unit of work of a tenant begins while it is being removed: its rows would end every round.
_NOT_REMOVED: Final = """tenant_id <> ALL(ARRAY(
    SELECT tenant_id FROM deleted_tenants WHERE finished_at IS NULL))"""

_DUE: Final = f"""
SELECT {_PENDING} FROM versions
WHERE state = %(state)s AND step_due_at IS NOT NULL
    AND step_due_at <= clock_timestamp() AND {_NOT_REMOVED}
ORDER BY step_due_at LIMIT %(limit)s
"""  # noqa: S608

_UNDESCRIBED: Final = f"""
SELECT tenant_id, document, version, state, description_attempt AS attempt, size_bytes, batch_count,
    description_due_at AS step_due_at
FROM versions WHERE description_due_at <= clock_timestamp() AND {_NOT_REMOVED}
ORDER BY description_due_at LIMIT %(limit)s
"""  # noqa: S608

_EXPIRED: Final = f"""
SELECT {_PENDING} FROM versions
WHERE state = ANY(%(states)s) AND step_due_at IS NOT NULL
    AND updated_at <= clock_timestamp() - make_interval(secs => %(deadline_s)s)
    AND {_NOT_REMOVED}
ORDER BY updated_at LIMIT %(limit)s
"""  # noqa: S608

_BACKLOG: Final = """
SELECT tenant_id, state, count(*) AS documents,
    extract(epoch FROM clock_timestamp() - min(updated_at)) AS oldest_age_s
FROM versions WHERE step_due_at IS NOT NULL AND state = ANY(%(states)s)
GROUP BY tenant_id, state
UNION ALL
SELECT tenant_id, 'FETCHING', count(*),
    extract(epoch FROM clock_timestamp() - min(created_at))
FROM fetches GROUP BY tenant_id
ORDER BY tenant_id, state
"""

# Fifty samples place a document within two hundredths of its line.
_LINES: Final = """
SELECT tenant_id, count(*) AS documents,
    percentile_disc(ARRAY(SELECT n / 50.0 FROM generate_series(0, 50) AS n))
        WITHIN GROUP (ORDER BY extract(epoch FROM accepted_at)::double precision) AS accepted_at
FROM versions WHERE step_due_at IS NOT NULL AND state = ANY(%(states)s)
GROUP BY tenant_id
"""

# The oldest of each tenant first, then the second of each: nobody waits behind another's thousand.
_DUE_FETCHES: Final = f"""
SELECT tenant_id, source, request_id
FROM tenants CROSS JOIN LATERAL (
    SELECT source, request_id, due_at, row_number() OVER (ORDER BY due_at) AS turn
    FROM fetches f
    WHERE f.tenant_id = tenants.tenant_id AND f.due_at <= clock_timestamp()
    ORDER BY due_at LIMIT %(each)s) AS due
WHERE tenant_id <> ALL(%(excluding)s) AND {_NOT_REMOVED}
ORDER BY turn, due_at LIMIT %(limit)s
"""  # noqa: S608

_KEPT_KEYS: Final = f"""
SELECT v.object_key FROM versions v
JOIN documents d ON d.tenant_id = v.tenant_id AND d.name = v.document
WHERE v.tenant_id = %(tenant)s AND {rows.NEEDS_OBJECT}
UNION ALL
SELECT object_key FROM upload_parts WHERE tenant_id = %(tenant)s
"""  # noqa: S608  (a constant of this package)

_EXPIRED_SESSIONS: Final = f"""
SELECT tenant_id, upload_id FROM upload_sessions
WHERE expires_at <= clock_timestamp() AND {_NOT_REMOVED}
ORDER BY expires_at LIMIT %(limit)s
"""  # noqa: S608

_TENANTS: Final = f"""
SELECT tenant_id FROM tenants WHERE {_NOT_REMOVED} ORDER BY tenant_id
"""  # noqa: S608

_WITH_RETENTION: Final = f"""
SELECT DISTINCT tenant_id FROM collections WHERE retention_s > 0 AND {_NOT_REMOVED}
ORDER BY tenant_id
"""  # noqa: S608

_WITH_LABELS_DUE: Final = f"""
SELECT DISTINCT tenant_id FROM documents WHERE labels_due_at IS NOT NULL AND {_NOT_REMOVED}
ORDER BY tenant_id
"""  # noqa: S608

# Those that need no other service first; tenants take turns, as for fetches.
_COLLECTION_DELETIONS: Final = f"""
SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY requested_at) AS turn
    FROM collection_deletions WHERE finished_at IS NULL AND {_NOT_REMOVED}) AS unfinished
ORDER BY hidden DESC, turn, requested_at LIMIT %(limit)s
"""  # noqa: S608

_FORGET_REQUESTS: Final = """
DELETE FROM uploads WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM uploads
    WHERE source = '' AND created_at < now() - make_interval(secs => %(age_s)s)
    LIMIT %(limit)s))
"""

FORGET_BATCH: Final = 5_000


class PostgresSweeper(Sweeper):
    """See `Sweeper`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def now(self) -> datetime:
        [row] = await self._fetch_all("SELECT clock_timestamp() AS now", {})
        time: datetime = row["now"]
        return time

    @override
    async def list_overdue(self, state: State, limit: int) -> Sequence[Pending]:
        names = {"state": state.value, "limit": limit}
        return [_pending(row) for row in await self._fetch_all(_DUE, names)]

    @override
    async def list_undescribed(self, limit: int) -> Sequence[Pending]:
        return [_pending(row) for row in await self._fetch_all(_UNDESCRIBED, {"limit": limit})]

    @override
    async def list_expired(self, deadline_s: float, limit: int) -> Sequence[Pending]:
        states = [state.value for state in UNFINISHED]
        names = {"states": states, "deadline_s": deadline_s, "limit": limit}
        return [_pending(row) for row in await self._fetch_all(_EXPIRED, names)]

    @override
    async def count_backlog(self) -> Sequence[Backlog]:
        found = await self._fetch_all(_BACKLOG, {"states": [state.value for state in STEPS]})
        return [
            Backlog(
                tenant=row["tenant_id"],
                state=row["state"],
                documents=row["documents"],
                oldest_age_s=float(row["oldest_age_s"]),
            )
            for row in found
        ]

    @override
    async def measure_lines(self) -> Mapping[str, Line]:
        found = await self._fetch_all(_LINES, {"states": [state.value for state in UNFINISHED]})
        return {
            row["tenant_id"]: Line(count=row["documents"], accepted_at=row["accepted_at"])
            for row in found
        }

    @override
    async def list_due_fetches(
        self, each: int, limit: int, *, excluding: Sequence[str]
    ) -> Sequence[tuple[str, str, str]]:
        names = {"each": each, "limit": limit, "excluding": list(excluding)}
        found = await self._fetch_all(_DUE_FETCHES, names)
        return [(row["tenant_id"], row["source"], row["request_id"]) for row in found]

    @override
    async def list_expired_sessions(self, limit: int) -> Sequence[tuple[str, str]]:
        found = await self._fetch_all(_EXPIRED_SESSIONS, {"limit": limit})
        return [(row["tenant_id"], row["upload_id"]) for row in found]

    @override
    async def list_tenants(self) -> Sequence[str]:
        found = await self._fetch_all(_TENANTS, {})
        return [row["tenant_id"] for row in found]

    @override
    async def list_tenants_with_labels_due(self) -> Sequence[str]:
        found = await self._fetch_all(_WITH_LABELS_DUE, {})
        return [row["tenant_id"] for row in found]

    @override
    async def list_tenants_with_retention(self) -> Sequence[str]:
        found = await self._fetch_all(_WITH_RETENTION, {})
        return [row["tenant_id"] for row in found]

    @override
    async def list_collection_deletions(
        self, limit: int
    ) -> Sequence[tuple[str, CollectionDeletion]]:
        found = await self._fetch_all(_COLLECTION_DELETIONS, {"limit": limit})
        return [
            (row["tenant_id"], read_deletion(row, documents=row["documents"], remaining=0))
            for row in found
        ]

    @override
    async def list_kept_keys(self, tenant: str) -> frozenset[str]:
        async with self._database.transaction(tenant) as tx:
            cursor = await tx.execute(_KEPT_KEYS, {"tenant": tenant})
            return frozenset([row["object_key"] async for row in cursor])

    @override
    async def forget(self, inbox_s: float, requests_s: float) -> int:
        forgotten, removed = await forget_old(self._database, inbox_s), FORGET_BATCH
        while removed == FORGET_BATCH:
            async with self._database.sweep() as tx:
                names = {"age_s": requests_s, "limit": FORGET_BATCH}
                removed = (await tx.execute(_FORGET_REQUESTS, names)).rowcount
            forgotten += removed
        return forgotten

    async def _fetch_all(self, statement: str, names: Mapping[str, object]) -> list[Row]:
        async with self._database.sweep() as tx:
            return await (await tx.execute(statement.encode(), names)).fetchall()


def _pending(row: Row) -> Pending:
    return Pending(
        tenant=row["tenant_id"],
        document=row["document"],
        number=row["version"],
        state=State(row["state"]),
        attempt=row["attempt"],
        size_bytes=row["size_bytes"],
        batch_count=row["batch_count"],
        step_due_at=row["step_due_at"],
    )
