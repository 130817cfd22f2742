"""An operator keeps the keys of every tenant; to anybody else the others do not exist."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_events_pb2 import ApiKeyRevoked
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from auth.usecases.bootstrap import FirstKeys

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


class Client(Protocol):
    stub: AuthServiceStub
    first: FirstKeys

    async def login(self, api_key: str) -> Metadata: ...
    async def operator(self) -> Metadata: ...
    async def service(self) -> Metadata: ...
    async def make_tenant(self, tenant: str) -> None: ...
    async def refusal(self, call: object) -> Refusal: ...


async def made(client: Client, who: Metadata, **changes: object) -> pb.CreateApiKeyResponse:
    wanted = {"display_name": "a key", "scopes": ["search"]} | changes
    request = pb.CreateApiKeyRequest(**wanted)  # type: ignore[arg-type]
    return await client.stub.CreateApiKey(request, metadata=who)


async def listed(client: Client, who: Metadata, tenant: str = "") -> list[str]:
    page = await client.stub.ListApiKeys(pb.ListApiKeysRequest(tenant=tenant), metadata=who)
    return [key.key_id for key in page.keys]


def calls(client: Client, who: Metadata, tenant: str, key_id: str) -> list[object]:
    """Every call about keys that names a tenant."""
    return [
        made(client, who, tenant=tenant),
        listed(client, who, tenant),
        client.stub.RevokeApiKey(
            pb.RevokeApiKeyRequest(tenant=tenant, key_id=key_id), metadata=who
        ),
    ]


async def test_a_new_tenant_gets_its_first_key_from_the_operator(
    client: Client, memory: Memory
) -> None:
    await client.make_tenant("acme")
    operator = await client.operator()
    first = await made(client, operator, tenant="acme", scopes=["keys.admin", "search"])
    token = await client.stub.ExchangeToken(pb.ExchangeTokenRequest(api_key=first.api_key))
    assert (token.tenant, list(token.scopes)) == ("acme", ["keys.admin", "search"])
    # From here on it helps itself, and names itself or nobody.
    holder = await client.login(first.api_key)
    second = await made(client, holder, tenant="acme")
    mine = {first.key.key_id, second.key.key_id}
    assert set(await listed(client, holder)) == mine
    assert set(await listed(client, holder, "acme")) == mine
    assert set(await listed(client, operator, "acme")) == mine
    assert await listed(client, operator) == [client.first.operator.key_id]

    revoked = await client.stub.RevokeApiKey(
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


async def test_a_key_is_of_one_tenant_also_to_the_operator(client: Client) -> None:
    await client.make_tenant("acme")
    operator = await client.operator()
    key = (await made(client, operator, tenant="acme")).key
    for tenant in ("", "default", "system"):
        request = pb.RevokeApiKeyRequest(tenant=tenant, key_id=key.key_id)
        refusal = await client.refusal(client.stub.RevokeApiKey(request, metadata=operator))
        assert (refusal.code, refusal.reason) == ("NOT_FOUND", "KEY_UNKNOWN")
    assert await listed(client, operator, "acme") == [key.key_id]


async def test_to_anybody_else_every_other_tenant_looks_like_none(client: Client) -> None:
    await client.make_tenant("acme")
    operator = await client.operator()
    theirs = (await made(client, operator, tenant="acme")).key.key_id
    clerk = await made(client, operator, scopes=["keys.admin", "operate", "search"])
    as_clerk = await client.login(clerk.api_key)
    tenants = ("acme", "system", "nobody", "Not An Id", "a\0", "x" * 10_000)
    raws = {
        (await client.refusal(call)).raw
        for tenant in tenants
        for call in calls(client, as_clerk, tenant, theirs)
    }
    unknown = await client.refusal(listed(client, operator, "nobody"))
    assert raws == {unknown.raw}
    assert (unknown.code, unknown.reason) == ("NOT_FOUND", "TENANT_UNKNOWN")
    assert await listed(client, operator, "acme") == [theirs]


@pytest.mark.parametrize("tenant", ["nobody", "Not An Id", "a\0", "x" * 10_000])
async def test_unknown_tenants_have_no_keys(client: Client, tenant: str) -> None:
    operator = await client.operator()
    for call in calls(client, operator, tenant, "k" * 16):
        refusal = await client.refusal(call)
        assert (refusal.code, refusal.reason) == ("NOT_FOUND", "TENANT_UNKNOWN")


async def test_operators_hand_on_elsewhere_no_more_than_they_hold(client: Client) -> None:
    await client.make_tenant("acme")
    operator = await client.operator()
    limited = await made(client, operator, scopes=["keys.admin", "tenants.admin"])
    as_limited = await client.login(limited.api_key)
    await made(client, as_limited, tenant="acme", scopes=["keys.admin"])
    for who, scope in ((as_limited, "search"), (operator, "internal")):
        refusal = await client.refusal(made(client, who, tenant="acme", scopes=[scope]))
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "SCOPE_EXCEEDED")


async def test_administering_tenants_alone_makes_no_keys(client: Client) -> None:
    await client.make_tenant("acme")
    operator = await client.operator()
    other = await made(client, operator, scopes=["tenants.admin", "search"])
    as_other = await client.login(other.api_key)
    for call in calls(client, as_other, "acme", "k" * 16):
        refusal = await client.refusal(call)
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")


async def test_the_services_own_tenant_takes_no_keys_and_shows_and_ends_its_own(
    client: Client,
) -> None:
    operator = await client.operator()
    refusal = await client.refusal(made(client, operator, tenant="system"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "TENANT_RESERVED")
    keys = {name: text.key_id for name, text in client.first.services.items()}
    assert set(await listed(client, operator, "system")) == set(keys.values())
    request = pb.RevokeApiKeyRequest(tenant="system", key_id=keys["query"])
    await client.stub.RevokeApiKey(request, metadata=operator)
    assert (await client.refusal(client.service())).reason == "KEY_REVOKED"


async def test_a_suspended_tenant_takes_no_keys_and_ends_those_it_has(client: Client) -> None:
    await client.make_tenant("acme")
    operator = await client.operator()
    key = (await made(client, operator, tenant="acme")).key
    await client.stub.SuspendTenant(pb.SuspendTenantRequest(tenant="acme"), metadata=operator)
    refusal = await client.refusal(made(client, operator, tenant="acme"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "TENANT_SUSPENDED")
    assert await listed(client, operator, "acme") == [key.key_id]
    request = pb.RevokeApiKeyRequest(tenant="acme", key_id=key.key_id)
    assert (await client.stub.RevokeApiKey(request, metadata=operator)).HasField("revoke_time")


async def test_a_page_goes_on_in_its_own_tenant(client: Client) -> None:
    await client.make_tenant("acme")
    operator = await client.operator()
    for tenant in ("acme", "default"):
        await made(client, operator, tenant=tenant)
        await made(client, operator, tenant=tenant)

    async def page(tenant: str, token: str) -> pb.ListApiKeysResponse:
        request = pb.ListApiKeysRequest(tenant=tenant, page_size=1, page_token=token)
        return await client.stub.ListApiKeys(request, metadata=operator)

    there, here = await page("acme", ""), await page("", "")
    await page("acme", there.next_page_token)
    # Naming the own tenant or none is the same list.
    await page("default", here.next_page_token)
    refusal = await client.refusal(page("", there.next_page_token))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


async def test_request_ids_are_of_the_tenant_named(client: Client) -> None:
    await client.make_tenant("acme")
    operator = await client.operator()
    here = await made(client, operator, request_id="r")
    there = await made(client, operator, request_id="r", tenant="acme")
    assert here.key.key_id != there.key.key_id
    refusal = await client.refusal(made(client, operator, request_id="r", tenant="acme"))
    assert (refusal.reason, refusal.facts) == ("REQUEST_REPEATED", {"key_id": there.key.key_id})
