"""What every registry does: the one in memory, and the one on PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aquifer.auth.v1.auth_events_pb2 import TenantCreated
from auth.domain import (
    Actor,
    ApiKey,
    AuditEntry,
    KeyCursor,
    Revocation,
    Tenant,
    TenantDeletion,
)
from auth.keys import Peppers, new_key
from auth.usecases.ports import Registry

NOW = datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
PROOF = Peppers.parse("p" * 32).proof(new_key())


@pytest.fixture(params=["memory", "stored"])
def registry(request: pytest.FixtureRequest) -> Registry:
    found: Registry = request.getfixturevalue(request.param)
    return found


def tenant(name: str = "acme") -> Tenant:
    return Tenant(tenant_id=name, display_name=f"The {name}", create_time=NOW)


def key(tenant_id: str = "acme", **changes: object) -> ApiKey:
    made = ApiKey(
        key_id=new_key().key_id,
        tenant_id=tenant_id,
        principal="somebody",
        display_name="a key",
        scopes=("ask", "search"),
        create_time=NOW,
        expire_time=NOW + timedelta(days=1),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def add(registry: Registry, *keys: ApiKey, request_id: str = "") -> None:
    for one in keys:
        async with registry.begin(one.tenant_id) as records:
            await records.add_tenant(tenant(one.tenant_id))
            assert await records.add_key(one, PROOF, request_id) is None


async def test_tenant_is_added_once(registry: Registry) -> None:
    async with registry.begin("acme") as records:
        assert await records.find_tenant() is None
        assert await records.add_tenant(tenant())
        assert not await records.add_tenant(replace(tenant(), display_name="Another"))
        assert await records.find_tenant() == tenant()


async def test_tenant_is_suspended_once(registry: Registry) -> None:
    async with registry.begin("acme") as records:
        assert not await records.suspend_tenant(NOW)
        await records.add_tenant(tenant())
        assert await records.suspend_tenant(NOW)
        assert not await records.suspend_tenant(NOW + timedelta(1))
        assert await records.find_tenant() == replace(tenant(), suspend_time=NOW)


async def test_tenant_is_resumed_once_for_each_suspension(registry: Registry) -> None:
    async with registry.begin("acme") as records:
        assert not await records.resume_tenant()
        await records.add_tenant(tenant())
        assert not await records.resume_tenant()
        for _ in range(2):
            assert await records.suspend_tenant(NOW)
            assert await records.resume_tenant()
            assert not await records.resume_tenant()
        assert await records.find_tenant() == tenant()


async def test_resumptions_are_numbered_with_revocations(registry: Registry) -> None:
    made = key()
    await add(registry, made)
    async with registry.begin("acme") as records:
        numbers = [
            await records.add_revocation(NOW, key_id=None),
            await records.add_resumption(NOW),
            await records.add_revocation(NOW, key_id=made.key_id),
        ]
    assert numbers == [1, 2, 3]
    found, latest = await registry.list_revocations(10, after=0, since=LONG_AGO)
    assert [(one.key_id, one.resumed) for one in found] == [
        (None, False),
        (None, True),
        (made.key_id, False),
    ]
    assert latest == 3


async def test_key_is_read_back_whole(registry: Registry) -> None:
    made = key(display_name="名 é '\"; DROP TABLE keys; --")
    await add(registry, made)
    async with registry.begin("acme") as records:
        assert await records.find_key(made.key_id) == made
        assert await records.find_key(new_key().key_id) is None


async def test_key_is_revoked_once(registry: Registry) -> None:
    made = key()
    await add(registry, made)
    async with registry.begin("acme") as records:
        assert await records.revoke_key(made.key_id, NOW)
        assert not await records.revoke_key(made.key_id, NOW + timedelta(1))
        assert not await records.revoke_key(new_key().key_id, NOW)
        assert await records.find_key(made.key_id) == replace(made, revoke_time=NOW)


async def test_request_id_makes_one_key_of_a_tenant(registry: Registry) -> None:
    first = key()
    await add(registry, first, request_id="r")
    async with registry.begin("acme") as records:
        assert await records.add_key(key(), PROOF, "r") == first.key_id
        assert await records.add_key(key(), PROOF, "other") is None
        assert await records.add_key(key(), PROOF, "") is None
        assert await records.add_key(key(), PROOF, "") is None
        assert len(await records.list_keys(10, None)) == 4
    await add(registry, key("globex"), request_id="r")


async def test_one_tenant_sees_nothing_of_another(registry: Registry) -> None:
    theirs = key("globex")
    await add(registry, key("acme"), theirs)
    async with registry.begin("acme") as records:
        assert await records.find_key(theirs.key_id) is None
        assert not await records.revoke_key(theirs.key_id, NOW)
        assert [one.tenant_id for one in await records.list_keys(10, None)] == ["acme"]
    async with registry.begin("globex") as records:
        assert await records.find_key(theirs.key_id) == theirs


async def test_keys_come_newest_first_in_pages(registry: Registry) -> None:
    made = [key(create_time=NOW + timedelta(microseconds=i // 2)) for i in range(7)]
    await add(registry, *made)
    expected = sorted(made, key=lambda one: (one.create_time, one.key_id), reverse=True)
    found: list[ApiKey] = []
    cursor = None
    async with registry.begin("acme") as records:
        while page := await records.list_keys(3, cursor):
            found += page
            cursor = KeyCursor(create_time=page[-1].create_time, key_id=page[-1].key_id)
    assert found == expected


async def test_transaction_that_fails_leaves_nothing(registry: Registry) -> None:
    made = key()

    async def stopped() -> None:
        async with registry.begin("acme") as records:
            await records.add_tenant(tenant())
            await records.add_key(made, PROOF, "r")
            await records.add_revocation(NOW, key_id=made.key_id)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        await stopped()
    async with registry.begin("acme") as records:
        assert await records.find_tenant() is None
    assert await registry.find_credential(made.key_id) is None
    assert await registry.list_revocations(10, after=0, since=LONG_AGO) == ([], 0)


async def test_credential_is_found_across_tenants(registry: Registry) -> None:
    mine, theirs = key("acme"), key("globex")
    await add(registry, mine, theirs)
    async with registry.begin("globex") as records:
        await records.suspend_tenant(NOW)
        await records.revoke_key(theirs.key_id, NOW)
    found = await registry.find_credential(mine.key_id)
    assert found is not None
    assert (found.key, found.proof, found.tenant_suspended) == (mine, PROOF, False)
    found = await registry.find_credential(theirs.key_id)
    assert found is not None
    assert (found.key.revoke_time, found.tenant_suspended) == (NOW, True)
    assert await registry.find_credential(new_key().key_id) is None


async def test_tenants_come_in_the_order_of_their_ids(registry: Registry) -> None:
    for name in ("b", "a-", "a", "a0", "-", "0"):
        async with registry.begin(name) as records:
            await records.add_tenant(tenant(name))
    assert [one.tenant_id for one in await registry.list_tenants(10, "")] == [
        "-",
        "0",
        "a",
        "a-",
        "a0",
        "b",
    ]
    assert [one.tenant_id for one in await registry.list_tenants(2, "a")] == ["a-", "a0"]


async def test_revocations_are_numbered_across_tenants(registry: Registry) -> None:
    mine, theirs = key("acme"), key("globex")
    await add(registry, mine, theirs)
    assert await registry.list_revocations(10, after=0, since=LONG_AGO) == ([], 0)
    steps: list[tuple[str, str | None]] = [
        ("acme", mine.key_id),
        ("globex", theirs.key_id),
        ("acme", None),
    ]
    for number, (name, key_id) in enumerate(steps):
        async with registry.begin(name) as records:
            await records.add_revocation(NOW + timedelta(seconds=number), key_id=key_id)
    found, latest = await registry.list_revocations(10, after=0, since=LONG_AGO)
    assert list(found) == [
        Revocation(
            sequence=number + 1,
            tenant_id=name,
            key_id=key_id,
            revoke_time=NOW + timedelta(seconds=number),
        )
        for number, (name, key_id) in enumerate(steps)
    ]
    assert latest == 3
    found, latest = await registry.list_revocations(1, after=1, since=LONG_AGO)
    assert ([one.sequence for one in found], latest) == ([2], 3)
    found, latest = await registry.list_revocations(10, after=0, since=NOW)
    assert ([one.sequence for one in found], latest) == ([2, 3], 3)
    found, latest = await registry.list_revocations(10, after=3, since=LONG_AGO)
    assert ([one.sequence for one in found], latest) == ([], 3)


async def test_bootstrap_makes_tenants_one_after_another(registry: Registry) -> None:
    async with registry.begin_bootstrap() as bootstrap:
        assert not await bootstrap.has_keys()
        for name in ("acme", "globex"):
            records = await bootstrap.switch_to(name)
            assert await records.add_tenant(tenant(name))
            assert await records.add_key(key(name), PROOF, "") is None
            await records.emit(TenantCreated(tenant=name, display_name=name), about=name)
            await records.add_audit(entry(name))
    async with registry.begin_bootstrap() as bootstrap:
        assert await bootstrap.has_keys()
    assert len(await registry.list_tenants(10, "")) == 2


def entry(subject: str) -> AuditEntry:
    actor = Actor(tenant_id="system", principal="p", key_id="k", scopes=frozenset())
    return AuditEntry(time=NOW, actor=actor, act="tenant.created", subject=subject)


async def test_deletion_is_recorded_once(registry: Registry) -> None:
    async with registry.begin("acme") as records:
        await records.add_tenant(tenant())
        assert await records.find_deletion() is None
        assert await records.add_receipt("query", {}) is None
        assert await records.add_deletion(NOW)
        assert not await records.add_deletion(NOW + timedelta(days=1))
        assert await records.find_deletion() == TenantDeletion(tenant_id="acme", request_time=NOW)
        found = await records.find_tenant()
        assert found is not None
        assert (found.delete_time, found.gone_time) == (NOW, None)


async def test_first_receipt_of_a_service_counts(registry: Registry) -> None:
    async with registry.begin("acme") as records:
        await records.add_tenant(tenant())
        await records.add_deletion(NOW)
        assert await records.add_receipt("query", {"passages": 2}) is not None
        assert await records.add_receipt("query", {"passages": 3}) is None
        found = await records.add_receipt("ingest", {})
        assert found is not None
        assert found.receipts == {"query": {"passages": 2}, "ingest": {}}
        assert found.pending_services == ["auth"]
        await records.finish_deletion(NOW)
        gone = await records.find_tenant()
        assert gone is not None
        assert (gone.display_name, gone.gone_time) == ("acme", NOW)


async def test_open_deletions_are_listed_by_the_time_of_their_order(registry: Registry) -> None:
    for name in ("acme", "globex"):
        async with registry.begin(name) as records:
            await records.add_tenant(tenant(name))
            await records.add_deletion(NOW)
    later = NOW + timedelta(minutes=2)
    assert not await registry.list_open_deletions(NOW)
    async with registry.begin("acme") as records:
        assert await records.count_attempt(1, later)
        assert not await records.count_attempt(1, later)
    assert [one.tenant_id for one in await registry.list_open_deletions(later)] == ["globex"]
    async with registry.begin("globex") as records:
        await records.finish_deletion(NOW)
    [left] = await registry.list_open_deletions(later + timedelta(seconds=1))
    assert (left.tenant_id, left.attempts) == ("acme", 2)


async def test_keys_of_one_tenant_are_removed_with_their_revocations(registry: Registry) -> None:
    own, other = key(), key("globex")
    await add(registry, own)
    await add(registry, other)
    async with registry.begin("acme") as records:
        await records.add_revocation(NOW, key_id=own.key_id)
        await records.add_revocation(NOW, key_id=None)
        assert await records.remove_keys() == 1
        assert await records.remove_keys() == 0
    assert await registry.find_credential(own.key_id) is None
    assert await registry.find_credential(other.key_id) is not None
    found, latest = await registry.list_revocations(10, after=0, since=LONG_AGO)
    assert [one.key_id for one in found] == [None]
    assert latest == 2
