"""What the use cases need done by others."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from google.protobuf.message import Message

from auth.domain import ApiKey, AuditEntry, Credential, Grant, KeyCursor, Revocation, Tenant
from auth.keys import Proof

Clock = Callable[[], datetime]


class Records(Protocol):
    """The rows of one tenant in one transaction; other tenants' rows do not exist here."""

    async def tenant(self) -> Tenant | None: ...

    async def add_tenant(self, tenant: Tenant) -> bool:
        """False, and nothing added, when there is one of that id."""

    async def suspend_tenant(self, time: datetime) -> bool:
        """False, and nothing changed, when there is none or it is suspended already."""

    async def resume_tenant(self) -> bool:
        """False, and nothing changed, when there is none or it is not suspended."""

    async def key(self, key_id: str) -> ApiKey | None: ...

    async def keys(self, limit: int, after: KeyCursor | None) -> Sequence[ApiKey]:
        """At most `limit` keys, newest first."""

    async def add_key(self, key: ApiKey, proof: Proof, request_id: str) -> str | None:
        """None when added; else the id of the key this request id has made before."""

    async def revoke_key(self, key_id: str, time: datetime) -> bool:
        """False, and nothing changed, when there is none or it is revoked already."""

    async def add_revocation(self, time: datetime, *, key_id: str | None) -> int:
        """Gives out the next sequence; without a key id the tenant is what is refused."""

    async def add_resumption(self, time: datetime) -> int:
        """Gives out the next sequence; the tenant is refused no longer."""

    async def add_audit(self, entry: AuditEntry) -> None: ...

    async def emit(self, event: Message, *, about: str) -> None:
        """Publishes `event` after the commit; one event ever of a type about one thing."""


class Founding(Protocol):
    """The transaction that makes the platform's first tenants and keys; one at a time."""

    async def has_keys(self) -> bool: ...

    async def within(self, tenant_id: str) -> Records:
        """Turns the transaction to a tenant; records of another are used no more."""


class Registry(Protocol):
    """Where tenants and keys are kept."""

    def within(self, tenant_id: str) -> AbstractAsyncContextManager[Records]:
        """A transaction of one tenant; commits unless the body raises."""

    def founding(self) -> AbstractAsyncContextManager[Founding]: ...

    async def credential(self, key_id: str) -> Credential | None:
        """A key of any tenant, to check a presented one against."""

    async def tenants(self, limit: int, after: str) -> Sequence[Tenant]:
        """At most `limit` tenants in the order of their ids."""

    async def revocations(
        self, limit: int, *, after: int, since: datetime
    ) -> tuple[Sequence[Revocation], int]:
        """Those of all tenants later than both, oldest first; and the last sequence."""


class Signer(Protocol):
    """Makes access tokens that any holder of the public keys can verify."""

    def sign(self, issued: Grant) -> str: ...

    def jwks(self) -> str:
        """The public keys as an RFC 7517 JWK set."""
