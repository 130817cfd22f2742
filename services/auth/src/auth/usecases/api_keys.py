"""Create, list and revoke API keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aquifer.auth.v1.auth_events_pb2 import ApiKeyRevoked
from auth.domain import (
    SYSTEM_TENANT,
    Actor,
    ApiKey,
    AuditEntry,
    KeyCursor,
    Tenant,
    check_request_id,
    choose_expiry,
    read_key_labels,
    sort_scopes,
)
from auth.keys import KeyText, Peppers, Proof, is_key_id
from auth.usecases.ports import Clock, Records, Registry
from auth.usecases.tenants import (
    choose_tenant,
    deleted_tenant_error,
    reserved_tenant_error,
    to_timestamp,
    unknown_tenant_error,
)
from chassis.base.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key and its text, which is returned once and not stored."""

    key: ApiKey
    text: KeyText


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateApiKey:
    """Creates a key for the actor's tenant, or the named one, with at most the actor's scopes.

    `labels` None: it holds all access labels; otherwise at most those that the actor holds.

    Raises:
        InvalidInputError: SCOPES_EMPTY, SCOPE_UNKNOWN, LABELS_INVALID, EXPIRY_RANGE,
            DISPLAY_NAME_INVALID, REQUEST_ID_INVALID.
        ForbiddenError: SCOPE_EXCEEDED, LABELS_FORBIDDEN.
        NotFoundError: TENANT_UNKNOWN.
        FailedPreconditionError: TENANT_SUSPENDED, TENANT_DELETED; TENANT_RESERVED, the services'
            own tenant.
        AlreadyExistsError: REQUEST_REPEATED; `key_id` in its facts names the existing key.
    """

    registry: Registry
    peppers: Peppers
    clock: Clock
    new_key: Callable[[], KeyText]

    async def run(
        self,
        actor: Actor,
        named: str,
        *,
        display_name: str,
        scopes: Sequence[str],
        labels: Sequence[str] | None,
        valid_days: int,
        request_id: str,
    ) -> NewKey:
        tenant_id = choose_tenant(actor, named)
        check_request_id(request_id)
        now, text = self.clock(), self.new_key()
        key = ApiKey(
            key_id=text.key_id,
            tenant_id=tenant_id,
            principal=f"key:{text.key_id}",
            display_name=display_name,
            scopes=sort_scopes(scopes),
            create_time=now,
            expire_time=choose_expiry(now, valid_days),
            labels=None if labels is None else read_key_labels(labels),
        )
        actor.check_may_grant(key.scopes)
        actor.check_may_label(key.labels)
        async with self.registry.begin(tenant_id) as records:
            _check_accepts_keys(await _require_tenant(records))
            await add_key(records, actor, key, self.peppers.proof(text), request_id)
        return NewKey(key=key, text=text)


async def add_key(
    records: Records, actor: Actor, key: ApiKey, proof: Proof, request_id: str
) -> None:
    """Adds a key and an audit entry.

    Raises:
        AlreadyExistsError: REQUEST_REPEATED.
    """
    if earlier := await records.add_key(key, proof, request_id):
        raise AlreadyExistsError(
            "REQUEST_REPEATED",
            f"this request id has already created the key {earlier}; use the key from that"
            " response, or revoke it and create another",
            key_id=earlier,
        )
    await records.add_audit(
        AuditEntry(time=key.create_time, actor=actor, act="key.created", subject=key.key_id)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListApiKeys:
    """Lists keys of the actor's tenant, or of the named one.

    Raises:
        NotFoundError: TENANT_UNKNOWN.
    """

    registry: Registry

    async def run(
        self, actor: Actor, named: str, limit: int, *, after: KeyCursor | None
    ) -> Sequence[ApiKey]:
        async with self.registry.begin(choose_tenant(actor, named)) as records:
            await _require_tenant(records)
            return await records.list_keys(limit, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeApiKey:
    """Revokes a key of the actor's tenant, or of the named one, and its tokens; idempotent.

    Raises:
        NotFoundError: TENANT_UNKNOWN; KEY_UNKNOWN, also for keys of other tenants.
    """

    registry: Registry
    clock: Clock

    async def run(self, actor: Actor, named: str, key_id: str) -> ApiKey:
        tenant_id, now = choose_tenant(actor, named), self.clock()
        async with self.registry.begin(tenant_id) as records:
            await _require_tenant(records)
            if not is_key_id(key_id):
                raise _unknown_key_error()
            changed = await records.revoke_key(key_id, now)
            found = await records.find_key(key_id)
            if found is None:
                raise _unknown_key_error()
            if changed:
                await records.add_revocation(now, key_id=key_id)
                await records.add_audit(
                    AuditEntry(time=now, actor=actor, act="key.revoked", subject=key_id)
                )
                event = ApiKeyRevoked(
                    tenant=tenant_id, key_id=key_id, revoke_time=to_timestamp(now)
                )
                await records.emit(event, about=key_id)
        return found


def _check_accepts_keys(tenant: Tenant) -> None:
    if tenant.tenant_id == SYSTEM_TENANT:
        raise reserved_tenant_error("create its keys with `python -m auth service-key`")
    if tenant.delete_time is not None:
        raise deleted_tenant_error("create another one")
    if tenant.suspend_time is not None:
        raise FailedPreconditionError(
            "TENANT_SUSPENDED", "the tenant is suspended; resume it, then create the key"
        )


async def _require_tenant(records: Records) -> Tenant:
    if found := await records.find_tenant():
        return found
    raise unknown_tenant_error()


def _unknown_key_error() -> NotFoundError:
    return NotFoundError("KEY_UNKNOWN", "unknown key; ListApiKeys lists existing keys")
