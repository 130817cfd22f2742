"""Collections of one tenant."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from typing_extensions import override

from chassis.base.postgres import Transaction
from ingest.collections import Collection, CollectionSettings
from ingest.domain import State
from ingest.steps import Step
from ingest.store.rows import NOW_NS, Row
from ingest.usecases.tables import Collections

# A version that is newest and live is INDEXED, so most documents need no look at their versions.
# Nested loops, which LIMIT 1 makes of the second join too, keep the order of `found`, and count the
# documents of no more collections than are returned.
_COUNTED: Final = """
CROSS JOIN LATERAL (
    SELECT count(*) AS documents,
        count(*) FILTER (WHERE d.live_version = d.latest_version) AS indexed,
        array_agg((
            SELECT v.state FROM versions v
            WHERE v.tenant_id = d.tenant_id AND v.document = d.name AND v.version = d.latest_version
        )) FILTER (WHERE d.live_version <> d.latest_version) AS others
    FROM documents d
    WHERE d.tenant_id = %(tenant)s AND d.name > 'collections/' || found.key || 'documents/'
        AND d.name < 'collections/' || found.key || 'documents0'
        AND d.latest_version > d.tombstone_version
        AND d.upload_order > coalesce((
            SELECT upload_order FROM collection_deletions
            WHERE tenant_id = %(tenant)s AND collection_id = left(found.key, -1)
            ORDER BY number DESC LIMIT 1), -1)
) AS counted
LEFT JOIN LATERAL (
    SELECT * FROM collections
    WHERE tenant_id = %(tenant)s AND collection_id = left(found.key, -1) LIMIT 1
) AS c ON true
WHERE (counted.documents > 0 OR c.collection_id IS NOT NULL)
"""
_SELECTED: Final = """
SELECT left(found.key, -1) AS id, counted.indexed, counted.others, c.description, c.target_chars,
    c.max_chars, c.retention_s, c.version_retention, c.steps, c.access_labels, c.created_at,
    c.updated_at
"""

_FIND: Final = f"""
WITH found AS (SELECT %(id)s::text || '/' AS key)
{_SELECTED} FROM found {_COUNTED}
"""  # noqa: S608  (constants of this module)

# Jumps from one collection to the next, in the order of the names of documents: `key` is the id and
# `/`, and `0` follows `/`.
_LIST: Final = f"""
WITH RECURSIVE found AS (
    SELECT least(
        (SELECT split_part(name, '/', 2) || '/' FROM documents
         WHERE tenant_id = %(tenant)s AND name > %(after)s ORDER BY name LIMIT 1) COLLATE "C",
        (SELECT collection_id || '/' FROM collections
         WHERE tenant_id = %(tenant)s AND collection_id || '/' > %(after_key)s
         ORDER BY collection_id || '/' LIMIT 1)) AS key
    UNION ALL
    SELECT least(
        (SELECT split_part(name, '/', 2) || '/' FROM documents
         WHERE tenant_id = %(tenant)s AND name > 'collections/' || found.key || 'documents0'
         ORDER BY name LIMIT 1) COLLATE "C",
        (SELECT collection_id || '/' FROM collections
         WHERE tenant_id = %(tenant)s AND collection_id || '/' > found.key
         ORDER BY collection_id || '/' LIMIT 1))
    FROM found WHERE found.key IS NOT NULL
)
{_SELECTED} FROM found {_COUNTED} AND found.key IS NOT NULL LIMIT %(limit)s
"""  # noqa: S608

_SETTINGS: Final = """
SELECT description, target_chars, max_chars, retention_s, version_retention, steps, access_labels
FROM collections
WHERE tenant_id = %(tenant)s AND collection_id = %(id)s
"""

_CREATE: Final = """
INSERT INTO collections
    (tenant_id, collection_id, description, target_chars, max_chars, retention_s,
    version_retention, steps, access_labels)
VALUES (%(tenant)s, %(id)s, %(description)s, %(target_chars)s, %(max_chars)s, %(retention_s)s,
    %(version_retention)s, %(steps)s, %(access_labels)s)
ON CONFLICT DO NOTHING
"""

_UPDATE: Final = """
INSERT INTO collections
    (tenant_id, collection_id, description, target_chars, max_chars, retention_s,
    version_retention, steps, access_labels)
VALUES (%(tenant)s, %(id)s, %(description)s, %(target_chars)s, %(max_chars)s, %(retention_s)s,
    %(version_retention)s, %(steps)s, %(access_labels)s)
ON CONFLICT (tenant_id, collection_id) DO UPDATE SET description = excluded.description,
    target_chars = excluded.target_chars, max_chars = excluded.max_chars,
    retention_s = excluded.retention_s, version_retention = excluded.version_retention,
    steps = excluded.steps, access_labels = excluded.access_labels, updated_at = clock_timestamp()
"""

_LABEL: Final = f"""
UPDATE documents SET labels = %(labels)s,
    labels_order = greatest(labels_order + 1, {NOW_NS}), labels_due_at = clock_timestamp()
WHERE tenant_id = %(tenant)s AND name > 'collections/' || %(id)s || '/documents/'
    AND name < 'collections/' || %(id)s || '/documents0' AND NOT own_labels
    AND labels <> %(labels)s::text[]
"""  # noqa: S608

_LOCK: Final = """
SELECT 1 FROM collections WHERE tenant_id = %(tenant)s AND collection_id = %(id)s FOR UPDATE
"""

_DELETE: Final = "DELETE FROM collections WHERE tenant_id = %(tenant)s AND collection_id = %(id)s"

_OLD: Final = """
SELECT d.name, d.latest_version FROM collections c
JOIN documents d ON d.tenant_id = c.tenant_id
    AND d.name > 'collections/' || c.collection_id || '/documents/'
    AND d.name < 'collections/' || c.collection_id || '/documents0'
JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
    AND v.version = d.latest_version
WHERE c.tenant_id = %(tenant)s AND c.retention_s > 0 AND d.latest_version > d.tombstone_version
    AND v.accepted_at < clock_timestamp() - make_interval(secs => c.retention_s)
LIMIT %(limit)s
"""


class PostgresCollections(Collections):
    """See `Collections`; for one tenant, in the given transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self._tenant = tenant

    @override
    async def find(self, collection_id: str) -> Collection | None:
        found = await self._fetch_all(_FIND, id=collection_id)
        return _collection(found[0]) if found else None

    @override
    async def find_settings(self, collection_id: str) -> CollectionSettings | None:
        found = await self._fetch_all(_SETTINGS, id=collection_id)
        return _settings(found[0]) if found else None

    @override
    async def list_page(self, after: str, limit: int) -> Sequence[Collection]:
        places = {
            "after": f"collections/{after}/documents0" if after else "collections/",
            "after_key": f"{after}/" if after else "",
        }
        return [_collection(row) for row in await self._fetch_all(_LIST, limit=limit, **places)]

    @override
    async def create(self, collection_id: str, settings: CollectionSettings) -> bool:
        cursor = await self._execute(_CREATE, id=collection_id, **_columns(settings))
        return bool(cursor.rowcount)

    @override
    async def update(self, collection_id: str, settings: CollectionSettings) -> None:
        await self._execute(_UPDATE, id=collection_id, **_columns(settings))

    @override
    async def label(self, collection_id: str, labels: tuple[str, ...]) -> None:
        await self._execute(_LABEL, id=collection_id, labels=list(labels))

    @override
    async def lock(self, collection_id: str) -> None:
        await self._execute(_LOCK, id=collection_id)

    @override
    async def delete(self, collection_id: str) -> None:
        await self._execute(_DELETE, id=collection_id)

    @override
    async def list_old(self, limit: int) -> Sequence[tuple[str, int]]:
        found = await self._fetch_all(_OLD, limit=limit)
        return [(row["name"], row["latest_version"]) for row in found]

    async def _execute(self, statement: str, **values: Any) -> Any:
        return await self._tx.execute(statement.encode(), {"tenant": self._tenant, **values})

    async def _fetch_all(self, statement: str, **values: Any) -> list[Row]:
        rows: list[Row] = await (await self._execute(statement, **values)).fetchall()
        return rows


def _settings(row: Row) -> CollectionSettings:
    return CollectionSettings(
        description=row["description"],
        target_chars=row["target_chars"],
        max_chars=row["max_chars"],
        retention_s=row["retention_s"],
        version_retention=row["version_retention"],
        steps=tuple(map(Step, row["steps"])),
        access_labels=tuple(row["access_labels"]),
    )


def _columns(settings: CollectionSettings) -> dict[str, object]:
    return {
        "description": settings.description,
        "target_chars": settings.target_chars,
        "max_chars": settings.max_chars,
        "retention_s": settings.retention_s,
        "version_retention": settings.version_retention,
        "steps": [step.value for step in settings.steps],
        "access_labels": list(settings.access_labels),
    }


def _collection(row: Row) -> Collection:
    return Collection(
        collection_id=row["id"],
        state_counts=_count_states(row["indexed"], row["others"] or ()),
        settings=_settings(row) if row["created_at"] else CollectionSettings(),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _count_states(indexed: int, others: Sequence[str]) -> dict[State, int]:
    counts = Counter(others) + Counter({State.INDEXED.value: indexed})
    return {state: counts[state] for state in State if counts[state]}
