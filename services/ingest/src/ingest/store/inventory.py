"""Reads documents, versions and object keys for comparisons with other stores."""

from collections.abc import Mapping, Sequence
from typing import Final

from typing_extensions import override

from chassis.base.postgres import Database
from ingest.domain import State
from ingest.store import rows
from ingest.store.rows import Row
from ingest.usecases.ports import Holding, Inventory, KeptObject, LiveVersion

_OVERDUE: Final = """
WITH overdue AS (
    SELECT tenant_id, document, version, step_due_at FROM versions
    WHERE state = %(state)s AND step_due_at IS NOT NULL AND step_due_at <= clock_timestamp()
        AND document > %(after)s AND document < %(before)s
)
SELECT count(*) AS overdue, ARRAY(
    SELECT tenant_id || ': ' || document || ' v' || version FROM overdue
    ORDER BY step_due_at LIMIT 5
) AS examples
FROM overdue
"""

_KEPT: Final = f"""
SELECT v.object_key, v.document, v.version, v.state = 'DELETING' AS is_deleting FROM versions v
JOIN documents d ON d.tenant_id = v.tenant_id AND d.name = v.document
WHERE v.tenant_id = %(tenant)s AND v.object_key <> ''
    AND v.document > %(after)s AND v.document < %(before)s
    AND {rows.NEEDS_OBJECT}
UNION ALL
SELECT p.object_key, s.document, 0, false FROM upload_parts p
JOIN upload_sessions s ON s.tenant_id = p.tenant_id AND s.upload_id = p.upload_id
WHERE p.tenant_id = %(tenant)s AND s.document > %(after)s AND s.document < %(before)s
"""  # noqa: S608  (a constant of this package)

_LIVE: Final = """
SELECT v.document, v.version, v.chunk_count, d.labels FROM documents d
JOIN versions v ON v.tenant_id = d.tenant_id AND v.document = d.name
    AND v.version = d.live_version
WHERE d.tenant_id = %(tenant)s AND d.name > %(after)s AND d.name < %(before)s
    AND d.live_version > d.tombstone_version
ORDER BY d.name LIMIT %(limit)s
"""

_HOLDINGS: Final = """
SELECT d.name, d.live_version, d.tombstone_version,
    EXISTS (SELECT FROM versions v WHERE v.tenant_id = d.tenant_id AND v.document = d.name
        AND v.state = 'DELETING') AS is_deleting,
    EXISTS (SELECT FROM versions v WHERE v.tenant_id = d.tenant_id AND v.document = d.name
        AND v.version = wanted.number) AS has_version
FROM unnest(%(names)s::text[], %(numbers)s::bigint[]) AS wanted(name, number)
JOIN documents d ON d.tenant_id = %(tenant)s AND d.name = wanted.name AND d.latest_version > 0
"""


class PostgresInventory(Inventory):
    """See `Inventory`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def count_overdue(self, state: State, collection: str) -> tuple[int, Sequence[str]]:
        async with self._database.sweep() as tx:
            names = {"state": state.value, **_name_range(collection)}
            row = await (await tx.execute(_OVERDUE, names)).fetchone()
        assert row is not None, "an aggregate returns its row"
        return row["overdue"], row["examples"]

    @override
    async def list_kept(self, tenant: str, collection: str) -> Mapping[str, KeptObject]:
        found = await self._fetch_all(tenant, _KEPT, **_name_range(collection))
        return {row.pop("object_key"): KeptObject(**row) for row in found}

    @override
    async def list_live(
        self, tenant: str, collection: str, after: str, limit: int
    ) -> Sequence[LiveVersion]:
        names = _name_range(collection)
        names["after"] = max(after, names["after"])
        return [
            LiveVersion(
                document=row["document"],
                number=row["version"],
                chunk_count=row["chunk_count"],
                labels=tuple(row["labels"]),
            )
            for row in await self._fetch_all(tenant, _LIVE, limit=limit, **names)
        ]

    @override
    async def find_holdings(
        self, tenant: str, versions: Sequence[tuple[str, int]]
    ) -> Mapping[str, Holding]:
        found = await self._fetch_all(
            tenant,
            _HOLDINGS,
            names=[name for name, _ in versions],
            numbers=[number for _, number in versions],
        )
        return {row.pop("name"): Holding(**row) for row in found}

    async def _fetch_all(self, tenant: str, statement: str, **values: object) -> list[Row]:
        async with self._database.transaction(tenant) as tx:
            cursor = await tx.execute(statement.encode(), {"tenant": tenant, **values})
            return await cursor.fetchall()


def _name_range(collection: str) -> dict[str, str]:
    """Names of a collection lie between its prefix and the same with `/` raised to `0`."""
    prefix = f"collections/{collection}/documents" if collection else "collections"
    return {"after": f"{prefix}/", "before": f"{prefix}0"}
