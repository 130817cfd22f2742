"""What only the real database can show: order, locks, the outbox and the audit."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from google.protobuf.message import Message
from psycopg.rows import DictRow

from aquifer.auth.v1.auth_events_pb2 import (
    ApiKeyRevoked,
    TenantCreated,
    TenantResumed,
    TenantSuspended,
)
from auth.domain import SCOPES, Actor, Tenant
from auth.keys import Peppers, new_key
from auth.store import PostgresRegistry
from auth.usecases.api_keys import CreateApiKey, NewKey, RevokeApiKey
from auth.usecases.tenants import CreateTenant, ResumeTenant, SuspendTenant
from chassis.base.errors import AlreadyExistsError
from chassis.base.postgres import Database, migrate, open_database
from chassis.events import outbox
from chassis.events.envelope import derive_id
from chassis.events.topology import stream_name
from chassis.events.work import Transactions
from testkit.consuming import run_relay
from testkit.servers import TestBus, TestDatabase

Everything = psycopg.Connection[DictRow]

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
ADMIN = Actor(tenant_id="default", principal="operator", key_id="k" * 16, scopes=frozenset(SCOPES))


def now() -> datetime:
    return NOW


async def create_tenant(registry: PostgresRegistry, tenant_id: str = "acme") -> None:
    await CreateTenant(registry=registry, clock=now).run(ADMIN, tenant_id, "Acme")


async def create_key(registry: PostgresRegistry, request_id: str = "") -> NewKey:
    create = CreateApiKey(
        registry=registry, peppers=Peppers.parse("p" * 32), clock=now, new_key=new_key
    )
    return await create.run(
        ADMIN,
        "acme",
        display_name="d",
        scopes=["ask"],
        labels=["hr"],
        valid_days=1,
        request_id=request_id,
    )


def published(everything: Everything, event: type[Message]) -> list[tuple[dict[str, Any], Message]]:
    rows = everything.execute(
        "SELECT tenant_id, subject, headers, payload FROM outbox WHERE headers->>'ce-type' = %s"
        " ORDER BY outbox_id",
        [event.DESCRIPTOR.full_name],
    ).fetchall()
    for row in rows:
        assert row["subject"] == f"{event.DESCRIPTOR.full_name}.{row['tenant_id']}"
    return [(row["headers"], event.FromString(row["payload"])) for row in rows]


async def test_facts_lie_in_the_outbox_under_ids_of_their_own(
    stored: PostgresRegistry, everything: Everything
) -> None:
    for _ in range(2):
        await create_tenant(stored)
    key = (await create_key(stored)).key
    for _ in range(2):
        await RevokeApiKey(registry=stored, clock=now).run(ADMIN, "acme", key.key_id)
    for _ in range(2):
        await SuspendTenant(registry=stored, clock=now).run(ADMIN, "acme")
    for _ in range(2):
        await ResumeTenant(registry=stored, clock=now).run(ADMIN, "acme")
    expected: list[tuple[type[Message], str]] = [
        (TenantCreated, "acme"),
        (ApiKeyRevoked, key.key_id),
        (TenantSuspended, "2"),
        (TenantResumed, "3"),
    ]
    for event, about in expected:
        [(headers, message)] = published(everything, event)
        assert headers["ce-id"] == derive_id(event.DESCRIPTOR.full_name, "acme", about)
        assert message.tenant == "acme"  # type: ignore[attr-defined]


async def test_what_a_bootstrap_announces_commits_with_it_each_under_its_tenant(
    stored: PostgresRegistry, everything: Everything
) -> None:
    async def found(*names: str) -> None:
        async with stored.begin_bootstrap() as bootstrap:
            for name in names:
                records = await bootstrap.switch_to(name)
                assert await records.add_tenant(
                    Tenant(tenant_id=name, display_name=name, create_time=NOW)
                )
                await records.emit(TenantCreated(tenant=name), about=name)
                if name == "broken":
                    raise ValueError(name)

    with pytest.raises(ValueError, match="broken"):
        await found("acme", "broken")
    assert published(everything, TenantCreated) == []
    assert await stored.list_tenants(10, "") == []
    await found("acme", "globex")
    announced = [message.tenant for _, message in published(everything, TenantCreated)]  # type: ignore[attr-defined]
    assert announced == ["acme", "globex"]


async def test_act_and_its_audit_commit_together(
    stored: PostgresRegistry, everything: Everything
) -> None:
    await create_tenant(stored)
    key = (await create_key(stored)).key
    await RevokeApiKey(registry=stored, clock=now).run(ADMIN, "acme", key.key_id)
    rows = everything.execute("SELECT * FROM audit ORDER BY audit_id").fetchall()
    assert [(row["tenant_id"], row["act"], row["subject"]) for row in rows] == [
        ("acme", "tenant.created", "acme"),
        ("acme", "key.created", key.key_id),
        ("acme", "key.revoked", key.key_id),
    ]
    assert {(row["actor_tenant"], row["actor_principal"], row["actor_key_id"]) for row in rows} == {
        ("default", "operator", "k" * 16)
    }
    assert {row["acted_at"] for row in rows} == {NOW}


async def test_no_secret_reaches_the_database(
    stored: PostgresRegistry, everything: Everything
) -> None:
    await create_tenant(stored)
    made = await create_key(stored)
    tables = everything.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'auth'")
    held = ""
    for table in [row["tablename"] for row in tables.fetchall()]:
        held += str(everything.execute(f"SELECT t::text FROM {table} t").fetchall())
    assert made.key.key_id in held
    assert made.text.secret not in held
    assert made.text.secret.encode().hex() not in held


async def test_no_sequence_is_seen_before_a_smaller_one(stored: PostgresRegistry) -> None:
    await create_tenant(stored)
    await create_tenant(stored, "globex")
    took_second = asyncio.Event()

    async def second() -> None:
        async with stored.begin("globex") as records:
            await records.add_revocation(NOW, key_id=None)
            took_second.set()

    async with asyncio.TaskGroup() as tasks:
        async with stored.begin("acme") as records:
            await records.add_revocation(NOW, key_id=None)
            tasks.create_task(second())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(took_second.wait(), 0.3)
            assert await stored.list_revocations(10, after=0, since=LONG_AGO) == ([], 0)
    found, latest = await stored.list_revocations(10, after=0, since=LONG_AGO)
    assert [(one.sequence, one.tenant_id) for one in found] == [(1, "acme"), (2, "globex")]
    assert latest == 2


async def test_revocation_undone_leaves_no_hole(stored: PostgresRegistry) -> None:
    await create_tenant(stored)

    async def stopped() -> None:
        async with stored.begin("acme") as records:
            await records.add_revocation(NOW, key_id=None)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        await stopped()
    await SuspendTenant(registry=stored, clock=now).run(ADMIN, "acme")
    found, latest = await stored.list_revocations(10, after=0, since=LONG_AGO)
    assert ([one.sequence for one in found], latest) == ([1], 1)


async def test_many_at_once_revoke_once(stored: PostgresRegistry, everything: Everything) -> None:
    await create_tenant(stored)
    key = (await create_key(stored)).key
    revoke = RevokeApiKey(registry=stored, clock=now)
    answers = await asyncio.gather(*(revoke.run(ADMIN, "acme", key.key_id) for _ in range(8)))
    assert {answer.revoke_time for answer in answers} == {NOW}
    assert len(published(everything, ApiKeyRevoked)) == 1
    found, latest = await stored.list_revocations(10, after=0, since=LONG_AGO)
    assert ([one.key_id for one in found], latest) == ([key.key_id], 1)


async def test_suspended_and_resumed_at_once_the_last_sequence_tells_the_state(
    stored: PostgresRegistry, everything: Everything
) -> None:
    await create_tenant(stored)
    suspend = SuspendTenant(registry=stored, clock=now)
    resume = ResumeTenant(registry=stored, clock=now)
    await asyncio.gather(*(act.run(ADMIN, "acme") for _ in range(8) for act in (suspend, resume)))
    found, latest = await stored.list_revocations(100, after=0, since=LONG_AGO)
    assert [one.sequence for one in found] == list(range(1, latest + 1))
    assert [one.resumed for one in found] == [bool(number % 2) for number in range(latest)]
    [tenant] = await stored.list_tenants(10, "")
    assert (tenant.suspend_time is None) == found[-1].resumed
    events = [*published(everything, TenantSuspended), *published(everything, TenantResumed)]
    assert len({headers["ce-id"] for headers, _ in events}) == len(events) == latest


async def test_many_at_once_make_one_key_of_a_request(stored: PostgresRegistry) -> None:
    await create_tenant(stored)
    answers = await asyncio.gather(
        *(create_key(stored, "r") for _ in range(8)), return_exceptions=True
    )
    made = [answer for answer in answers if isinstance(answer, NewKey)]
    refused = [answer for answer in answers if isinstance(answer, AlreadyExistsError)]
    assert (len(made), len(refused)) == (1, 7)
    assert {error.facts["key_id"] for error in refused} == {made[0].key.key_id}


async def test_many_at_once_make_one_tenant(
    stored: PostgresRegistry, everything: Everything
) -> None:
    await asyncio.gather(*(create_tenant(stored) for _ in range(8)))
    assert len(published(everything, TenantCreated)) == 1


async def test_migrating_again_changes_nothing(tables: TestDatabase) -> None:
    assert migrate(tables.dsn("auth_owner"), "auth") == []


async def test_alternating_tenants_on_one_connection_see_their_own(
    tables: TestDatabase, stored: PostgresRegistry
) -> None:
    for name in ("acme", "globex"):
        await create_tenant(stored, name)
    async with open_database(tables.dsn("auth"), "auth", 1) as single:
        registry = PostgresRegistry(Transactions(single, stored._transactions.outbox))
        for _ in range(100):
            for name in ("acme", "globex"):
                async with registry.begin(name) as records:
                    found = await records.find_tenant()
                    assert found is not None
                    assert found.tenant_id == name
                assert len(await registry.list_tenants(10, "")) == 2


async def test_bootstrap_is_bound_to_the_tenant_it_turned_to(stored: PostgresRegistry) -> None:
    async with stored.begin_bootstrap() as bootstrap:
        for name in ("acme", "globex"):
            records = await bootstrap.switch_to(name)
            await records.add_tenant(Tenant(tenant_id=name, display_name=name, create_time=NOW))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            await records.add_tenant(Tenant(tenant_id="other", display_name="x", create_time=NOW))


async def wait_for_facts(bus: TestBus, *tenants: str) -> None:
    """Waits until the broker holds one `TenantCreated` of each tenant and nothing else."""
    name = TenantCreated.DESCRIPTOR.full_name
    expected = {f"{name}.{tenant}": 1 for tenant in tenants}
    async with bus.connect("provisioner") as admin, asyncio.timeout(30):
        while True:
            info = await admin.jetstream.stream_info(
                stream_name(TenantCreated), subjects_filter=">"
            )
            if info.state.subjects == expected:
                return
            await asyncio.sleep(0.02)


async def wait_until_empty(everything: Everything) -> None:
    """Waits until the relay has removed what it has published."""
    async with asyncio.timeout(30):
        while everything.execute("SELECT FROM outbox").fetchall():
            await asyncio.sleep(0.02)


async def test_what_a_call_announces_is_published_without_a_look_at_the_table(
    database: Database, everything: Everything, bus: TestBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "STALE_S", 3_600.0)
    async with bus.connect("auth") as own, run_relay(database, own, "auth") as transactions:
        registry = PostgresRegistry(transactions)
        async with registry.begin("acme") as records:
            await records.find_tenant()
        await create_tenant(registry)
        await wait_for_facts(bus, "acme")
        await wait_until_empty(everything)


async def test_what_a_bootstrap_announces_is_published_by_a_running_relay(
    database: Database,
    stored: PostgresRegistry,
    everything: Everything,
    bus: TestBus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "STALE_S", 0.2)
    async with stored.begin_bootstrap() as bootstrap:
        for name in ("acme", "globex"):
            records = await bootstrap.switch_to(name)
            await records.add_tenant(Tenant(tenant_id=name, display_name=name, create_time=NOW))
            await records.emit(TenantCreated(tenant=name), about=name)
    async with bus.connect("auth") as own, run_relay(database, own, "auth"):
        await wait_for_facts(bus, "acme", "globex")
        await wait_until_empty(everything)
