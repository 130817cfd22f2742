"""Tenants and keys as their administrators see them."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest
from google.protobuf.message import Message

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_events_pb2 import (
    ApiKeyRevoked,
    TenantCreated,
    TenantResumed,
    TenantSuspended,
)
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from auth.domain import AuditEntry
from auth.keys import new_key
from auth.rpc import ACCESS
from auth.usecases.bootstrap import FirstKeys
from chassis.rpc.server import PUBLIC

Metadata = list[tuple[str, str]]


class Clock(Protocol):
    def forward(self, by: timedelta) -> None: ...
    def __call__(self) -> datetime: ...


class State(Protocol):
    audit: Sequence[tuple[str, AuditEntry]]
    events: Sequence[Message]


class Memory(Protocol):
    state: State


class Refusal(Protocol):
    code: str
    reason: str
    facts: Mapping[str, str]
    fields: Sequence[str]
    raw: bytes


class Client(Protocol):
    stub: AuthServiceStub
    first: FirstKeys

    async def login(self, api_key: str) -> Metadata: ...
    async def operator(self) -> Metadata: ...
    async def service(self) -> Metadata: ...
    async def refusal(self, call: object) -> Refusal: ...


def key_request(**changes: object) -> pb.CreateApiKeyRequest:
    wanted = {"display_name": "a key", "scopes": ["search"]} | changes
    return pb.CreateApiKeyRequest(**wanted)  # type: ignore[arg-type]


async def test_tenant_is_made_once(client: Client, memory: Memory) -> None:
    operator = await client.operator()
    request = pb.CreateTenantRequest(tenant="acme", display_name="Acme")
    first = await client.stub.CreateTenant(request, metadata=operator)
    again = await client.stub.CreateTenant(request, metadata=operator)
    read = await client.stub.GetTenant(pb.GetTenantRequest(tenant="acme"), metadata=operator)
    assert first == again == read
    assert (first.tenant, first.display_name) == ("acme", "Acme")
    assert first.state == pb.TENANT_STATE_ACTIVE
    created = TenantCreated(tenant="acme", display_name="Acme")
    assert [event for event in memory.state.events if event == created] == [created]
    acts = [
        (tenant, entry.subject)
        for tenant, entry in memory.state.audit
        if entry.act == "tenant.created"
    ]
    assert acts.count(("acme", "acme")) == 1


async def test_another_tenant_of_the_id_is_refused(client: Client) -> None:
    operator = await client.operator()
    refusal = await client.refusal(
        client.stub.CreateTenant(
            pb.CreateTenantRequest(tenant="default", display_name="Mine"), metadata=operator
        )
    )
    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "TENANT_EXISTS")


@pytest.mark.parametrize(
    ("tenant", "name", "reason", "field"),
    [
        ("", "x", "TENANT_INVALID", "tenant"),
        ("A", "x", "TENANT_INVALID", "tenant"),
        ("a" * 64, "x", "TENANT_INVALID", "tenant"),
        ("a.b", "x", "TENANT_INVALID", "tenant"),
        ("a", "", "DISPLAY_NAME_INVALID", "display_name"),
        ("a", "x" * 129, "DISPLAY_NAME_INVALID", "display_name"),
        ("a", "x\0", "DISPLAY_NAME_INVALID", "display_name"),
    ],
)
async def test_impossible_tenants_are_refused(
    client: Client, tenant: str, name: str, reason: str, field: str
) -> None:
    refusal = await client.refusal(
        client.stub.CreateTenant(
            pb.CreateTenantRequest(tenant=tenant, display_name=name),
            metadata=await client.operator(),
        )
    )
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", reason)
    assert refusal.fields == [field]


@pytest.mark.parametrize("tenant", ["nobody", "", "NOT AN ID", "a\0", "x" * 10_000])
async def test_unknown_tenants_are_not_found(client: Client, tenant: str) -> None:
    operator = await client.operator()
    read = client.stub.GetTenant(pb.GetTenantRequest(tenant=tenant), metadata=operator)
    suspend = client.stub.SuspendTenant(pb.SuspendTenantRequest(tenant=tenant), metadata=operator)
    resume = client.stub.ResumeTenant(pb.ResumeTenantRequest(tenant=tenant), metadata=operator)
    for call in (read, suspend, resume):
        refusal = await client.refusal(call)
        assert (refusal.code, refusal.reason) == ("NOT_FOUND", "TENANT_UNKNOWN")


async def test_tenants_are_listed_page_by_page(client: Client) -> None:
    operator = await client.operator()
    for name in ("b", "a", "-", "0"):
        request = pb.CreateTenantRequest(tenant=name, display_name=name)
        await client.stub.CreateTenant(request, metadata=operator)
    found, token = [], ""
    for _ in range(10):
        page = await client.stub.ListTenants(
            pb.ListTenantsRequest(page_size=2, page_token=token), metadata=operator
        )
        assert len(page.tenants) <= 2
        found += [tenant.tenant for tenant in page.tenants]
        token = page.next_page_token
        if not token:
            break
    assert found == ["-", "0", "a", "b", "default", "system"]


async def test_suspending_twice_is_one_act(client: Client, memory: Memory, clock: Clock) -> None:
    operator, at = await client.operator(), clock()
    await client.make_tenant("acme")
    request = pb.SuspendTenantRequest(tenant="acme")
    first = await client.stub.SuspendTenant(request, metadata=operator)
    clock.forward(timedelta(seconds=5))
    again = await client.stub.SuspendTenant(request, metadata=operator)
    assert first == again
    assert first.state == pb.TENANT_STATE_SUSPENDED
    [event] = [one for one in memory.state.events if isinstance(one, TenantSuspended)]
    assert event.tenant == "acme"
    assert event.suspend_time.ToDatetime(UTC) == at
    acts = [entry.act for _, entry in memory.state.audit]
    assert acts.count("tenant.suspended") == 1


async def test_nobody_suspends_the_tenant_of_the_own_key(client: Client) -> None:
    refusal = await client.refusal(
        client.stub.SuspendTenant(
            pb.SuspendTenantRequest(tenant="default"), metadata=await client.operator()
        )
    )
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "TENANT_OWN")


async def test_resuming_twice_is_one_act_and_a_second_suspension_another(
    client: Client, memory: Memory, clock: Clock
) -> None:
    operator = await client.operator()
    await client.stub.CreateTenant(
        pb.CreateTenantRequest(tenant="acme", display_name="Acme"), metadata=operator
    )
    key = await client.stub.CreateApiKey(key_request(tenant="acme"), metadata=operator)
    suspend = pb.SuspendTenantRequest(tenant="acme")
    resume = pb.ResumeTenantRequest(tenant="acme")
    untouched = await client.stub.ResumeTenant(resume, metadata=operator)
    await client.stub.SuspendTenant(suspend, metadata=operator)
    assert (await client.refusal(client.login(key.api_key))).reason == "TENANT_SUSPENDED"
    at = clock()
    first = await client.stub.ResumeTenant(resume, metadata=operator)
    again = await client.stub.ResumeTenant(resume, metadata=operator)
    assert untouched == first == again
    assert first.state == pb.TENANT_STATE_ACTIVE
    await client.login(key.api_key)
    await client.stub.SuspendTenant(suspend, metadata=operator)

    acts = [entry.act for tenant, entry in memory.state.audit if tenant == "acme"]
    assert acts[2:] == ["tenant.suspended", "tenant.resumed", "tenant.suspended"]
    said = [one for one in memory.state.events if isinstance(one, TenantResumed | TenantSuspended)]
    assert [(type(one), one.sequence) for one in said] == [
        (TenantSuspended, 1),
        (TenantResumed, 2),
        (TenantSuspended, 3),
    ]
    assert said[1].resume_time.ToDatetime(UTC) == at
    listed = await client.stub.ListRevocations(
        pb.ListRevocationsRequest(), metadata=await client.service()
    )
    assert [one.WhichOneof("subject") for one in listed.revocations] == [
        "tenant",
        "resumed_tenant",
        "tenant",
    ]
    assert listed.revocations[1].resumed_tenant == "acme"


async def test_services_own_tenant_is_never_suspended(client: Client) -> None:
    request = pb.SuspendTenantRequest(tenant="system")
    refusal = await client.refusal(
        client.stub.SuspendTenant(request, metadata=await client.operator())
    )
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "TENANT_RESERVED")
    await client.service()


async def test_suspended_tenant_makes_no_keys(client: Client) -> None:
    operator = await client.operator()
    await client.make_tenant("acme")
    await client.stub.SuspendTenant(pb.SuspendTenantRequest(tenant="acme"), metadata=operator)
    refusal = await client.refusal(
        client.stub.CreateApiKey(key_request(tenant="acme"), metadata=operator)
    )
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "TENANT_SUSPENDED")


async def test_key_is_shown_once(client: Client, memory: Memory, clock: Clock) -> None:
    operator = await client.operator()
    made = await client.stub.CreateApiKey(key_request(valid_days=2), metadata=operator)
    assert made.api_key.startswith(f"aqf_{made.key.key_id}_")
    ends = made.key.expire_time.ToDatetime(UTC)
    assert ends == clock() + timedelta(days=2)
    listed = await client.stub.ListApiKeys(pb.ListApiKeysRequest(), metadata=operator)
    assert made.key in listed.keys
    assert made.api_key.split("_")[2] not in str(listed)
    [entry] = [one for _, one in memory.state.audit if one.subject == made.key.key_id]
    assert (entry.act, entry.actor.principal) == ("key.created", "operator")
    assert entry.actor.key_id == client.first.operator.key_id


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"scopes": []}, "SCOPES_EMPTY", "scopes"),
        ({"scopes": ["search", "root"]}, "SCOPE_UNKNOWN", "scopes"),
        ({"scopes": ["SEARCH"]}, "SCOPE_UNKNOWN", "scopes"),
        ({"scopes": ["search ask"]}, "SCOPE_UNKNOWN", "scopes"),
        ({"access_labels": {"labels": ["HR"]}}, "LABELS_INVALID", "access_labels.labels"),
        (
            {"access_labels": {"labels": [f"l{n}" for n in range(33)]}},
            "LABELS_INVALID",
            "access_labels.labels",
        ),
        ({"valid_days": -1}, "EXPIRY_RANGE", "valid_days"),
        ({"valid_days": 366}, "EXPIRY_RANGE", "valid_days"),
        ({"display_name": ""}, "DISPLAY_NAME_INVALID", "display_name"),
        ({"display_name": "x" * 129}, "DISPLAY_NAME_INVALID", "display_name"),
        ({"request_id": "x" * 129}, "REQUEST_ID_INVALID", "request_id"),
        ({"request_id": "\0"}, "REQUEST_ID_INVALID", "request_id"),
    ],
)
async def test_impossible_keys_are_refused(
    client: Client, changes: dict[str, object], reason: str, field: str
) -> None:
    refusal = await client.refusal(
        client.stub.CreateApiKey(key_request(**changes), metadata=await client.operator())
    )
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", reason)
    assert refusal.fields == [field]


async def test_nobody_hands_on_what_he_lacks(client: Client) -> None:
    operator = await client.operator()
    clerk = await client.stub.CreateApiKey(
        key_request(scopes=["keys.admin", "ask"]), metadata=operator
    )
    as_clerk = await client.login(clerk.api_key)
    made = await client.stub.CreateApiKey(key_request(scopes=["ask"]), metadata=as_clerk)
    assert list(made.key.scopes) == ["ask"]
    for who, scope in ((as_clerk, "search"), (as_clerk, "operate"), (operator, "internal")):
        refusal = await client.refusal(
            client.stub.CreateApiKey(key_request(scopes=["ask", scope]), metadata=who)
        )
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "SCOPE_EXCEEDED")
        assert refusal.facts == {"scopes": scope}


async def test_a_key_without_a_list_holds_all_labels(client: Client) -> None:
    made = await client.stub.CreateApiKey(key_request(), metadata=await client.operator())
    assert not made.key.HasField("access_labels")


@pytest.mark.parametrize("labels", [[], ["hr"], ["hr", "eng", "hr"]])
async def test_a_key_has_the_labels_of_its_list(client: Client, labels: list[str]) -> None:
    operator = await client.operator()
    made = await client.stub.CreateApiKey(
        key_request(access_labels={"labels": labels}), metadata=operator
    )
    assert made.key.HasField("access_labels")
    assert list(made.key.access_labels.labels) == sorted(set(labels))
    listed = await client.stub.ListApiKeys(pb.ListApiKeysRequest(), metadata=operator)
    assert made.key in listed.keys


async def test_nobody_hands_on_labels_he_lacks(client: Client) -> None:
    clerk = await client.stub.CreateApiKey(
        key_request(scopes=["keys.admin", "ask"], access_labels={"labels": ["hr", "law"]}),
        metadata=await client.operator(),
    )
    as_clerk = await client.login(clerk.api_key)
    for labels in ([], ["hr"], ["hr", "law"]):
        wanted = key_request(scopes=["ask"], access_labels={"labels": labels})
        made = await client.stub.CreateApiKey(wanted, metadata=as_clerk)
        assert list(made.key.access_labels.labels) == labels
    for changes in ({}, {"access_labels": {"labels": ["hr", "eng"]}}):
        refusal = await client.refusal(
            client.stub.CreateApiKey(key_request(scopes=["ask"], **changes), metadata=as_clerk)
        )
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "LABELS_FORBIDDEN")
        assert refusal.facts == {"labels": "hr,law"}


async def test_repeated_request_makes_one_key(client: Client) -> None:
    operator = await client.operator()
    made = await client.stub.CreateApiKey(key_request(request_id="r1"), metadata=operator)
    refusal = await client.refusal(
        client.stub.CreateApiKey(key_request(request_id="r1"), metadata=operator)
    )
    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "REQUEST_REPEATED")
    assert refusal.facts == {"key_id": made.key.key_id}
    assert made.api_key.split("_")[2] not in str(refusal.raw)
    await client.stub.CreateApiKey(key_request(request_id="r2"), metadata=operator)
    listed = await client.stub.ListApiKeys(pb.ListApiKeysRequest(), metadata=operator)
    assert len(listed.keys) == 3


async def test_keys_are_listed_newest_first_page_by_page(client: Client, clock: Clock) -> None:
    operator, made = await client.operator(), [client.first.operator.key_id]
    for _ in range(4):
        clock.forward(timedelta(seconds=1))
        answer = await client.stub.CreateApiKey(key_request(), metadata=operator)
        made.insert(0, answer.key.key_id)
    found, token, pages = [], "", 0
    while token or not pages:
        page = await client.stub.ListApiKeys(
            pb.ListApiKeysRequest(page_size=2, page_token=token), metadata=operator
        )
        found += [key.key_id for key in page.keys]
        token, pages = page.next_page_token, pages + 1
    assert (found, pages) == (made, 3)


async def test_full_last_page_has_no_next(client: Client) -> None:
    page = await client.stub.ListTenants(
        pb.ListTenantsRequest(page_size=2), metadata=await client.operator()
    )
    assert (len(page.tenants), page.next_page_token) == (2, "")


async def test_odd_pages_are_refused(client: Client) -> None:
    operator = await client.operator()
    calls = [
        (
            client.stub.ListTenants(pb.ListTenantsRequest(page_size=-1), metadata=operator),
            "PAGE_SIZE_RANGE",
        ),
        (
            client.stub.ListApiKeys(pb.ListApiKeysRequest(page_size=1001), metadata=operator),
            "PAGE_SIZE_RANGE",
        ),
        (
            client.stub.ListTenants(pb.ListTenantsRequest(page_token="x"), metadata=operator),
            "PAGE_TOKEN_INVALID",
        ),
        (
            client.stub.ListApiKeys(pb.ListApiKeysRequest(page_token="é"), metadata=operator),
            "PAGE_TOKEN_INVALID",
        ),
    ]
    for made_up in (
        ["2026-11-20T12:00:00", "k", "default"],
        ["yesterday", "k", "default"],
        ["2026-11-20T12:00:00+00:00", "k"],
        ["2026-11-20T12:00:00+00:00", "k", "acme"],
    ):
        token = base64.urlsafe_b64encode(json.dumps(made_up).encode()).decode().rstrip("=")
        request = pb.ListApiKeysRequest(page_token=token)
        calls.append((client.stub.ListApiKeys(request, metadata=operator), "PAGE_TOKEN_INVALID"))
    for call, reason in calls:
        refusal = await client.refusal(call)
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", reason)


async def test_revoking_twice_is_one_act(client: Client, memory: Memory, clock: Clock) -> None:
    operator = await client.operator()
    key = (await client.stub.CreateApiKey(key_request(), metadata=operator)).key
    at = clock()
    first = await client.stub.RevokeApiKey(
        pb.RevokeApiKeyRequest(key_id=key.key_id), metadata=operator
    )
    clock.forward(timedelta(seconds=5))
    again = await client.stub.RevokeApiKey(
        pb.RevokeApiKeyRequest(key_id=key.key_id), metadata=operator
    )
    assert first == again
    assert first.revoke_time.ToDatetime(UTC) == at
    event = ApiKeyRevoked(tenant="default", key_id=key.key_id, revoke_time=first.revoke_time)
    assert [one for one in memory.state.events if isinstance(one, ApiKeyRevoked)] == [event]
    acts = [entry.act for _, entry in memory.state.audit if entry.subject == key.key_id]
    assert acts == ["key.created", "key.revoked"]


async def test_another_tenants_key_looks_like_none(client: Client) -> None:
    operator = await client.operator()
    foreign = client.first.services["ingest"].key_id
    refusals = [
        await client.refusal(
            client.stub.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=key_id), metadata=operator)
        )
        for key_id in (foreign, new_key().key_id, "", "no id", "\0", "x" * 10_000)
    ]
    assert {refusal.raw for refusal in refusals} == {refusals[0].raw}
    assert (refusals[0].code, refusals[0].reason) == ("NOT_FOUND", "KEY_UNKNOWN")
    await client.service()


async def test_revocations_are_listed_after_a_sequence(client: Client, clock: Clock) -> None:
    operator, service = await client.operator(), await client.service()
    ids = []
    for _ in range(3):
        ids.append((await client.stub.CreateApiKey(key_request(), metadata=operator)).key.key_id)
        await client.stub.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=ids[-1]), metadata=operator)
    await client.make_tenant("acme")
    await client.stub.SuspendTenant(pb.SuspendTenantRequest(tenant="acme"), metadata=operator)

    everything = await client.stub.ListRevocations(pb.ListRevocationsRequest(), metadata=service)
    assert [one.sequence for one in everything.revocations] == [1, 2, 3, 4]
    assert [one.key_id for one in everything.revocations] == [*ids, ""]
    assert everything.revocations[3].tenant == "acme"
    assert everything.latest_sequence == 4

    part = await client.stub.ListRevocations(
        pb.ListRevocationsRequest(after=1, page_size=2), metadata=service
    )
    assert [one.sequence for one in part.revocations] == [2, 3]
    assert part.latest_sequence == 4


async def test_old_revocations_no_longer_matter(client: Client, clock: Clock) -> None:
    operator, service = await client.operator(), await client.service()
    key = (await client.stub.CreateApiKey(key_request(), metadata=operator)).key
    await client.stub.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=key.key_id), metadata=operator)
    clock.forward(timedelta(seconds=999))
    listed = await client.stub.ListRevocations(pb.ListRevocationsRequest(), metadata=service)
    assert len(listed.revocations) == 1
    clock.forward(timedelta(seconds=2))
    listed = await client.stub.ListRevocations(pb.ListRevocationsRequest(), metadata=service)
    assert (len(listed.revocations), listed.latest_sequence) == (0, 1)


async def test_revocations_need_a_sequence(client: Client) -> None:
    refusal = await client.refusal(
        client.stub.ListRevocations(
            pb.ListRevocationsRequest(after=-1), metadata=await client.service()
        )
    )
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "AFTER_RANGE")


REQUESTS = {
    "ListRevocations": pb.ListRevocationsRequest(),
    "CreateTenant": pb.CreateTenantRequest(tenant="x", display_name="x"),
    "GetTenant": pb.GetTenantRequest(tenant="default"),
    "ListTenants": pb.ListTenantsRequest(),
    "SuspendTenant": pb.SuspendTenantRequest(tenant="acme"),
    "ResumeTenant": pb.ResumeTenantRequest(tenant="default"),
    "DeleteTenant": pb.DeleteTenantRequest(tenant="acme", force=True),
    "GetTenantDeletion": pb.GetTenantDeletionRequest(tenant="acme"),
    "CreateApiKey": key_request(),
    "ListApiKeys": pb.ListApiKeysRequest(),
    "RevokeApiKey": pb.RevokeApiKeyRequest(key_id="k" * 16),
}


def test_every_method_that_is_not_public_is_tried() -> None:
    closed = {name.rpartition("/")[2] for name, scopes in ACCESS.items() if scopes != PUBLIC}
    assert closed == set(REQUESTS)


@pytest.mark.parametrize("method", REQUESTS)
async def test_each_method_needs_its_scope(client: Client, method: str) -> None:
    [needed] = ACCESS[f"aquifer.auth.v1.AuthService/{method}"]
    call = getattr(client.stub, method)
    operator = await client.operator()
    await client.make_tenant("acme")
    others = sorted(
        {"ask", "search", "models", "keys.admin", "tenants.admin", "operate"} - {needed}
    )
    weaker = await client.stub.CreateApiKey(key_request(scopes=others), metadata=operator)
    denied = await client.refusal(
        call(REQUESTS[method], metadata=await client.login(weaker.api_key))
    )
    assert (denied.code, denied.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
    unknown = await client.refusal(call(REQUESTS[method]))
    assert (unknown.code, unknown.reason) == ("UNAUTHENTICATED", "TOKEN_MISSING")
    may = await client.service() if needed == "internal" else operator
    unknown_reasons = {
        "RevokeApiKey": "KEY_UNKNOWN",
        "GetTenantDeletion": "TENANT_DELETION_UNKNOWN",
    }
    if reason := unknown_reasons.get(method):
        assert (await client.refusal(call(REQUESTS[method], metadata=may))).reason == reason
    else:
        await call(REQUESTS[method], metadata=may)
