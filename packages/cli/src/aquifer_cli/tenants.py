"""`aquifer tenants`: lists, creates, suspends, resumes and deletes tenants."""

import asyncio
from collections.abc import Sequence
from datetime import UTC

from aquifer.auth.v1.auth_service_pb2 import (
    CreateTenantRequest,
    DeleteTenantRequest,
    GetTenantDeletionRequest,
    ListTenantsRequest,
    ResumeTenantRequest,
    SuspendTenantRequest,
    Tenant,
    TenantState,
)
from aquifer.auth.v1.tenant_deletion_pb2 import TenantDeletion
from aquifer_cli.client import Client
from aquifer_cli.layout import Row
from aquifer_cli.screen import Screen

PAGE = 500
DELETION_POLL_S = 0.5


async def list_tenants(client: Client) -> list[Tenant]:
    """All tenants, ordered by id."""
    found: list[Tenant] = []
    token = ""
    while True:
        request = ListTenantsRequest(page_size=PAGE, page_token=token)
        page = await client.call(client.auth.ListTenants, request)
        found += page.tenants
        token = page.next_page_token
        if not token:
            return found


async def create_tenant(client: Client, tenant: str, name: str) -> Tenant:
    """Creates a tenant; again with the same name it changes nothing."""
    request = CreateTenantRequest(tenant=tenant, display_name=name)
    created: Tenant = await client.call(client.auth.CreateTenant, request)
    return created


async def suspend_tenant(client: Client, tenant: str) -> Tenant:
    """Suspends a tenant: its keys and tokens are refused within 5 s."""
    request = SuspendTenantRequest(tenant=tenant)
    suspended: Tenant = await client.call(client.auth.SuspendTenant, request)
    return suspended


async def resume_tenant(client: Client, tenant: str) -> Tenant:
    """Ends the suspension of a tenant."""
    request = ResumeTenantRequest(tenant=tenant)
    resumed: Tenant = await client.call(client.auth.ResumeTenant, request)
    return resumed


async def delete_tenant(client: Client, screen: Screen, tenant: str) -> TenantDeletion:
    """Deletes a tenant, and waits until no service has anything of it."""
    order = DeleteTenantRequest(tenant=tenant, force=True)
    deletion: TenantDeletion = await client.call(client.auth.DeleteTenant, order)
    services = len(deletion.receipts) + len(deletion.pending_services)
    with screen.show_progress(services=services) as bars:
        while True:
            bars["services"].set_count(len(deletion.receipts), services)
            if deletion.HasField("finish_time"):
                return deletion
            await asyncio.sleep(DELETION_POLL_S)
            read = GetTenantDeletionRequest(tenant=tenant)
            deletion = await client.call(client.auth.GetTenantDeletion, read)


def deletion_as_json(deletion: TenantDeletion) -> dict[str, object]:
    """A finished deletion for machines."""
    return {
        "tenant": deletion.tenant,
        "receipt": {
            receipt.service: {one.store: one.count for one in receipt.removed}
            for receipt in deletion.receipts
        },
        "request_time": deletion.request_time.ToDatetime(tzinfo=UTC).isoformat(),
        "finish_time": deletion.finish_time.ToDatetime(tzinfo=UTC).isoformat(),
    }


def show_deletion(screen: Screen, deletion: TenantDeletion) -> None:
    """What was removed, for people."""
    screen.say(f"{deletion.tenant}: deleted; its id is never used again")
    rows = [
        Row(cells=(receipt.service, one.store.replace("_", " "), f"{one.count:,}"))
        for receipt in deletion.receipts
        for one in receipt.removed
    ]
    screen.table(["service", "removed", "number"], rows)


def state_name(tenant: Tenant) -> str:
    """`ACTIVE`, `SUSPENDED`, `DELETING` or `DELETED`."""
    return TenantState.Name(tenant.state).removeprefix("TENANT_STATE_")


def as_json(tenant: Tenant) -> dict[str, object]:
    """A tenant for machines."""
    return {
        "tenant": tenant.tenant,
        "name": tenant.display_name,
        "state": state_name(tenant),
        "create_time": tenant.create_time.ToDatetime(tzinfo=UTC).isoformat(),
    }


def show_tenants(screen: Screen, tenants: Sequence[Tenant]) -> None:
    """A table for people."""
    rows = [
        Row(
            cells=(
                state_name(tenant),
                tenant.tenant,
                f"{tenant.create_time.ToDatetime(tzinfo=UTC):%Y-%m-%d}",
                tenant.display_name,
            )
        )
        for tenant in tenants
    ]
    screen.table(["state", "tenant", "created", "name"], rows)
