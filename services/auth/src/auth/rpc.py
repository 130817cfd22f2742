"""`AuthService`, and the scopes that its methods need."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1 import tenant_deletion_pb2
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceServicer
from auth.domain import INTERNAL, TENANTS_ADMIN, Actor, ApiKey, KeyCursor, Revocation, Tenant
from auth.usecases.api_keys import CreateApiKey, ListApiKeys, RevokeApiKey
from auth.usecases.delete_tenant import DeleteTenant, GetTenantDeletion, to_message
from auth.usecases.exchange import ExchangeToken, ListRevocations
from auth.usecases.ports import Signer
from auth.usecases.tenants import (
    CreateTenant,
    GetTenant,
    ListTenants,
    ResumeTenant,
    SuspendTenant,
    to_timestamp,
)
from chassis.base import paging
from chassis.identity.tokens import caller
from chassis.rpc.server import PUBLIC, Access, any_of

ACCESS: Access = {
    "aquifer.auth.v1.AuthService/ExchangeToken": PUBLIC,
    "aquifer.auth.v1.AuthService/GetJwks": PUBLIC,
    "aquifer.auth.v1.AuthService/ListRevocations": any_of(INTERNAL),
    "aquifer.auth.v1.AuthService/CreateTenant": any_of(TENANTS_ADMIN),
    "aquifer.auth.v1.AuthService/GetTenant": any_of(TENANTS_ADMIN),
    "aquifer.auth.v1.AuthService/ListTenants": any_of(TENANTS_ADMIN),
    "aquifer.auth.v1.AuthService/SuspendTenant": any_of(TENANTS_ADMIN),
    "aquifer.auth.v1.AuthService/ResumeTenant": any_of(TENANTS_ADMIN),
    "aquifer.auth.v1.AuthService/DeleteTenant": any_of(TENANTS_ADMIN),
    "aquifer.auth.v1.AuthService/GetTenantDeletion": any_of(TENANTS_ADMIN),
    "aquifer.auth.v1.AuthService/CreateApiKey": any_of("keys.admin"),
    "aquifer.auth.v1.AuthService/ListApiKeys": any_of("keys.admin"),
    "aquifer.auth.v1.AuthService/RevokeApiKey": any_of("keys.admin"),
}


@dataclass(frozen=True, kw_only=True)
class AuthRpc(AuthServiceServicer):
    """`AuthService` on top of the use cases; converts messages and contains no rules."""

    signer: Signer
    exchange_token: ExchangeToken
    list_revocations: ListRevocations
    create_tenant: CreateTenant
    get_tenant: GetTenant
    list_tenants: ListTenants
    suspend_tenant: SuspendTenant
    resume_tenant: ResumeTenant
    delete_tenant: DeleteTenant
    get_tenant_deletion: GetTenantDeletion
    create_api_key: CreateApiKey
    list_api_keys: ListApiKeys
    revoke_api_key: RevokeApiKey

    @override
    async def ExchangeToken(
        self, request: pb.ExchangeTokenRequest, context: ServicerContext[Any, Any]
    ) -> pb.ExchangeTokenResponse:
        issued = await self.exchange_token.run(request.api_key, context.peer())
        return pb.ExchangeTokenResponse(
            access_token=issued.text,
            expire_time=to_timestamp(issued.grant.expire_time),
            tenant=issued.grant.tenant_id,
            scopes=issued.grant.scopes,
        )

    @override
    async def GetJwks(
        self, request: pb.GetJwksRequest, context: ServicerContext[Any, Any]
    ) -> pb.GetJwksResponse:
        return pb.GetJwksResponse(keys_json=self.signer.jwks())

    @override
    async def ListRevocations(
        self, request: pb.ListRevocationsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListRevocationsResponse:
        return await self.read_revocations(request)

    async def read_revocations(
        self, request: pb.ListRevocationsRequest
    ) -> pb.ListRevocationsResponse:
        """The response of `ListRevocations`; this process uses it without a call."""
        limit = paging.parse_size(request.page_size, default=paging.PAGE_MAX)
        found, latest = await self.list_revocations.run(limit, after=request.after)
        return pb.ListRevocationsResponse(
            revocations=[_revocation(one) for one in found], latest_sequence=latest
        )

    @override
    async def CreateTenant(
        self, request: pb.CreateTenantRequest, context: ServicerContext[Any, Any]
    ) -> pb.Tenant:
        return _tenant(await self.create_tenant.run(_actor(), request.tenant, request.display_name))

    @override
    async def GetTenant(
        self, request: pb.GetTenantRequest, context: ServicerContext[Any, Any]
    ) -> pb.Tenant:
        return _tenant(await self.get_tenant.run(request.tenant))

    @override
    async def ListTenants(
        self, request: pb.ListTenantsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListTenantsResponse:
        page = paging.parse(request.page_size, request.page_token)
        found = await self.list_tenants.run(page.limit, after=page.after_name)
        shown, token = page.cut(found, lambda one: (one.tenant_id,))
        return pb.ListTenantsResponse(
            tenants=[_tenant(one) for one in shown], next_page_token=token
        )

    @override
    async def SuspendTenant(
        self, request: pb.SuspendTenantRequest, context: ServicerContext[Any, Any]
    ) -> pb.Tenant:
        return _tenant(await self.suspend_tenant.run(_actor(), request.tenant))

    @override
    async def ResumeTenant(
        self, request: pb.ResumeTenantRequest, context: ServicerContext[Any, Any]
    ) -> pb.Tenant:
        return _tenant(await self.resume_tenant.run(_actor(), request.tenant))

    @override
    async def DeleteTenant(
        self, request: pb.DeleteTenantRequest, context: ServicerContext[Any, Any]
    ) -> tenant_deletion_pb2.TenantDeletion:
        return to_message(
            await self.delete_tenant.run(_actor(), request.tenant, force=request.force)
        )

    @override
    async def GetTenantDeletion(
        self, request: pb.GetTenantDeletionRequest, context: ServicerContext[Any, Any]
    ) -> tenant_deletion_pb2.TenantDeletion:
        return to_message(await self.get_tenant_deletion.run(request.tenant))

    @override
    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: ServicerContext[Any, Any]
    ) -> pb.CreateApiKeyResponse:
        made = await self.create_api_key.run(
            _actor(),
            request.tenant,
            display_name=request.display_name,
            scopes=request.scopes,
            labels=request.access_labels.labels if request.HasField("access_labels") else None,
            valid_days=request.valid_days,
            request_id=request.request_id,
        )
        return pb.CreateApiKeyResponse(key=_api_key(made.key), api_key=made.text.reveal())

    @override
    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListApiKeysResponse:
        bound = (request.tenant or caller().tenant,)
        page = paging.parse(request.page_size, request.page_token, parts=2, bound=bound)
        found = await self.list_api_keys.run(
            _actor(), request.tenant, page.limit, after=_key_after(page.after)
        )
        shown, token = page.cut(found, lambda key: (key.create_time.isoformat(), key.key_id))
        return pb.ListApiKeysResponse(keys=[_api_key(one) for one in shown], next_page_token=token)

    @override
    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, context: ServicerContext[Any, Any]
    ) -> pb.ApiKey:
        return _api_key(await self.revoke_api_key.run(_actor(), request.tenant, request.key_id))


def _actor() -> Actor:
    who = caller()
    return Actor(
        tenant_id=who.tenant,
        principal=who.principal,
        key_id=who.key_id,
        scopes=who.scopes,
        labels=who.labels,
    )


def _key_after(position: paging.Position) -> KeyCursor | None:
    if not position:
        return None
    time, key_id = position
    try:
        create_time = datetime.fromisoformat(time)
    except ValueError as error:
        raise paging.invalid_token_error() from error
    if create_time.tzinfo is None:
        raise paging.invalid_token_error()
    return KeyCursor(create_time=create_time, key_id=key_id)


def _tenant(tenant: Tenant) -> pb.Tenant:
    return pb.Tenant(
        tenant=tenant.tenant_id,
        display_name=tenant.display_name,
        state=_state(tenant),
        create_time=to_timestamp(tenant.create_time),
    )


def _state(tenant: Tenant) -> pb.TenantState.ValueType:
    if tenant.gone_time:
        return pb.TENANT_STATE_DELETED
    if tenant.delete_time:
        return pb.TENANT_STATE_DELETING
    return pb.TENANT_STATE_SUSPENDED if tenant.suspend_time else pb.TENANT_STATE_ACTIVE


def _api_key(key: ApiKey) -> pb.ApiKey:
    return pb.ApiKey(
        key_id=key.key_id,
        display_name=key.display_name,
        scopes=key.scopes,
        create_time=to_timestamp(key.create_time),
        expire_time=to_timestamp(key.expire_time),
        revoke_time=to_timestamp(key.revoke_time) if key.revoke_time else None,
        access_labels=None if key.labels is None else pb.AccessLabels(labels=key.labels),
    )


def _revocation(revocation: Revocation) -> pb.Revocation:
    shown = pb.Revocation(
        sequence=revocation.sequence, revoke_time=to_timestamp(revocation.revoke_time)
    )
    if revocation.key_id is not None:
        shown.key_id = revocation.key_id
    elif revocation.resumed:
        shown.resumed_tenant = revocation.tenant_id
    else:
        shown.tenant = revocation.tenant_id
    return shown
