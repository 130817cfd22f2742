"""Removes deleted tenants from a service: from its tables, its other stores and its dead letters.

The first step is a tombstone, see the migration `add_deleted_tenants`: from then on no unit of work
of the tenant begins. Every further step can be repeated, by any process of the service.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID, uuid4

from google.protobuf.message import Message
from psycopg import sql

from chassis.base.errors import ServiceError
from chassis.base.postgres import Transaction
from chassis.events import topology
from chassis.events.work import GuardedTransactions, TransactionWork

log = logging.getLogger(__name__)

BATCH: Final = 2_000
LOOK_S: Final = 1.0
CLAIM_S: Final = 60.0
# What was on its way to another store when the tenant was deleted arrives soon after it.
AGAIN_S: Final = 60.0
AGAIN_FOR_S: Final = 24 * 3_600.0
DEAD_LETTERS: Final = "dead_letters"

RemoveBatch = Callable[[TransactionWork, int], Awaitable[int]]
"""Removes at most so many rows of the tenant; returns their number, 0 if none is left."""
RemoveAll = Callable[[str], AsyncIterator[int]]
"""Removes all that another store has of a tenant; yields what each part of the work removed."""
MakeReport = Callable[[str, Mapping[str, int]], Message]
"""Makes the event that reports what was removed of a tenant."""


class DiscardTenant(Protocol):
    """Dead letters of this service."""

    async def discard_tenant(self, tenant: str) -> int:
        """Remove the dead letters of a tenant; returns their number.

        Raises:
            UnavailableError: BUS_UNAVAILABLE.
        """


# A new table can not be forgotten. Tables that refer to others come first, so that the database
# removes no row that is not counted.
_TABLES: Final = """
SELECT c.relname AS name FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
    AND c.relname NOT IN ('deleted_tenants', 'outbox')
ORDER BY EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype = 'f') DESC, c.relname
"""

_REMOVE_ROWS: Final = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE tenant_id = %(tenant)s LIMIT %(limit)s))
"""

# Facts are still published: they have results that a producer waits for, and no text.
_REMOVE_WORK: Final = """
DELETE FROM outbox WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM outbox
    WHERE tenant_id = %(tenant)s AND event = ANY(%(work)s) LIMIT %(limit)s))
"""

_MARK: Final = """
INSERT INTO deleted_tenants AS t (tenant_id) VALUES (%(tenant)s)
ON CONFLICT (tenant_id) DO UPDATE SET requested_at = t.requested_at
RETURNING removed, finished_at IS NOT NULL AS finished
"""

_COUNT: Final = """
UPDATE deleted_tenants
SET removed = removed
    || jsonb_build_object(%(name)s::text, coalesce((removed->>%(name)s)::bigint, 0) + %(count)s)
WHERE tenant_id = %(tenant)s
"""

# What two processes remove from another store at a time would count twice.
_CLAIM: Final = """
UPDATE deleted_tenants
SET claimed_by = %(me)s, claimed_until = clock_timestamp() + make_interval(secs => %(claim_s)s)
WHERE tenant_id = %(tenant)s AND finished_at IS NULL
    AND (claimed_by = %(me)s OR claimed_until < clock_timestamp())
"""

_FINISH: Final = """
UPDATE deleted_tenants SET finished_at = clock_timestamp()
WHERE tenant_id = %(tenant)s RETURNING removed
"""

_OPEN: Final = """
SELECT tenant_id FROM deleted_tenants WHERE finished_at IS NULL ORDER BY requested_at LIMIT 100
"""

_RECENT: Final = """
SELECT tenant_id FROM deleted_tenants
WHERE finished_at > clock_timestamp() - make_interval(secs => %(age_s)s) ORDER BY tenant_id
"""


class _ClaimedElsewhereError(Exception):
    """Another process removes the tenant."""


@dataclass(slots=True, kw_only=True)
class TenantRemoval:
    """Removes tenants from one service.

    `first` are the tables whose rows the service removes itself, such as to answer what waits;
    `stores` are those outside of the database. Both are keyed by the name in the report.
    """

    transactions: GuardedTransactions
    dead_letters: DiscardTenant
    make_report: MakeReport
    first: Mapping[str, RemoveBatch] = field(default_factory=dict)
    stores: Mapping[str, RemoveAll] = field(default_factory=dict)
    _me: UUID = field(default_factory=uuid4)
    _again_at: float = 0.0

    async def mark(self, tenant: str, attempt: int) -> None:
        """Writes the tombstone of a tenant; if it is removed already, reports that again.

        Waits until the tenant's open units of work have ended.
        """
        async with self.transactions.begin_removal(tenant) as work:
            cursor = await work.tx.execute(_MARK, {"tenant": tenant})
            row = await cursor.fetchone()
            assert row is not None, "the statement returns the row"
            if row["finished"]:
                self._report(work, row["removed"], attempt)
        log.warning("tenant.deleted", extra={"tenant": tenant, "attempt": attempt})

    async def run(self) -> None:
        """Removes tenants with a tombstone, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._try(self.remove_open)
            if time.monotonic() >= self._again_at:
                self._again_at = time.monotonic() + AGAIN_S
                await self._try(self.remove_late)

    async def _try(self, work: Callable[[], Awaitable[int]]) -> None:
        try:
            await work()
        except ServiceError as error:
            log.warning("tenant_removal.waiting", extra={"reason": error.reason})

    async def remove_open(self) -> int:
        """Removes what is left of tenants with a tombstone; returns how many are done.

        One that can not go on, or is being removed by another process, delays no other.
        """
        done = 0
        for tenant in await self._list(_OPEN):
            try:
                await self._remove(tenant)
                done += 1
            except _ClaimedElsewhereError:
                continue
            except ServiceError as error:
                about = {"tenant": tenant, "reason": error.reason}
                log.warning("tenant_removal.waiting", extra=about)
        return done

    async def remove_late(self) -> int:
        """Removes what reached another store after its tenant was removed; returns its number."""
        late = 0
        for tenant in await self._list(_RECENT, age_s=AGAIN_FOR_S):
            for name, remove in self.stores.items():
                async for count in remove(tenant):
                    late += count
                    log.warning(
                        "tenant_removal.late",
                        extra={"tenant": tenant, "store": name, "count": count},
                    )
        return late

    async def _remove(self, tenant: str) -> None:
        own = {"outbox": _remove_outbox, **self.first}
        tables = await self._list_tables(tenant)
        for name, step in (own | {one: tables[one] for one in tables if one not in own}).items():
            while await self._remove_batch(tenant, name, step):
                pass
        for name, remove in self.stores.items():
            async for count in remove(tenant):
                await self._count(tenant, name, count)
        if letters := await self.dead_letters.discard_tenant(tenant):
            await self._count(tenant, DEAD_LETTERS, letters)
        async with self._claim(tenant) as work:
            row = await (await work.tx.execute(_FINISH, {"tenant": tenant})).fetchone()
            assert row is not None, "this process has claimed it"
            self._report(work, row["removed"], attempt=0)
        log.warning("tenant.removed", extra={"tenant": tenant, "removed": row["removed"]})

    @asynccontextmanager
    async def _claim(self, tenant: str) -> AsyncIterator[TransactionWork]:
        """A unit of work of the removal, which this process goes on with for `CLAIM_S`.

        Raises:
            _ClaimedElsewhereError: another process removes the tenant, or has finished.
        """
        async with self.transactions.begin_removal(tenant) as work:
            names = {"tenant": tenant, "me": self._me, "claim_s": CLAIM_S}
            if not (await work.tx.execute(_CLAIM, names)).rowcount:
                raise _ClaimedElsewhereError
            yield work

    async def _remove_batch(self, tenant: str, name: str, step: RemoveBatch) -> bool:
        async with self._claim(tenant) as work:
            count = await step(work, BATCH)
            await _add_count(work.tx, tenant, name, count)
        return count > 0

    async def _count(self, tenant: str, name: str, count: int) -> None:
        async with self._claim(tenant) as work:
            await _add_count(work.tx, tenant, name, count)

    def _report(self, work: TransactionWork, removed: Mapping[str, int], attempt: int) -> None:
        event = self.make_report(work.tenant, removed)
        work.emit(event, key=(event.DESCRIPTOR.full_name, work.tenant, attempt))

    async def _list_tables(self, tenant: str) -> Mapping[str, RemoveBatch]:
        async with self.transactions.database.transaction(tenant) as tx:
            return {
                row["name"]: _make_step(row["name"])
                for row in await (await tx.execute(_TABLES)).fetchall()
            }

    async def _list(self, statement: str, **values: object) -> Sequence[str]:
        async with self.transactions.database.sweep() as tx:
            cursor = await tx.execute(statement.encode(), values)
            return [row["tenant_id"] for row in await cursor.fetchall()]


def _make_step(table: str) -> RemoveBatch:
    statement = sql.SQL(_REMOVE_ROWS).format(table=sql.Identifier(table))

    async def remove_rows(work: TransactionWork, limit: int) -> int:
        cursor = await work.tx.execute(statement, {"tenant": work.tenant, "limit": limit})
        return cursor.rowcount

    return remove_rows


async def _remove_outbox(work: TransactionWork, limit: int) -> int:
    kinds = [event.full_name for event in topology.events() if topology.is_work(event)]
    names = {"tenant": work.tenant, "limit": limit, "work": kinds}
    return (await work.tx.execute(_REMOVE_WORK, names)).rowcount


async def _add_count(tx: Transaction, tenant: str, name: str, count: int) -> None:
    if count:
        await tx.execute(_COUNT, {"tenant": tenant, "name": name, "count": count})
