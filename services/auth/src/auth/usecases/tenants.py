"""Create, read, suspend and resume tenants."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from aquifer.auth.v1.auth_events_pb2 import TenantCreated, TenantResumed, TenantSuspended
from auth.domain import SYSTEM_TENANT, TENANTS_ADMIN, Actor, AuditEntry, Tenant, is_tenant_id
from auth.usecases.ports import Clock, Records, Registry
from chassis.base.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTenant:
    """Creates a tenant; the same id and display name return the existing tenant.

    Raises:
        InvalidInputError: TENANT_INVALID, DISPLAY_NAME_INVALID.
        AlreadyExistsError: TENANT_EXISTS, a tenant with this id has another display name.
        FailedPreconditionError: TENANT_DELETED, an id of a deleted tenant is never used again.
    """

    registry: Registry
    clock: Clock

    async def run(self, actor: Actor, tenant_id: str, display_name: str) -> Tenant:
        wanted = Tenant(tenant_id=tenant_id, display_name=display_name, create_time=self.clock())
        async with self.registry.begin(tenant_id) as records:
            if await add_tenant(records, actor, wanted):
                return wanted
            found = await records.find_tenant()
        if found is not None and found.delete_time is not None:
            raise deleted_tenant_error("choose another id, it is never used again")
        if found is None or found.display_name != display_name:
            raise AlreadyExistsError(
                "TENANT_EXISTS", "another tenant has this id; choose another id"
            )
        return found


async def add_tenant(records: Records, actor: Actor, tenant: Tenant) -> bool:
    """Adds a tenant and publishes that; False if its id is in use."""
    if not await records.add_tenant(tenant):
        return False
    await records.add_audit(
        AuditEntry(
            time=tenant.create_time, actor=actor, act="tenant.created", subject=tenant.tenant_id
        )
    )
    await records.emit(
        TenantCreated(tenant=tenant.tenant_id, display_name=tenant.display_name),
        about=tenant.tenant_id,
    )
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTenant:
    registry: Registry

    async def run(self, tenant_id: str) -> Tenant:
        if is_tenant_id(tenant_id):
            async with self.registry.begin(tenant_id) as records:
                if found := await records.find_tenant():
                    return found
        raise unknown_tenant_error()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTenants:
    registry: Registry

    async def run(self, limit: int, *, after: str) -> Sequence[Tenant]:
        return await self.registry.list_tenants(limit, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendTenant:
    """Suspends a tenant: its keys and tokens are refused; idempotent.

    Raises:
        NotFoundError: TENANT_UNKNOWN.
        FailedPreconditionError: TENANT_RESERVED, the tenant of the services; TENANT_OWN.
    """

    registry: Registry
    clock: Clock

    async def run(self, actor: Actor, tenant_id: str) -> Tenant:
        if not is_tenant_id(tenant_id):
            raise unknown_tenant_error()
        if tenant_id == SYSTEM_TENANT:
            raise reserved_tenant_error("it cannot be suspended")
        if tenant_id == actor.tenant_id:
            # Otherwise the last operator could lock everyone out.
            raise own_tenant_error("suspend", "you could not resume it")
        now = self.clock()
        async with self.registry.begin(tenant_id) as records:
            changed = await suspend(records, tenant_id, now)
            found = await records.find_tenant()
            if found is None:
                raise unknown_tenant_error()
            if changed:
                await records.add_audit(
                    AuditEntry(time=now, actor=actor, act="tenant.suspended", subject=tenant_id)
                )
        return found


async def suspend(records: Records, tenant_id: str, now: datetime) -> bool:
    """Suspends a tenant and publishes that; False if it is suspended already, or unknown."""
    if not await records.suspend_tenant(now):
        return False
    sequence = await records.add_revocation(now, key_id=None)
    event = TenantSuspended(tenant=tenant_id, suspend_time=to_timestamp(now), sequence=sequence)
    await records.emit(event, about=str(sequence))
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeTenant:
    """Resumes a suspended tenant; idempotent.

    Raises:
        NotFoundError: TENANT_UNKNOWN.
        FailedPreconditionError: TENANT_DELETED.
    """

    registry: Registry
    clock: Clock

    async def run(self, actor: Actor, tenant_id: str) -> Tenant:
        if not is_tenant_id(tenant_id):
            raise unknown_tenant_error()
        now = self.clock()
        async with self.registry.begin(tenant_id) as records:
            changed = await records.resume_tenant()
            found = await records.find_tenant()
            if found is None:
                raise unknown_tenant_error()
            if found.delete_time is not None:
                raise deleted_tenant_error("it cannot be resumed")
            if changed:
                sequence = await records.add_resumption(now)
                await records.add_audit(
                    AuditEntry(time=now, actor=actor, act="tenant.resumed", subject=tenant_id)
                )
                event = TenantResumed(
                    tenant=tenant_id, resume_time=to_timestamp(now), sequence=sequence
                )
                await records.emit(event, about=str(sequence))
        return found


def choose_tenant(actor: Actor, named: str) -> str:
    """The tenant to act on: the actor's own, or the named one if the actor may administer it.

    Raises:
        NotFoundError: TENANT_UNKNOWN, also for tenants that the actor may not administer.
    """
    if named in {"", actor.tenant_id}:
        return actor.tenant_id
    if TENANTS_ADMIN not in actor.scopes or not is_tenant_id(named):
        raise unknown_tenant_error()
    return named


def reserved_tenant_error(advice: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        "TENANT_RESERVED", f"this tenant is reserved for the services; {advice}"
    )


def own_tenant_error(act: str, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        "TENANT_OWN",
        f"you cannot {act} the tenant your own key belongs to, because {why};"
        " use a key of another tenant",
    )


def deleted_tenant_error(advice: str) -> FailedPreconditionError:
    return FailedPreconditionError("TENANT_DELETED", f"the tenant is deleted; {advice}")


def unknown_tenant_error() -> NotFoundError:
    return NotFoundError("TENANT_UNKNOWN", "unknown tenant; check the id")


def to_timestamp(time: datetime) -> Timestamp:
    """A time as events and responses contain it."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
