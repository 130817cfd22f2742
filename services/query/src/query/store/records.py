"""Which vector store holds every point, in a table that belongs to no tenant."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from typing_extensions import override

from chassis.base.postgres import Database, Transaction
from query.usecases.ports import Rebuilding, StoreRecord, StoreRecords

# First half of an advisory lock's key; the second is the profile's.
_REBUILD_LOCK: Final = 5_120

_READ: Final = "SELECT store_id, complete FROM vector_stores WHERE profile = %s"

_FORGET: Final = """
INSERT INTO vector_stores (profile, complete) VALUES (%s, false)
ON CONFLICT (profile) DO UPDATE SET store_id = NULL, complete = false, changed_at = now()
"""

_TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock(%s, hashtext(%s)) AS locked"

_COMPLETE: Final = """
UPDATE vector_stores SET store_id = %s, complete = true, changed_at = now() WHERE profile = %s
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
