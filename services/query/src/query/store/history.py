"""The history of versions: what was live at a time, since when it is kept, and what has left it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from typing_extensions import override

from chassis.base.postgres import Database
from query.domain import Version
from query.usecases.records import History

# What is true of a passage `version` of the document `known`, if its version is live, or was.
_LIVE: Final = "known.live_version = {version}"
_WAS_LIVE: Final = """(
    known.live_version = {version} AND coalesce(known.live_at <= %(as_of)s, true)
    OR EXISTS (
        SELECT FROM superseded_versions AS old
        WHERE old.tenant_id = %(tenant)s AND old.document = {document} AND old.version = {version}
            AND coalesce(old.live_at <= %(as_of)s, true) AND old.superseded_at > %(as_of)s))"""
HISTORY_SPAN: Final = ", (SELECT since FROM history) AS since, clock_timestamp() AS now"

# Longer than a transaction lasts: one that began before a history was kept removes what it
# supersedes, and may end later.
_BEGINS_AFTER: Final = "interval '1 minute'"

_KEEP: Final = f"""
INSERT INTO history AS known (since) VALUES (now() + {_BEGINS_AFTER})
ON CONFLICT (only_row) DO UPDATE SET since = greatest(
    coalesce(known.since, excluded.since), now() - %(window)s::interval)
RETURNING now() - %(window)s::interval AS expired
"""  # noqa: S608  (a constant of this module)

_KEEP_NONE: Final = "UPDATE history SET since = NULL WHERE since IS NOT NULL"

# No unit of work of a tenant begins while it is being removed: it would end the round of a loop.
_EXPIRED: Final = """
SELECT tenant_id, document, version FROM superseded_versions
WHERE (%(before)s::timestamptz IS NULL OR superseded_at < %(before)s) AND tenant_id <> ALL(ARRAY(
    SELECT tenant_id FROM deleted_tenants WHERE finished_at IS NULL))
ORDER BY superseded_at LIMIT %(limit)s
"""


class PostgresHistory(History):
    """See `History`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def keep(self, window: timedelta) -> datetime | None:
        async with self._database.sweep() as tx:
            if not window:
                await tx.execute(_KEEP_NONE)
                return None
            row = await (await tx.execute(_KEEP, {"window": window})).fetchone()
        assert row is not None, "it was just stored"
        expired: datetime = row["expired"]
        return expired

    @override
    async def list_expired(
        self, before: datetime | None, limit: int
    ) -> Sequence[tuple[str, Version]]:
        async with self._database.sweep() as tx:
            cursor = await tx.execute(_EXPIRED, {"before": before, "limit": limit})
            return [
                (row["tenant_id"], Version(document=row["document"], number=row["version"]))
                for row in await cursor.fetchall()
            ]


def condition_of_life(row: str, as_of: datetime | None) -> str:
    """What is true of the version of a row if it is live, or was at a time."""
    condition = _LIVE if as_of is None else _WAS_LIVE
    return condition.format(document=f"{row}.document", version=f"{row}.version")
