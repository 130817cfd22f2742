"""Interfaces that the use cases need."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from google.protobuf.message import Message

from auth.domain import (
    ApiKey,
    AuditEntry,
    Credential,
    Grant,
    KeyCursor,
    Revocation,
    Tenant,
    TenantDeletion,
)
from auth.keys import Proof

Clock = Callable[[], datetime]


class Records(Protocol):
    """The rows of one tenant in one transaction; rows of other tenants are invisible."""

    async def find_tenant(self) -> Tenant | None: ...

    async def add_tenant(self, tenant: Tenant) -> bool:
        """False, and no change, if a tenant with this id exists."""

    async def suspend_tenant(self, time: datetime) -> bool:
        """False, and no change, if there is none or it is suspended already."""

    async def resume_tenant(self) -> bool:
        """False, and no change, if there is none or it is not suspended."""

    async def add_deletion(self, time: datetime) -> bool:
        """Record the deletion of the tenant; False, and no change, if it is recorded already."""

    async def find_deletion(self) -> TenantDeletion | None: ...

    async def add_receipt(self, service: str, removed: Mapping[str, int]) -> TenantDeletion | None:
        """Record what a service has removed; None, and no change, if it has reported before."""

    async def finish_deletion(self, time: datetime) -> None:
        """Record that nothing is left; the tenant loses its display name."""

    async def count_attempt(self, attempts: int, time: datetime) -> bool:
        """Count one more attempt after so many; False if another process has."""

    async def remove_keys(self) -> int:
        """Remove the tenant's keys and their revocations; returns the number of keys."""

    async def find_key(self, key_id: str) -> ApiKey | None: ...

    async def list_keys(self, limit: int, after: KeyCursor | None) -> Sequence[ApiKey]:
        """At most `limit` keys, newest first."""

    async def add_key(self, key: ApiKey, proof: Proof, request_id: str) -> str | None:
        """None if added, otherwise the id of the key that this request id has created before."""

    async def revoke_key(self, key_id: str, time: datetime) -> bool:
        """False, and no change, if there is none or it is revoked already."""

    async def add_revocation(self, time: datetime, *, key_id: str | None) -> int:
        """Assigns the next sequence; without a key id the whole tenant is revoked."""

    async def add_resumption(self, time: datetime) -> int:
        """Assigns the next sequence; ends the suspension of the tenant."""

    async def add_audit(self, entry: AuditEntry) -> None: ...

    async def emit(self, event: Message, *, about: str) -> None:
        """Publishes `event` after the commit, at most once per type and subject (`about`)."""


class Bootstrap(Protocol):
    """The transaction that creates the first tenants and keys; one at a time."""

    async def has_keys(self) -> bool: ...

    async def switch_to(self, tenant_id: str) -> Records:
        """Switches the transaction to a tenant; records of another tenant become invalid."""


class Registry(Protocol):
    """The store of tenants and keys."""

    def begin(self, tenant_id: str) -> AbstractAsyncContextManager[Records]:
        """A transaction of one tenant; commits unless the body raises."""

    def begin_bootstrap(self) -> AbstractAsyncContextManager[Bootstrap]: ...

    async def find_credential(self, key_id: str) -> Credential | None:
        """A stored key of any tenant, to check a presented key against."""

    async def list_tenants(self, limit: int, after: str) -> Sequence[Tenant]:
        """At most `limit` tenants, ordered by id."""

    async def list_open_deletions(self, sent_before: datetime) -> Sequence[TenantDeletion]:
        """Unfinished deletions of all tenants whose order was last sent before a time."""

    async def list_revocations(
        self, limit: int, *, after: int, since: datetime
    ) -> tuple[Sequence[Revocation], int]:
        """Revocations of all tenants after both bounds, oldest first, and the last sequence."""


class Signer(Protocol):
    """Signs access tokens; everyone with the public keys can verify them."""

    def sign(self, issued: Grant) -> str: ...

    def jwks(self) -> str:
        """The public keys as an RFC 7517 JWK set."""
