"""Which profiles are in use, and which vector stores hold every point; of no tenant."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from typing_extensions import override

from chassis.base.postgres import Database, Transaction
from query.profile import Profile
from query.usecases.records import InUse, Profiles, Rebuilding, StoreRecord, StoreRecords

# First half of an advisory lock's key; the second is the profile's.
_REBUILD_LOCK: Final = 5_120

_READ: Final = "SELECT store_id, complete, dropped FROM vector_stores WHERE profile = %s"

_FORGET: Final = """
INSERT INTO vector_stores (profile, complete) VALUES (%s, false)
ON CONFLICT (profile) DO UPDATE SET store_id = NULL, complete = false, changed_at = now()
"""

_TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock(%s, hashtext(%s)) AS locked"

_COMPLETE: Final = """
UPDATE vector_stores SET store_id = %s, complete = true, changed_at = now()
WHERE profile = %s AND NOT dropped
"""

_LIST_DROPPED: Final = "SELECT profile FROM vector_stores WHERE dropped ORDER BY profile"

_REMOVE: Final = "DELETE FROM vector_stores WHERE profile = %s AND dropped"

IN_USE: Final = "live, live_dimensions, beside, beside_dimensions"

_READ_IN_USE: Final = f"SELECT {IN_USE} FROM profiles_in_use"  # noqa: S608  (a constant)

_BEGIN: Final = """
INSERT INTO profiles_in_use (live, live_dimensions) VALUES (%(name)s, %(dimensions)s)
ON CONFLICT DO NOTHING
"""

_BUILD: Final = """
UPDATE profiles_in_use
SET beside = %(name)s, beside_dimensions = %(dimensions)s, changed_at = now()
WHERE live = %(live)s AND beside IS NULL
"""

_FLIP: Final = """
UPDATE profiles_in_use
SET live = beside, live_dimensions = beside_dimensions,
    beside = live, beside_dimensions = live_dimensions, changed_at = now()
WHERE live = %(live)s AND beside = %(beside)s AND EXISTS (
    SELECT FROM vector_stores
    WHERE profile = %(beside)s AND complete AND store_id = %(store_id)s)
"""

_DROP: Final = """
UPDATE profiles_in_use SET beside = NULL, beside_dimensions = NULL, changed_at = now()
WHERE live = %(live)s AND beside = %(beside)s
"""

_MARK_DROPPED: Final = """
INSERT INTO vector_stores (profile, complete, dropped) VALUES (%(beside)s, false, true)
ON CONFLICT (profile) DO UPDATE
SET store_id = NULL, complete = false, dropped = true, changed_at = now()
"""


class PostgresStoreRecords(StoreRecords):
    """See `StoreRecords`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def read(self, profile: str) -> StoreRecord:
        async with self._database.sweep() as tx:
            row = await (await tx.execute(_READ, [profile])).fetchone()
        return StoreRecord(**row) if row else StoreRecord(store_id=None, complete=False)

    @override
    async def forget(self, profile: str) -> None:
        async with self._database.sweep() as tx:
            await tx.execute(_FORGET, [profile])

    @override
    @asynccontextmanager
    async def begin_rebuild(self, profile: str) -> AsyncIterator[Rebuilding | None]:
        async with self._database.sweep() as tx:
            row = await (await tx.execute(_TRY_LOCK, [_REBUILD_LOCK, profile])).fetchone()
            yield PostgresRebuilding(tx, profile) if row and row["locked"] else None

    @override
    async def list_dropped(self) -> Sequence[str]:
        async with self._database.sweep() as tx:
            rows = await (await tx.execute(_LIST_DROPPED)).fetchall()
        return [row["profile"] for row in rows]


class PostgresRebuilding(Rebuilding):
    """A lock that ends with its transaction, and therefore with its process.

    The server ends a transaction that is idle for a minute, so a frozen process loses the lock.
    """

    def __init__(self, tx: Transaction, profile: str) -> None:
        self._tx = tx
        self._profile = profile

    @override
    async def keep(self) -> None:
        await self._tx.execute("SELECT 1")

    @override
    async def complete(self, store_id: UUID) -> None:
        await self._tx.execute(_COMPLETE, [store_id, self._profile])

    @override
    async def remove_record(self) -> None:
        await self._tx.execute(_REMOVE, [self._profile])


class PostgresProfiles(Profiles):
    """See `Profiles`; `first` becomes the live profile of a database that has none."""

    def __init__(self, database: Database, first: Profile) -> None:
        self._database = database
        self._first = first

    @override
    async def read(self) -> InUse:
        async with self._database.sweep() as tx:
            row = await (await tx.execute(_READ_IN_USE)).fetchone()
            if row is None:
                first = {"name": self._first.name, "dimensions": self._first.dimensions}
                await tx.execute(_BEGIN, first)
                # Another process may have been first.
                row = await (await tx.execute(_READ_IN_USE)).fetchone()
        assert row is not None, "it was just inserted, and is never deleted"
        return read_in_use(row)

    @override
    async def begin_build(self, profile: Profile, expected: InUse) -> bool:
        names = {"name": profile.name, "dimensions": profile.dimensions}
        async with self._database.sweep() as tx:
            done = await tx.execute(_BUILD, {**_names(expected), **names})
        return done.rowcount == 1

    @override
    async def flip(self, expected: InUse, store_id: UUID) -> bool:
        async with self._database.sweep() as tx:
            done = await tx.execute(_FLIP, {**_names(expected), "store_id": store_id})
        return done.rowcount == 1

    @override
    async def drop(self, expected: InUse) -> bool:
        async with self._database.sweep() as tx:
            done = await tx.execute(_DROP, _names(expected))
            if done.rowcount == 1:
                await tx.execute(_MARK_DROPPED, _names(expected))
        return done.rowcount == 1


def _names(in_use: InUse) -> dict[str, Any]:
    return {"live": in_use.live.name, "beside": in_use.beside.name if in_use.beside else None}


def read_in_use(row: Mapping[str, Any]) -> InUse:
    """Reads the row from the columns `IN_USE`."""
    beside = None
    if row["beside"] is not None:
        beside = Profile(name=row["beside"], dimensions=row["beside_dimensions"])
    return InUse(live=Profile(name=row["live"], dimensions=row["live_dimensions"]), beside=beside)
