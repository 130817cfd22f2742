"""A service gets a further key before its old one ends."""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import pytest

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from auth.domain import AuditEntry
from auth.keys import KeyText, Peppers, new_key
from auth.usecases.bootstrap import FirstKeys
from auth.usecases.ports import Registry
from auth.usecases.service_keys import IssueServiceKey
from auth.usecases.service_lane import ServiceKeys
from chassis.base.errors import FailedPreconditionError

Metadata = list[tuple[str, str]]


class Clock(Protocol):
    def forward(self, by: timedelta) -> None: ...
    def __call__(self) -> datetime: ...


class State(Protocol):
    keys: Mapping[str, object]
    audit: Sequence[tuple[str, AuditEntry]]


class Memory(Registry, Protocol):
    state: State


class Refusal(Protocol):
    reason: str


class Client(Protocol):
    stub: AuthServiceStub
    first: FirstKeys

    async def login(self, api_key: str) -> Metadata: ...
    async def operator(self) -> Metadata: ...
    async def refusal(self, call: Awaitable[object]) -> Refusal: ...


@pytest.fixture
def issue(memory: Memory, peppers: Peppers, clock: Clock) -> IssueServiceKey:
    return IssueServiceKey(registry=memory, peppers=peppers, clock=clock, new_key=new_key)


async def test_a_service_changes_keys_without_a_pause(
    client: Client, issue: IssueServiceKey, memory: Memory, clock: Clock
) -> None:
    old = client.first.services["query"]
    clock.forward(timedelta(days=364))
    kept: list[KeyText] = []
    key = await issue.run("query", kept.append)
    [text] = kept
    for one in (old, text):
        answer = await client.stub.ExchangeToken(pb.ExchangeTokenRequest(api_key=one.reveal()))
        assert (answer.tenant, list(answer.scopes)) == ("system", ["internal", "models"])
    clock.forward(timedelta(days=2))
    assert (await client.refusal(client.login(old.reveal()))).reason == "KEY_EXPIRED"
    await client.login(text.reveal())
    [entry] = [entry for _, entry in memory.state.audit if entry.subject == key.key_id]
    assert (entry.act, entry.actor.principal) == ("key.created", "service-key")


async def test_the_old_key_ends_when_the_operator_says_so(
    client: Client, issue: IssueServiceKey
) -> None:
    old, kept = client.first.services["query"], list[KeyText]()
    await issue.run("query", kept.append)
    request = pb.RevokeApiKeyRequest(tenant="system", key_id=old.key_id)
    await client.stub.RevokeApiKey(request, metadata=await client.operator())
    assert (await client.refusal(client.login(old.reveal()))).reason == "KEY_REVOKED"
    service = await client.login(kept[0].reveal())
    await client.stub.ListRevocations(pb.ListRevocationsRequest(), metadata=service)


async def test_a_key_that_could_not_be_kept_does_not_count(
    client: Client, issue: IssueServiceKey, memory: Memory
) -> None:
    def lost(text: KeyText) -> None:
        raise OSError(28, "no space left")

    before = memory.state
    with pytest.raises(OSError, match="no space left"):
        await issue.run("query", lost)
    assert memory.state is before


async def test_there_is_no_service_key_before_the_platform(
    issue: IssueServiceKey, memory: Memory
) -> None:
    kept: list[KeyText] = []
    with pytest.raises(FailedPreconditionError) as refused:
        await issue.run("query", kept.append)
    assert refused.value.reason == "NOT_FOUNDED"
    assert (kept, dict(memory.state.keys)) == ([], {})


async def test_services_are_recognised_by_their_secret(
    client: Client, memory: Memory, peppers: Peppers, issue: IssueServiceKey
) -> None:
    lane = ServiceKeys(registry=memory, peppers=peppers)
    known = client.first.services["query"]
    assert not lane.recognise(known)
    await lane.load()
    assert all(lane.recognise(key) for key in client.first.services.values())
    assert not lane.recognise(client.first.operator)
    assert not lane.recognise(new_key())
    assert not lane.recognise(KeyText(known.key_id, new_key().secret))
    assert not lane.recognise(KeyText(known.key_id, client.first.services["ingest"].secret))

    kept: list[KeyText] = []
    await issue.run("query", kept.append)
    assert not lane.recognise(kept[0])
    await lane.load()
    assert lane.recognise(kept[0])
