"""`aquifer tenants`: lists, creates, suspends and resumes tenants."""

from collections.abc import Sequence
from datetime import UTC

from aquifer.auth.v1.auth_service_pb2 import (
    CreateTenantRequest,
    ListTenantsRequest,
    ResumeTenantRequest,
    SuspendTenantRequest,
    Tenant,
    TenantState,
)
from aquifer_cli.client import Client
from aquifer_cli.layout import Row
from aquifer_cli.screen import Screen

PAGE = 500


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


def state_name(tenant: Tenant) -> str:
    """`ACTIVE` or `SUSPENDED`."""
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
