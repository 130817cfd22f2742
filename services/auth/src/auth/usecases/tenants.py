"""Tenants made, read, suspended and resumed."""

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
    """Makes a tenant; the same id and display name again is the same tenant.

    Raises:
        AlreadyExistsError: TENANT_EXISTS, the id is another tenant's.
    """

    registry: Registry
    clock: Clock

    async def __call__(self, actor: Actor, tenant_id: str, display_name: str) -> Tenant:
        wanted = Tenant(tenant_id=tenant_id, display_name=display_name, create_time=self.clock())
        async with self.registry.within(tenant_id) as records:
            if await add_tenant(records, actor, wanted):
                return wanted
            found = await records.tenant()
        if found is None or found.display_name != display_name:
            raise AlreadyExistsError("TENANT_EXISTS", "the id names another tenant")
        return found


async def add_tenant(records: Records, actor: Actor, tenant: Tenant) -> bool:
    """Adds a tenant and says so to everyone; False when its id is taken."""
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

    async def __call__(self, tenant_id: str) -> Tenant:
        if is_tenant_id(tenant_id):
            async with self.registry.within(tenant_id) as records:
                if found := await records.tenant():
                    return found
        raise tenant_unknown()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTenants:
    registry: Registry

    async def __call__(self, limit: int, *, after: str) -> Sequence[Tenant]:
        return await self.registry.tenants(limit, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendTenant:
    """Ends every key and token of a tenant; suspended already is fine.

    Raises:
        NotFoundError: TENANT_UNKNOWN.
        FailedPreconditionError: TENANT_RESERVED, the services' own tenant; TENANT_OWN.
    """

    registry: Registry
    clock: Clock

    async def __call__(self, actor: Actor, tenant_id: str) -> Tenant:
        if not is_tenant_id(tenant_id):
            raise tenant_unknown()
        if tenant_id == SYSTEM_TENANT:
            raise tenant_reserved("without it nothing runs")
        if tenant_id == actor.tenant_id:
            # Else the last operator could lock everyone out.
            raise FailedPreconditionError(
                "TENANT_OWN", "your own key would end with its tenant, and the way back with it"
            )
        now = self.clock()
        async with self.registry.within(tenant_id) as records:
            changed = await records.suspend_tenant(now)
            found = await records.tenant()
            if found is None:
                raise tenant_unknown()
            if changed:
                sequence = await records.add_revocation(now, key_id=None)
                await records.add_audit(
                    AuditEntry(time=now, actor=actor, act="tenant.suspended", subject=tenant_id)
                )
                event = TenantSuspended(
                    tenant=tenant_id, suspend_time=stamped(now), sequence=sequence
                )
                await records.emit(event, about=str(sequence))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeTenant:
    """Takes a tenant's suspension back; not suspended is fine.

    Raises:
        NotFoundError: TENANT_UNKNOWN.
    """

    registry: Registry
    clock: Clock

    async def __call__(self, actor: Actor, tenant_id: str) -> Tenant:
        if not is_tenant_id(tenant_id):
            raise tenant_unknown()
        now = self.clock()
        async with self.registry.within(tenant_id) as records:
            changed = await records.resume_tenant()
            found = await records.tenant()
            if found is None:
                raise tenant_unknown()
            if changed:
                sequence = await records.add_resumption(now)
                await records.add_audit(
                    AuditEntry(time=now, actor=actor, act="tenant.resumed", subject=tenant_id)
                )
                event = TenantResumed(tenant=tenant_id, resume_time=stamped(now), sequence=sequence)
                await records.emit(event, about=str(sequence))
        return found


def reached(actor: Actor, named: str) -> str:
    """The tenant to act in: the actor's own, or the one it names if it administers tenants.

    Raises:
        NotFoundError: TENANT_UNKNOWN; to anybody else every other tenant looks like none.
    """
    if named in {"", actor.tenant_id}:
        return actor.tenant_id
    if TENANTS_ADMIN not in actor.scopes or not is_tenant_id(named):
        raise tenant_unknown()
    return named


def tenant_reserved(because: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        "TENANT_RESERVED", f"this tenant is the services' own; {because}"
    )


def tenant_unknown() -> NotFoundError:
    return NotFoundError("TENANT_UNKNOWN", "no such tenant")


def stamped(time: datetime) -> Timestamp:
    """A time as events and answers carry it."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
