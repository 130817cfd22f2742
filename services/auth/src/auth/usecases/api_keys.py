"""API keys made, listed and revoked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aquifer.auth.v1.auth_events_pb2 import ApiKeyRevoked
from auth.domain import Actor, ApiKey, AuditEntry, check_request_id, expiry, in_order
from auth.keys import KeyText, Peppers, Proof, is_key_id
from auth.paging import KeyCursor
from auth.usecases.ports import Clock, Records, Registry
from auth.usecases.tenants import stamped, tenant_unknown
from chassis.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key and its text, which is shown once and kept nowhere."""

    key: ApiKey
    text: KeyText


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateApiKey:
    """Makes a key of a tenant, with no scope the actor lacks.

    Raises:
        InvalidInputError: SCOPES_EMPTY, SCOPE_UNKNOWN, EXPIRY_RANGE, DISPLAY_NAME_INVALID,
            REQUEST_ID_INVALID.
        ForbiddenError: SCOPE_EXCEEDED.
        NotFoundError: TENANT_UNKNOWN.
        FailedPreconditionError: TENANT_SUSPENDED.
        AlreadyExistsError: REQUEST_REPEATED; `key_id` in its facts names the key made before.
    """

    registry: Registry
    peppers: Peppers
    clock: Clock
    new_key: Callable[[], KeyText]

    async def __call__(
        self,
        actor: Actor,
        tenant_id: str,
        *,
        display_name: str,
        scopes: Sequence[str],
        valid_days: int,
        request_id: str,
    ) -> NewKey:
        check_request_id(request_id)
        now, text = self.clock(), self.new_key()
        key = ApiKey(
            key_id=text.key_id,
            tenant_id=tenant_id,
            principal=f"key:{text.key_id}",
            display_name=display_name,
            scopes=in_order(scopes),
            create_time=now,
            expire_time=expiry(now, valid_days),
        )
        actor.check_may_grant(key.scopes)
        async with self.registry.within(tenant_id) as records:
            tenant = await records.tenant()
            if tenant is None:
                raise tenant_unknown()
            if tenant.suspend_time is not None:
                raise FailedPreconditionError("TENANT_SUSPENDED", "the tenant is suspended")
            await add_key(records, actor, key, self.peppers.proof(text), request_id)
        return NewKey(key=key, text=text)


async def add_key(
    records: Records, actor: Actor, key: ApiKey, proof: Proof, request_id: str
) -> None:
    """Adds a key and notes who did.

    Raises:
        AlreadyExistsError: REQUEST_REPEATED.
    """
    if earlier := await records.add_key(key, proof, request_id):
        raise AlreadyExistsError(
            "REQUEST_REPEATED",
            f"this request id has made the key {earlier}, whose secret was shown then",
            key_id=earlier,
        )
    await records.add_audit(
        AuditEntry(time=key.create_time, actor=actor, act="key.created", subject=key.key_id)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListApiKeys:
    registry: Registry

    async def __call__(
        self, tenant_id: str, limit: int, *, after: KeyCursor | None
    ) -> Sequence[ApiKey]:
        async with self.registry.within(tenant_id) as records:
            return await records.keys(limit, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeApiKey:
    """Ends a key of the actor's tenant and its tokens; revoked already is fine.

    Raises:
        NotFoundError: KEY_UNKNOWN, the same for another tenant's key.
    """

    registry: Registry
    clock: Clock

    async def __call__(self, actor: Actor, tenant_id: str, key_id: str) -> ApiKey:
        if not is_key_id(key_id):
            raise _key_unknown()
        now = self.clock()
        async with self.registry.within(tenant_id) as records:
            changed = await records.revoke_key(key_id, now)
            found = await records.key(key_id)
            if found is None:
                raise _key_unknown()
            if changed:
                await records.add_revocation(now, key_id=key_id)
                await records.add_audit(
                    AuditEntry(time=now, actor=actor, act="key.revoked", subject=key_id)
                )
                event = ApiKeyRevoked(tenant=tenant_id, key_id=key_id, revoke_time=stamped(now))
                await records.emit(event, about=key_id)
        return found


def _key_unknown() -> NotFoundError:
    return NotFoundError("KEY_UNKNOWN", "no such key")
