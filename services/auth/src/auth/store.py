"""Tenants, keys, revocations and audit in PostgreSQL, with row-level security."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from google.protobuf.message import Message
from psycopg import sql
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from typing_extensions import override

from auth.domain import (
    ApiKey,
    AuditEntry,
    Credential,
    KeyCursor,
    Revocation,
    Tenant,
    TenantDeletion,
)
from auth.keys import Proof
from auth.usecases.ports import Bootstrap, Records, Registry
from chassis.base.postgres import Transaction
from chassis.events.outbox import Outbox
from chassis.events.work import Transactions, TransactionWork

BOOTSTRAP_LOCK = 4_712

_TENANT = sql.SQL(
    "SELECT tenant_id, display_name, created_at, suspended_at, requested_at, finished_at"
    " FROM tenants LEFT JOIN tenant_deletions USING (tenant_id)"
)
_DELETION = sql.SQL("tenant_id, receipts, attempts, requested_at, finished_at")
_KEY = sql.SQL(
    "k.key_id, k.tenant_id, k.principal, k.display_name, k.scopes, k.created_at, k.expires_at,"
    " k.revoked_at, k.labels"
)


class PostgresRegistry(Registry):
    """`Registry` on the schema `auth`; reads across tenants are read-only sweeps."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._database = transactions.database

    @override
    @asynccontextmanager
    async def begin(self, tenant_id: str) -> AsyncIterator[Records]:
        async with self._transactions.begin(tenant_id) as work:
            yield PostgresRecords(work)

    @override
    @asynccontextmanager
    async def begin_bootstrap(self) -> AsyncIterator[Bootstrap]:
        async with self._database.sweep() as tx:
            await tx.execute("SELECT pg_advisory_xact_lock(%s)", [BOOTSTRAP_LOCK])
            bootstrap = PostgresBootstrap(tx, self._transactions.outbox)
            yield bootstrap
            await bootstrap.store_events()

    @override
    async def find_credential(self, key_id: str) -> Credential | None:
        async with self._database.sweep() as tx:
            cursor = await tx.execute(
                sql.SQL(
                    "SELECT {}, k.proof, k.pepper_version, t.suspended_at IS NOT NULL AS suspended"
                    " FROM keys k JOIN tenants t USING (tenant_id) WHERE k.key_id = %s"
                ).format(_KEY),
                [key_id],
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        return Credential(
            key=_key(row),
            proof=Proof(row["pepper_version"], bytes(row["proof"])),
            tenant_suspended=row["suspended"],
        )

    @override
    async def list_tenants(self, limit: int, after: str) -> Sequence[Tenant]:
        async with self._database.sweep() as tx:
            cursor = await tx.execute(
                sql.SQL("{} WHERE tenant_id > %s ORDER BY tenant_id LIMIT %s").format(_TENANT),
                [after, limit],
            )
            return [_tenant(row) for row in await cursor.fetchall()]

    @override
    async def list_open_deletions(self, sent_before: datetime) -> Sequence[TenantDeletion]:
        async with self._database.sweep() as tx:
            cursor = await tx.execute(
                sql.SQL(
                    "SELECT {} FROM tenant_deletions"
                    " WHERE finished_at IS NULL AND sent_at < %s ORDER BY sent_at LIMIT 100"
                ).format(_DELETION),
                [sent_before],
            )
            return [_deletion(row) for row in await cursor.fetchall()]

    @override
    async def list_revocations(
        self, limit: int, *, after: int, since: datetime
    ) -> tuple[Sequence[Revocation], int]:
        async with self._database.sweep() as tx:
            # One statement, one snapshot: the last sequence must not be newer than the list.
            cursor = await tx.execute(
                "SELECT c.latest, r.*"
                " FROM (SELECT coalesce(max(latest), 0) AS latest FROM revocation_counter) c"
                " LEFT JOIN LATERAL ("
                "   SELECT sequence, tenant_id, key_id, revoked_at, resumed FROM revocations"
                "   WHERE sequence > %s AND revoked_at > %s ORDER BY sequence LIMIT %s"
                " ) r ON true ORDER BY r.sequence",
                [after, since, limit],
            )
            rows = await cursor.fetchall()
        found = [
            Revocation(
                sequence=row["sequence"],
                tenant_id=row["tenant_id"],
                key_id=row["key_id"],
                revoke_time=row["revoked_at"],
                resumed=row["resumed"],
            )
            for row in rows
            if row["sequence"] is not None
        ]
        return found, rows[0]["latest"]


class PostgresBootstrap(Bootstrap):
    """`Bootstrap`: starts as a sweep and switches from tenant to tenant."""

    def __init__(self, tx: Transaction, outbox: Outbox) -> None:
        self._tx = tx
        self._outbox = outbox
        self._work: TransactionWork | None = None

    @override
    async def has_keys(self) -> bool:
        cursor = await self._tx.execute("SELECT EXISTS (SELECT FROM keys) AS found")
        row = await cursor.fetchone()
        return row is not None and bool(row["found"])

    @override
    async def switch_to(self, tenant_id: str) -> Records:
        await self.store_events()
        await self._tx.execute("SET LOCAL ROLE NONE")
        await self._tx.execute("SELECT set_config('app.tenant', %s, true)", [tenant_id])
        self._work = TransactionWork(tenant_id, (), tx=self._tx)
        return PostgresRecords(self._work)

    async def store_events(self) -> None:
        """Stores the events of the current tenant; the relay of a running service finds them."""
        if self._work is not None:
            await self._outbox.store(self._tx, self._work.tenant, self._work.outgoing)
            self._work = None


class PostgresRecords(Records):
    """`Records` of a transaction that is bound to the tenant."""

    def __init__(self, work: TransactionWork) -> None:
        self._work = work
        self._tx = work.tx
        self._tenant_id = work.tenant

    @override
    async def find_tenant(self) -> Tenant | None:
        cursor = await self._tx.execute(
            sql.SQL("{} WHERE tenant_id = %s").format(_TENANT),
            [self._tenant_id],
        )
        row = await cursor.fetchone()
        return _tenant(row) if row else None

    @override
    async def add_tenant(self, tenant: Tenant) -> bool:
        cursor = await self._tx.execute(
            "INSERT INTO tenants (tenant_id, display_name, created_at) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [tenant.tenant_id, tenant.display_name, tenant.create_time],
        )
        return cursor.rowcount == 1

    @override
    async def suspend_tenant(self, time: datetime) -> bool:
        cursor = await self._tx.execute(
            "UPDATE tenants SET suspended_at = %s WHERE tenant_id = %s AND suspended_at IS NULL",
            [time, self._tenant_id],
        )
        return cursor.rowcount == 1

    @override
    async def resume_tenant(self) -> bool:
        cursor = await self._tx.execute(
            "UPDATE tenants SET suspended_at = NULL"
            " WHERE tenant_id = %s AND suspended_at IS NOT NULL",
            [self._tenant_id],
        )
        return cursor.rowcount == 1

    @override
    async def add_deletion(self, time: datetime) -> bool:
        cursor = await self._tx.execute(
            "INSERT INTO tenant_deletions (tenant_id, sent_at, requested_at) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [self._tenant_id, time, time],
        )
        return cursor.rowcount == 1

    @override
    async def find_deletion(self) -> TenantDeletion | None:
        cursor = await self._tx.execute(
            sql.SQL("SELECT {} FROM tenant_deletions WHERE tenant_id = %s").format(_DELETION),
            [self._tenant_id],
        )
        row = await cursor.fetchone()
        return _deletion(row) if row else None

    @override
    async def add_receipt(self, service: str, removed: Mapping[str, int]) -> TenantDeletion | None:
        cursor = await self._tx.execute(
            sql.SQL(
                "UPDATE tenant_deletions"
                " SET receipts = receipts || jsonb_build_object(%s::text, %s)"
                " WHERE tenant_id = %s AND NOT receipts ? %s RETURNING {}"
            ).format(_DELETION),
            [service, Jsonb(dict(removed)), self._tenant_id, service],
        )
        row = await cursor.fetchone()
        return _deletion(row) if row else None

    @override
    async def finish_deletion(self, time: datetime) -> None:
        await self._tx.execute(
            "UPDATE tenant_deletions SET finished_at = %s WHERE tenant_id = %s",
            [time, self._tenant_id],
        )
        await self._tx.execute(
            "UPDATE tenants SET display_name = tenant_id WHERE tenant_id = %s", [self._tenant_id]
        )

    @override
    async def count_attempt(self, attempts: int, time: datetime) -> bool:
        cursor = await self._tx.execute(
            "UPDATE tenant_deletions SET attempts = attempts + 1, sent_at = %s"
            " WHERE tenant_id = %s AND attempts = %s AND finished_at IS NULL",
            [time, self._tenant_id, attempts],
        )
        return cursor.rowcount == 1

    @override
    async def remove_keys(self) -> int:
        await self._tx.execute(
            "DELETE FROM revocations WHERE tenant_id = %s AND key_id IS NOT NULL",
            [self._tenant_id],
        )
        cursor = await self._tx.execute("DELETE FROM keys WHERE tenant_id = %s", [self._tenant_id])
        return cursor.rowcount

    @override
    async def find_key(self, key_id: str) -> ApiKey | None:
        cursor = await self._tx.execute(
            sql.SQL("SELECT {} FROM keys k WHERE tenant_id = %s AND key_id = %s").format(_KEY),
            [self._tenant_id, key_id],
        )
        row = await cursor.fetchone()
        return _key(row) if row else None

    @override
    async def list_keys(self, limit: int, after: KeyCursor | None) -> Sequence[ApiKey]:
        older = sql.SQL("AND (created_at, key_id) < (%s, %s)" if after else "")
        cursor = await self._tx.execute(
            sql.SQL(
                "SELECT {} FROM keys k WHERE tenant_id = %s {}"
                " ORDER BY created_at DESC, key_id DESC LIMIT %s"
            ).format(_KEY, older),
            [self._tenant_id, *((after.create_time, after.key_id) if after else ()), limit],
        )
        return [_key(row) for row in await cursor.fetchall()]

    @override
    async def add_key(self, key: ApiKey, proof: Proof, request_id: str) -> str | None:
        cursor = await self._tx.execute(
            "INSERT INTO keys (key_id, tenant_id, principal, display_name, scopes, labels, proof,"
            " pepper_version, request_id, created_at, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (tenant_id, request_id) DO NOTHING",
            [
                key.key_id,
                key.tenant_id,
                key.principal,
                key.display_name,
                list(key.scopes),
                None if key.labels is None else list(key.labels),
                proof.digest,
                proof.pepper_version,
                request_id or None,
                key.create_time,
                key.expire_time,
            ],
        )
        return None if cursor.rowcount == 1 else await self._find_key_of_request(request_id)

    async def _find_key_of_request(self, request_id: str) -> str:
        cursor = await self._tx.execute(
            "SELECT key_id FROM keys WHERE tenant_id = %s AND request_id = %s",
            [self._tenant_id, request_id],
        )
        row = await cursor.fetchone()
        assert row is not None
        return str(row["key_id"])

    @override
    async def revoke_key(self, key_id: str, time: datetime) -> bool:
        cursor = await self._tx.execute(
            "UPDATE keys SET revoked_at = %s"
            " WHERE tenant_id = %s AND key_id = %s AND revoked_at IS NULL",
            [time, self._tenant_id, key_id],
        )
        return cursor.rowcount == 1

    @override
    async def add_revocation(self, time: datetime, *, key_id: str | None) -> int:
        return await self._next_sequence(time, key_id, resumed=False)

    @override
    async def add_resumption(self, time: datetime) -> int:
        return await self._next_sequence(time, None, resumed=True)

    async def _next_sequence(self, time: datetime, key_id: str | None, *, resumed: bool) -> int:
        cursor = await self._tx.execute(
            "WITH next AS ("
            "   INSERT INTO revocation_counter AS c (latest) VALUES (1)"
            "   ON CONFLICT (one) DO UPDATE SET latest = c.latest + 1 RETURNING latest)"
            " INSERT INTO revocations (sequence, tenant_id, key_id, revoked_at, resumed)"
            " SELECT latest, %s, %s, %s, %s FROM next RETURNING sequence",
            [self._tenant_id, key_id, time, resumed],
        )
        row = await cursor.fetchone()
        assert row is not None
        return int(row["sequence"])

    @override
    async def add_audit(self, entry: AuditEntry) -> None:
        await self._tx.execute(
            "INSERT INTO audit (tenant_id, acted_at, actor_tenant, actor_principal, actor_key_id,"
            " act, subject) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                self._tenant_id,
                entry.time,
                entry.actor.tenant_id,
                entry.actor.principal,
                entry.actor.key_id,
                entry.act,
                entry.subject,
            ],
        )

    @override
    async def emit(self, event: Message, *, about: str) -> None:
        self._work.emit(event, key=(event.DESCRIPTOR.full_name, self._tenant_id, about))


def _tenant(row: DictRow) -> Tenant:
    return Tenant(
        tenant_id=row["tenant_id"],
        display_name=row["display_name"],
        create_time=row["created_at"],
        suspend_time=row["suspended_at"],
        delete_time=row["requested_at"],
        gone_time=row["finished_at"],
    )


def _deletion(row: DictRow) -> TenantDeletion:
    return TenantDeletion(
        tenant_id=row["tenant_id"],
        request_time=row["requested_at"],
        finish_time=row["finished_at"],
        receipts=row["receipts"],
        attempts=row["attempts"],
    )


def _key(row: DictRow) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        tenant_id=row["tenant_id"],
        principal=row["principal"],
        display_name=row["display_name"],
        scopes=tuple(row["scopes"]),
        create_time=row["created_at"],
        expire_time=row["expires_at"],
        revoke_time=row["revoked_at"],
        labels=None if row["labels"] is None else tuple(row["labels"]),
    )
