"""Delete a tenant: refuse it everywhere, then let every service remove what it has."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aquifer.auth.v1 import tenant_deletion_pb2 as pb
from aquifer.auth.v1.auth_events_pb2 import TenantDeleted, TenantDeletionRequested
from auth.domain import SYSTEM_TENANT, Actor, AuditEntry, TenantDeletion, is_tenant_id
from auth.usecases.ports import Clock, Records, Registry
from auth.usecases.tenants import (
    own_tenant_error,
    reserved_tenant_error,
    suspend,
    to_timestamp,
    unknown_tenant_error,
)
from chassis.base.errors import FailedPreconditionError, NotFoundError

log = logging.getLogger(__name__)

# An order or a report is lost with the data of the bus; to send one too many does no harm.
AGAIN: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTenant:
    """Deletes a tenant for good; idempotent.

    Raises:
        NotFoundError: TENANT_UNKNOWN.
        FailedPreconditionError: FORCE_REQUIRED; TENANT_RESERVED, the tenant of the services;
            TENANT_OWN.
    """

    registry: Registry
    clock: Clock

    async def run(self, actor: Actor, tenant_id: str, *, force: bool) -> TenantDeletion:
        if not is_tenant_id(tenant_id):
            raise unknown_tenant_error()
        if tenant_id == SYSTEM_TENANT:
            raise reserved_tenant_error("it cannot be deleted")
        if tenant_id == actor.tenant_id:
            raise own_tenant_error("delete", "it would end your own access")
        now = self.clock()
        async with self.registry.begin(tenant_id) as records:
            if await records.find_tenant() is None:
                raise unknown_tenant_error()
            if not force and await records.find_deletion() is None:
                raise FailedPreconditionError(
                    "FORCE_REQUIRED",
                    "everything the tenant has is deleted with it, for good; set `force`",
                )
            if await records.add_deletion(now):
                await _refuse_tenant(records, actor, tenant_id, now)
            found = await records.find_deletion()
        assert found is not None, "it was added or found"
        return found


async def _refuse_tenant(records: Records, actor: Actor, tenant_id: str, now: datetime) -> None:
    """Ends the access of a tenant and orders the removal of what it has."""
    await suspend(records, tenant_id, now)
    keys = await records.remove_keys()
    await records.add_receipt("auth", {"keys": keys} if keys else {})
    await records.add_audit(
        AuditEntry(time=now, actor=actor, act="tenant.deleted", subject=tenant_id)
    )
    await _order_removal(records, tenant_id, now, attempt=1)


async def _order_removal(
    records: Records, tenant_id: str, request_time: datetime, *, attempt: int
) -> None:
    event = TenantDeletionRequested(
        tenant=tenant_id, attempt=attempt, request_time=to_timestamp(request_time)
    )
    await records.emit(event, about=str(attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTenantDeletion:
    """Reads the deletion of a tenant.

    Raises:
        NotFoundError: TENANT_UNKNOWN; TENANT_DELETION_UNKNOWN, it is not deleted.
    """

    registry: Registry

    async def run(self, tenant_id: str) -> TenantDeletion:
        if not is_tenant_id(tenant_id):
            raise unknown_tenant_error()
        async with self.registry.begin(tenant_id) as records:
            if found := await records.find_deletion():
                return found
            if await records.find_tenant() is None:
                raise unknown_tenant_error()
        raise NotFoundError("TENANT_DELETION_UNKNOWN", "the tenant is not deleted")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRemoval:
    """Records that a service has removed a tenant; the last one ends the deletion.

    Reports may come in any order and any number of times: the first of each service counts.
    """

    registry: Registry
    clock: Clock

    async def run(self, tenant_id: str, service: str, removed: Mapping[str, int]) -> None:
        now = self.clock()
        async with self.registry.begin(tenant_id) as records:
            deletion = await records.add_receipt(service, removed)
            if deletion is None or deletion.pending_services:
                return
            # A call that created a key may have been open when the others were removed.
            await records.remove_keys()
            await records.finish_deletion(now)
            finished = await records.find_deletion()
            assert finished is not None, "it was found in this transaction"
            event = TenantDeleted(tenant=tenant_id, deletion=to_message(finished))
            await records.emit(event, about="")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatOrders:
    """Orders a removal again that is not finished: an order or a report may have been lost."""

    registry: Registry
    clock: Clock

    async def run(self) -> int:
        """Returns how many were ordered again."""
        now = self.clock()
        overdue = await self.registry.list_open_deletions(now - AGAIN)
        return sum([await self._repeat(one, now) for one in overdue])

    async def _repeat(self, deletion: TenantDeletion, now: datetime) -> bool:
        tenant_id = deletion.tenant_id
        async with self.registry.begin(tenant_id) as records:
            if not await records.count_attempt(deletion.attempts, now):
                return False
            attempt = deletion.attempts + 1
            await _order_removal(records, tenant_id, deletion.request_time, attempt=attempt)
        log.warning(
            "tenant_deletion.ordered_again",
            extra={"tenant": tenant_id, "attempt": attempt, "waiting": deletion.pending_services},
        )
        return True


def to_message(deletion: TenantDeletion) -> pb.TenantDeletion:
    """A deletion as events and responses contain it."""
    finish = deletion.finish_time
    return pb.TenantDeletion(
        tenant=deletion.tenant_id,
        receipts=[
            pb.TenantReceipt(
                service=service,
                removed=[
                    pb.RemovedCount(store=store, count=count)
                    for store, count in sorted(removed.items())
                ],
            )
            for service, removed in sorted(deletion.receipts.items())
        ],
        pending_services=deletion.pending_services,
        request_time=to_timestamp(deletion.request_time),
        finish_time=to_timestamp(finish) if finish else None,
    )
