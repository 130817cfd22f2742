"""An operator keeps the keys of every tenant; to anybody else the others do not exist."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_events_pb2 import ApiKeyRevoked
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from auth.usecases.founding import FirstKeys

Metadata = list[tuple[str, str]]


class Entry(Protocol):
    act: str
    subject: str


class State(Protocol):
    audit: Sequence[tuple[str, Entry]]
    events: Sequence[object]


class Memory(Protocol):
    state: State


class Refusal(Protocol):
    code: str
    reason: str
    facts: Mapping[str, str]
    raw: bytes


class House(Protocol):
    stub: AuthServiceStub
    first: FirstKeys

    async def login(self, api_key: str) -> Metadata: ...
    async def operator(self) -> Metadata: ...
    async def service(self) -> Metadata: ...
    async def make_tenant(self, tenant: str) -> None: ...
    async def refusal(self, call: object) -> Refusal: ...


async def made(house: House, who: Metadata, **changes: object) -> pb.CreateApiKeyResponse:
    wanted = {"display_name": "a key", "scopes": ["search"]} | changes
    request = pb.CreateApiKeyRequest(**wanted)  # type: ignore[arg-type]
    return await house.stub.CreateApiKey(request, metadata=who)


async def listed(house: House, who: Metadata, tenant: str = "") -> list[str]:
    page = await house.stub.ListApiKeys(pb.ListApiKeysRequest(tenant=tenant), metadata=who)
    return [key.key_id for key in page.keys]


def calls(house: House, who: Metadata, tenant: str, key_id: str) -> list[object]:
    """Every call about keys that names a tenant."""
    return [
        made(house, who, tenant=tenant),
        listed(house, who, tenant),
        house.stub.RevokeApiKey(pb.RevokeApiKeyRequest(tenant=tenant, key_id=key_id), metadata=who),
    ]


async def test_a_new_tenant_gets_its_first_key_from_the_operator(
    house: House, memory: Memory
) -> None:
    await house.make_tenant("acme")
    operator = await house.operator()
    first = await made(house, operator, tenant="acme", scopes=["keys.admin", "search"])
    token = await house.stub.ExchangeToken(pb.ExchangeTokenRequest(api_key=first.api_key))
    assert (token.tenant, list(token.scopes)) == ("acme", ["keys.admin", "search"])
    # From here on it helps itself, and names itself or nobody.
    holder = await house.login(first.api_key)
    second = await made(house, holder, tenant="acme")
    mine = {first.key.key_id, second.key.key_id}
    assert set(await listed(house, holder)) == mine
    assert set(await listed(house, holder, "acme")) == mine
    assert set(await listed(house, operator, "acme")) == mine
    assert await listed(house, operator) == [house.first.operator.key_id]

    revoked = await house.stub.RevokeApiKey(
        pb.RevokeApiKeyRequest(tenant="acme", key_id=first.key.key_id), metadata=operator
    )
    [event] = [one for one in memory.state.events if isinstance(one, ApiKeyRevoked)]
    expected = ("acme", first.key.key_id, revoked.revoke_time)
    assert (event.tenant, event.key_id, event.revoke_time) == expected
    acts = [
        (tenant, entry.act)
        for tenant, entry in memory.state.audit
        if entry.subject == first.key.key_id
    ]
    assert acts == [("acme", "key.created"), ("acme", "key.revoked")]


async def test_a_key_is_of_one_tenant_also_to_the_operator(house: House) -> None:
    await house.make_tenant("acme")
    operator = await house.operator()
    key = (await made(house, operator, tenant="acme")).key
    for tenant in ("", "default", "system"):
        request = pb.RevokeApiKeyRequest(tenant=tenant, key_id=key.key_id)
        refusal = await house.refusal(house.stub.RevokeApiKey(request, metadata=operator))
        assert (refusal.code, refusal.reason) == ("NOT_FOUND", "KEY_UNKNOWN")
    assert await listed(house, operator, "acme") == [key.key_id]


async def test_to_anybody_else_every_other_tenant_looks_like_none(house: House) -> None:
    await house.make_tenant("acme")
    operator = await house.operator()
    theirs = (await made(house, operator, tenant="acme")).key.key_id
    clerk = await made(house, operator, scopes=["keys.admin", "operate", "search"])
    as_clerk = await house.login(clerk.api_key)
    tenants = ("acme", "system", "nobody", "Not An Id", "a\0", "x" * 10_000)
    raws = {
        (await house.refusal(call)).raw
        for tenant in tenants
        for call in calls(house, as_clerk, tenant, theirs)
    }
    unknown = await house.refusal(listed(house, operator, "nobody"))
    assert raws == {unknown.raw}
    assert (unknown.code, unknown.reason) == ("NOT_FOUND", "TENANT_UNKNOWN")
    assert await listed(house, operator, "acme") == [theirs]


@pytest.mark.parametrize("tenant", ["nobody", "Not An Id", "a\0", "x" * 10_000])
async def test_unknown_tenants_have_no_keys(house: House, tenant: str) -> None:
    operator = await house.operator()
    for call in calls(house, operator, tenant, "k" * 16):
        refusal = await house.refusal(call)
        assert (refusal.code, refusal.reason) == ("NOT_FOUND", "TENANT_UNKNOWN")


async def test_operators_hand_on_elsewhere_no_more_than_they_hold(house: House) -> None:
    await house.make_tenant("acme")
    operator = await house.operator()
    limited = await made(house, operator, scopes=["keys.admin", "tenants.admin"])
    as_limited = await house.login(limited.api_key)
    await made(house, as_limited, tenant="acme", scopes=["keys.admin"])
    for who, scope in ((as_limited, "search"), (operator, "internal")):
        refusal = await house.refusal(made(house, who, tenant="acme", scopes=[scope]))
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "SCOPE_EXCEEDED")


async def test_administering_tenants_alone_makes_no_keys(house: House) -> None:
    await house.make_tenant("acme")
    operator = await house.operator()
    other = await made(house, operator, scopes=["tenants.admin", "search"])
    as_other = await house.login(other.api_key)
    for call in calls(house, as_other, "acme", "k" * 16):
        refusal = await house.refusal(call)
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")


async def test_the_services_own_tenant_takes_no_keys_and_shows_and_ends_its_own(
    house: House,
) -> None:
    operator = await house.operator()
    refusal = await house.refusal(made(house, operator, tenant="system"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "TENANT_RESERVED")
    keys = {name: text.key_id for name, text in house.first.services.items()}
    assert set(await listed(house, operator, "system")) == set(keys.values())
    request = pb.RevokeApiKeyRequest(tenant="system", key_id=keys["query"])
    await house.stub.RevokeApiKey(request, metadata=operator)
    assert (await house.refusal(house.service())).reason == "KEY_REVOKED"


async def test_a_suspended_tenant_takes_no_keys_and_ends_those_it_has(house: House) -> None:
    await house.make_tenant("acme")
    operator = await house.operator()
    key = (await made(house, operator, tenant="acme")).key
    await house.stub.SuspendTenant(pb.SuspendTenantRequest(tenant="acme"), metadata=operator)
    refusal = await house.refusal(made(house, operator, tenant="acme"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "TENANT_SUSPENDED")
    assert await listed(house, operator, "acme") == [key.key_id]
    request = pb.RevokeApiKeyRequest(tenant="acme", key_id=key.key_id)
    assert (await house.stub.RevokeApiKey(request, metadata=operator)).HasField("revoke_time")


async def test_a_page_goes_on_in_its_own_tenant(house: House) -> None:
    await house.make_tenant("acme")
    operator = await house.operator()
    for tenant in ("acme", "default"):
        await made(house, operator, tenant=tenant)
        await made(house, operator, tenant=tenant)

    async def page(tenant: str, token: str) -> pb.ListApiKeysResponse:
        request = pb.ListApiKeysRequest(tenant=tenant, page_size=1, page_token=token)
        return await house.stub.ListApiKeys(request, metadata=operator)

    there, here = await page("acme", ""), await page("", "")
    await page("acme", there.next_page_token)
    # Naming the own tenant or none is the same list.
    await page("default", here.next_page_token)
    refusal = await house.refusal(page("", there.next_page_token))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


async def test_request_ids_are_of_the_tenant_named(house: House) -> None:
    await house.make_tenant("acme")
    operator = await house.operator()
    here = await made(house, operator, request_id="r")
    there = await made(house, operator, request_id="r", tenant="acme")
    assert here.key.key_id != there.key.key_id
    refusal = await house.refusal(made(house, operator, request_id="r", tenant="acme"))
    assert (refusal.reason, refusal.facts) == ("REQUEST_REPEATED", {"key_id": there.key.key_id})
