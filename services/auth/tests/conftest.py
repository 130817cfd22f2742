"""A registry in memory that passes the conformance suite, and the platform's first keys."""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.message import Message
from typing_extensions import override

from auth.domain import (
    ApiKey,
    AuditEntry,
    Credential,
    KeyCursor,
    Revocation,
    Tenant,
    TenantDeletion,
)
from auth.keys import Peppers, Proof, new_key
from auth.usecases.bootstrap import BootstrapPlatform, FirstKeys
from auth.usecases.ports import Bootstrap, Records, Registry

PEPPER = "unit-test-pepper-of-32-characters"


@dataclass
class Clock:
    """Advances when asked; starts now, since tokens are checked against the real time."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now

    def forward(self, by: timedelta) -> None:
        self.now += by


@dataclass
class StoredKey:
    key: ApiKey
    proof: Proof
    request_id: str


@dataclass
class State:
    tenants: dict[str, Tenant] = field(default_factory=dict)
    keys: dict[str, StoredKey] = field(default_factory=dict)
    revocations: list[Revocation] = field(default_factory=list)
    last_sequence: int = 0
    deletions: dict[str, TenantDeletion] = field(default_factory=dict)
    sent: dict[str, datetime] = field(default_factory=dict)
    audit: list[tuple[str, AuditEntry]] = field(default_factory=list)
    events: list[Message] = field(default_factory=list)


class MemoryRecords(Records):
    def __init__(self, state: State, tenant_id: str) -> None:
        self._state = state
        self._tenant_id = tenant_id

    @override
    async def find_tenant(self) -> Tenant | None:
        return self._state.tenants.get(self._tenant_id)

    @override
    async def add_tenant(self, tenant: Tenant) -> bool:
        return self._state.tenants.setdefault(self._tenant_id, tenant) is tenant

    @override
    async def suspend_tenant(self, time: datetime) -> bool:
        found = await self.find_tenant()
        if found is None or found.suspend_time is not None:
            return False
        self._state.tenants[self._tenant_id] = replace(found, suspend_time=time)
        return True

    @override
    async def resume_tenant(self) -> bool:
        found = await self.find_tenant()
        if found is None or found.suspend_time is None:
            return False
        self._state.tenants[self._tenant_id] = replace(found, suspend_time=None)
        return True

    @override
    async def add_deletion(self, time: datetime) -> bool:
        if self._tenant_id in self._state.deletions:
            return False
        self._put_deletion(TenantDeletion(tenant_id=self._tenant_id, request_time=time))
        self._state.sent[self._tenant_id] = time
        return True

    def _put_deletion(self, deletion: TenantDeletion) -> None:
        self._state.deletions[self._tenant_id] = deletion
        self._state.tenants[self._tenant_id] = replace(
            self._state.tenants[self._tenant_id],
            delete_time=deletion.request_time,
            gone_time=deletion.finish_time,
        )

    @override
    async def find_deletion(self) -> TenantDeletion | None:
        return self._state.deletions.get(self._tenant_id)

    @override
    async def add_receipt(self, service: str, removed: Mapping[str, int]) -> TenantDeletion | None:
        found = await self.find_deletion()
        if found is None or service in found.receipts:
            return None
        self._put_deletion(replace(found, receipts={**found.receipts, service: dict(removed)}))
        return await self.find_deletion()

    @override
    async def finish_deletion(self, time: datetime) -> None:
        self._put_deletion(replace(self._state.deletions[self._tenant_id], finish_time=time))
        tenant = self._state.tenants[self._tenant_id]
        self._state.tenants[self._tenant_id] = replace(tenant, display_name=self._tenant_id)

    @override
    async def count_attempt(self, attempts: int, time: datetime) -> bool:
        found = await self.find_deletion()
        if found is None or found.attempts != attempts or found.finish_time:
            return False
        self._put_deletion(replace(found, attempts=attempts + 1))
        self._state.sent[self._tenant_id] = time
        return True

    @override
    async def remove_keys(self) -> int:
        own = [one for one in self._state.keys.values() if one.key.tenant_id == self._tenant_id]
        for one in own:
            del self._state.keys[one.key.key_id]
        self._state.revocations = [
            one
            for one in self._state.revocations
            if one.tenant_id != self._tenant_id or one.key_id is None
        ]
        return len(own)

    @override
    async def find_key(self, key_id: str) -> ApiKey | None:
        found = self._state.keys.get(key_id)
        return found.key if found and found.key.tenant_id == self._tenant_id else None

    @override
    async def list_keys(self, limit: int, after: KeyCursor | None) -> Sequence[ApiKey]:
        own = [one.key for one in self._state.keys.values() if one.key.tenant_id == self._tenant_id]
        own.sort(key=lambda key: (key.create_time, key.key_id), reverse=True)
        if after is not None:
            bound = (after.create_time, after.key_id)
            own = [key for key in own if (key.create_time, key.key_id) < bound]
        return own[:limit]

    @override
    async def add_key(self, key: ApiKey, proof: Proof, request_id: str) -> str | None:
        for one in self._state.keys.values():
            if one.key.tenant_id == self._tenant_id and request_id and one.request_id == request_id:
                return one.key.key_id
        self._state.keys[key.key_id] = StoredKey(key, proof, request_id)
        return None

    @override
    async def revoke_key(self, key_id: str, time: datetime) -> bool:
        found = await self.find_key(key_id)
        if found is None or found.revoke_time is not None:
            return False
        self._state.keys[key_id].key = replace(found, revoke_time=time)
        return True

    @override
    async def add_revocation(self, time: datetime, *, key_id: str | None) -> int:
        return self._next_sequence(time, key_id, resumed=False)

    @override
    async def add_resumption(self, time: datetime) -> int:
        return self._next_sequence(time, None, resumed=True)

    def _next_sequence(self, time: datetime, key_id: str | None, *, resumed: bool) -> int:
        self._state.last_sequence += 1
        one = Revocation(
            sequence=self._state.last_sequence,
            tenant_id=self._tenant_id,
            key_id=key_id,
            revoke_time=time,
            resumed=resumed,
        )
        self._state.revocations.append(one)
        return one.sequence

    @override
    async def add_audit(self, entry: AuditEntry) -> None:
        self._state.audit.append((self._tenant_id, entry))

    @override
    async def emit(self, event: Message, *, about: str) -> None:
        self._state.events.append(event)


class MemoryBootstrap(Bootstrap):
    def __init__(self, state: State) -> None:
        self._state = state

    @override
    async def has_keys(self) -> bool:
        return bool(self._state.keys)

    @override
    async def switch_to(self, tenant_id: str) -> Records:
        return MemoryRecords(self._state, tenant_id)


class MemoryRegistry(Registry):
    def __init__(self) -> None:
        self.state = State()
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[State]:
        async with self._alone:
            draft = copy.deepcopy(self.state)
            yield draft
            self.state = draft

    @override
    @asynccontextmanager
    async def begin(self, tenant_id: str) -> AsyncIterator[Records]:
        async with self._transaction() as draft:
            yield MemoryRecords(draft, tenant_id)

    @override
    @asynccontextmanager
    async def begin_bootstrap(self) -> AsyncIterator[Bootstrap]:
        async with self._transaction() as draft:
            yield MemoryBootstrap(draft)

    @override
    async def find_credential(self, key_id: str) -> Credential | None:
        found = self.state.keys.get(key_id)
        if found is None:
            return None
        tenant = self.state.tenants[found.key.tenant_id]
        return Credential(
            key=found.key, proof=found.proof, tenant_suspended=tenant.suspend_time is not None
        )

    @override
    async def list_tenants(self, limit: int, after: str) -> Sequence[Tenant]:
        return [self.state.tenants[name] for name in sorted(self.state.tenants) if name > after][
            :limit
        ]

    @override
    async def list_open_deletions(self, sent_before: datetime) -> Sequence[TenantDeletion]:
        return [
            one
            for name, one in self.state.deletions.items()
            if one.finish_time is None and self.state.sent[name] < sent_before
        ]

    @override
    async def list_revocations(
        self, limit: int, *, after: int, since: datetime
    ) -> tuple[Sequence[Revocation], int]:
        found = [
            one
            for one in self.state.revocations
            if one.sequence > after and one.revoke_time > since
        ]
        return found[:limit], self.state.last_sequence


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def peppers() -> Peppers:
    return Peppers.parse(PEPPER)


@pytest.fixture(scope="session")
def signing_key() -> str:
    return new_signing_key()


def new_signing_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
def memory() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def bootstrap_platform(
    peppers: Peppers, clock: Clock
) -> Callable[[Registry], Awaitable[FirstKeys]]:
    """Gives a registry its first tenants `default` and `system`, and their keys."""

    async def found(registry: Registry) -> FirstKeys:
        kept: list[FirstKeys] = []
        found = BootstrapPlatform(registry=registry, peppers=peppers, clock=clock, new_key=new_key)
        await found.run("default", "Default", kept.append)
        return kept[0]

    return found
