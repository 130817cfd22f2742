"""A deleted tenant is refused at once; its deletion ends when every service has reported."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_events_pb2 import (
    TenantDeleted,
    TenantDeletionRequested,
    TenantSuspended,
)
from aquifer.auth.v1.tenant_deletion_pb2 import RemovedCount, TenantDeletion, TenantReceipt
from auth.usecases.delete_tenant import AGAIN, RecordRemoval, RepeatOrders

TENANT = "acme"


async def make_key(client: Any, tenant: str = TENANT, **changes: Any) -> Any:
    request = pb.CreateApiKeyRequest(
        tenant=tenant, display_name="first", scopes=["search"], **changes
    )
    return await client.stub.CreateApiKey(request, metadata=await client.operator())


async def delete(client: Any, tenant: str = TENANT, *, force: bool = True) -> TenantDeletion:
    request = pb.DeleteTenantRequest(tenant=tenant, force=force)
    deleted: TenantDeletion = await client.stub.DeleteTenant(
        request, metadata=await client.operator()
    )
    return deleted


async def read(client: Any, tenant: str = TENANT) -> TenantDeletion:
    request = pb.GetTenantDeletionRequest(tenant=tenant)
    found: TenantDeletion = await client.stub.GetTenantDeletion(
        request, metadata=await client.operator()
    )
    return found


async def state(client: Any, tenant: str = TENANT) -> str:
    found = await client.stub.GetTenant(
        pb.GetTenantRequest(tenant=tenant), metadata=await client.operator()
    )
    return pb.TenantState.Name(found.state).removeprefix("TENANT_STATE_")


@pytest.fixture
def record(memory: Any, clock: Any) -> RecordRemoval:
    return RecordRemoval(registry=memory, clock=clock)


def sent(memory: Any, kind: type[Any]) -> list[Any]:
    return [one for one in memory.state.events if isinstance(one, kind)]


async def test_a_deleted_tenant_is_refused_at_once(client: Any, memory: Any) -> None:
    await client.make_tenant(TENANT)
    made = await make_key(client)
    deletion = await delete(client)
    assert list(deletion.pending_services) == ["ingest", "query"]
    assert not deletion.HasField("finish_time")
    assert await state(client) == "DELETING"
    refusal = await client.refusal(client.login(made.api_key))
    assert refusal.reason == "KEY_INVALID"
    # Every process refuses tokens of a suspended tenant.
    assert [one.tenant for one in sent(memory, TenantSuspended)] == [TENANT]
    [order] = sent(memory, TenantDeletionRequested)
    assert (order.tenant, order.attempt) == (TENANT, 1)
    acts = [entry.act for tenant, entry in memory.state.audit if tenant == TENANT]
    assert acts[-1] == "tenant.deleted"


async def test_the_last_report_ends_it_with_a_receipt(
    client: Any, memory: Any, record: RecordRemoval
) -> None:
    await client.make_tenant(TENANT)
    await make_key(client)
    await delete(client)
    await record.run(TENANT, "query", {"passages": 7, "points": 14})
    assert not (await read(client)).HasField("finish_time")
    await record.run(TENANT, "query", {"passages": 99})
    await record.run(TENANT, "ingest", {"documents": 2, "objects": 1})
    deletion = await read(client)
    assert deletion.HasField("finish_time")
    assert not deletion.pending_services
    assert list(deletion.receipts) == [
        receipt("auth", {"keys": 1}),
        receipt("ingest", {"documents": 2, "objects": 1}),
        receipt("query", {"passages": 7, "points": 14}),
    ]
    assert await state(client) == "DELETED"
    assert sent(memory, TenantDeleted) == [TenantDeleted(tenant=TENANT, deletion=deletion)]
    await record.run(TENANT, "ingest", {"documents": 9})
    assert await read(client) == deletion
    assert len(sent(memory, TenantDeleted)) == 1


def receipt(service: str, removed: Mapping[str, int]) -> TenantReceipt:
    counts = [RemovedCount(store=store, count=count) for store, count in removed.items()]
    return TenantReceipt(service=service, removed=counts)


async def test_a_repeat_changes_nothing(client: Any, memory: Any) -> None:
    await client.make_tenant(TENANT)
    first = await delete(client)
    assert await delete(client) == first
    assert await delete(client, force=False) == first
    assert len(sent(memory, TenantDeletionRequested)) == 1


async def test_a_suspended_tenant_can_be_deleted(client: Any, memory: Any) -> None:
    await client.make_tenant(TENANT)
    await client.stub.SuspendTenant(
        pb.SuspendTenantRequest(tenant=TENANT), metadata=await client.operator()
    )
    await delete(client)
    assert len(sent(memory, TenantSuspended)) == 1
    assert await state(client) == "DELETING"


async def test_its_id_is_never_used_again(client: Any, record: RecordRemoval) -> None:
    await client.make_tenant(TENANT)
    await delete(client)
    for finished in (False, True):
        if finished:
            await record.run(TENANT, "ingest", {})
            await record.run(TENANT, "query", {})
        operator = await client.operator()
        for call in (
            client.stub.CreateTenant(
                pb.CreateTenantRequest(tenant=TENANT, display_name=TENANT), metadata=operator
            ),
            client.stub.ResumeTenant(pb.ResumeTenantRequest(tenant=TENANT), metadata=operator),
            make_key(client),
        ):
            refusal = await client.refusal(call)
            assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "TENANT_DELETED")


@pytest.mark.parametrize(
    ("tenant", "force", "reason"),
    [
        ("acme", False, "FORCE_REQUIRED"),
        ("system", True, "TENANT_RESERVED"),
        ("default", True, "TENANT_OWN"),
        ("unknown", True, "TENANT_UNKNOWN"),
        ("NOT AN ID", True, "TENANT_UNKNOWN"),
    ],
)
async def test_what_is_not_deleted(
    client: Any, memory: Any, tenant: str, *, force: bool, reason: str
) -> None:
    await client.make_tenant(TENANT)
    assert (await client.refusal(delete(client, tenant, force=force))).reason == reason
    assert not memory.state.deletions


@pytest.mark.parametrize(
    ("tenant", "reason"),
    [("acme", "TENANT_DELETION_UNKNOWN"), ("b", "TENANT_UNKNOWN"), ("?", "TENANT_UNKNOWN")],
)
async def test_a_deletion_that_was_not_ordered(client: Any, tenant: str, reason: str) -> None:
    await client.make_tenant(TENANT)
    assert (await client.refusal(read(client, tenant))).reason == reason


async def test_an_order_without_reports_is_repeated(
    client: Any, memory: Any, clock: Any, record: RecordRemoval
) -> None:
    await client.make_tenant(TENANT)
    await delete(client)
    repeat = RepeatOrders(registry=memory, clock=clock)
    assert await repeat.run() == 0
    clock.forward(AGAIN + timedelta(seconds=1))
    assert await repeat.run() == 1
    assert await repeat.run() == 0
    assert [one.attempt for one in sent(memory, TenantDeletionRequested)] == [1, 2]
    await record.run(TENANT, "ingest", {})
    await record.run(TENANT, "query", {})
    clock.forward(AGAIN + timedelta(seconds=1))
    assert await repeat.run() == 0


async def test_a_key_created_at_the_same_time_goes_too(
    client: Any, memory: Any, record: RecordRemoval
) -> None:
    await client.make_tenant(TENANT)
    made = await make_key(client)
    kept = memory.state.keys[made.key.key_id]
    await delete(client)
    memory.state.keys[made.key.key_id] = kept
    await record.run(TENANT, "ingest", {})
    await record.run(TENANT, "query", {})
    assert not [one for one in memory.state.keys.values() if one.key.tenant_id == TENANT]
