"""The first tenant and keys are created once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import pytest
from google.protobuf.message import Message

from aquifer.auth.v1.auth_events_pb2 import TenantCreated
from auth.domain import INTERNAL, SCOPES, ApiKey, AuditEntry, Tenant
from auth.keys import KeyText, Peppers, new_key
from auth.usecases.bootstrap import BootstrapPlatform, FirstKeys
from auth.usecases.ports import Registry
from chassis.base.errors import FailedPreconditionError, InvalidInputError


class StoredKey(Protocol):
    key: ApiKey


class State(Protocol):
    tenants: Mapping[str, Tenant]
    keys: Mapping[str, StoredKey]
    audit: Sequence[tuple[str, AuditEntry]]
    events: Sequence[Message]


class Memory(Registry, Protocol):
    state: State


Found = Callable[[Registry], Awaitable[FirstKeys]]


async def test_first_keys_are_the_operators_and_the_services(
    memory: Memory, bootstrap_platform: Found, clock: Callable[[], datetime]
) -> None:
    first = await bootstrap_platform(memory)
    keys = {one.key.key_id: one.key for one in memory.state.keys.values()}
    operator = keys.pop(first.operator.key_id)
    assert (operator.tenant_id, operator.principal) == ("default", "operator")
    assert set(operator.scopes) == set(SCOPES) - {INTERNAL}
    assert set(first.services) == {"ingest", "query", "inference"}
    for name, text in first.services.items():
        key = keys.pop(text.key_id)
        assert (key.tenant_id, key.principal) == ("system", name)
        assert key.scopes == ("internal", "models")
        assert key.expire_time - clock() == timedelta(days=365)
    assert not keys


async def test_first_tenants_are_published_and_audited(
    memory: Memory, bootstrap_platform: Found
) -> None:
    await bootstrap_platform(memory)
    assert list(memory.state.events) == [
        TenantCreated(tenant="system", display_name="Aquifer"),
        TenantCreated(tenant="default", display_name="Default"),
    ]
    acts = [(tenant, entry.actor.principal, entry.act) for tenant, entry in memory.state.audit]
    assert acts == [
        ("system", "bootstrap", "tenant.created"),
        *[("system", "bootstrap", "key.created")] * 3,
        ("default", "bootstrap", "tenant.created"),
        ("default", "bootstrap", "key.created"),
    ]


async def test_a_second_bootstrap_is_refused(memory: Memory, bootstrap_platform: Found) -> None:
    await bootstrap_platform(memory)
    before = memory.state
    with pytest.raises(FailedPreconditionError) as refused:
        await bootstrap_platform(memory)
    assert refused.value.reason == "ALREADY_FOUNDED"
    assert memory.state is before


async def test_keys_that_could_not_be_kept_do_not_count(
    memory: Memory, peppers: Peppers, clock: Callable[[], datetime]
) -> None:
    def lost(keys: FirstKeys) -> None:
        raise OSError(28, "no space left")

    found = BootstrapPlatform(registry=memory, peppers=peppers, clock=clock, new_key=new_key)
    with pytest.raises(OSError, match="no space left"):
        await found.run("default", "Default", lost)
    assert not memory.state.keys
    assert not memory.state.tenants


@pytest.mark.parametrize(
    ("tenant", "reason"), [("system", "TENANT_RESERVED"), ("Not An Id", "TENANT_INVALID")]
)
async def test_impossible_first_tenants_are_refused(
    memory: Memory, peppers: Peppers, clock: Callable[[], datetime], tenant: str, reason: str
) -> None:
    kept: list[FirstKeys] = []
    found = BootstrapPlatform(registry=memory, peppers=peppers, clock=clock, new_key=new_key)
    with pytest.raises(InvalidInputError) as refused:
        await found.run(tenant, "Name", kept.append)
    assert refused.value.reason == reason
    assert not kept


def test_first_keys_hide_their_secrets() -> None:
    keys = FirstKeys(
        tenant_id="t", operator=KeyText("i", "s3cret"), services={"q": KeyText("j", "s3cret")}
    )
    assert "s3cret" not in repr(keys)
