"""Connects the ports of the use cases to their implementations."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import grpc

from aquifer.auth.v1.auth_service_pb2 import ListRevocationsRequest, ListRevocationsResponse
from aquifer.auth.v1.auth_service_pb2_grpc import add_AuthServiceServicer_to_server
from auth.domain import ApiKey
from auth.keys import KeyText, Peppers, new_key
from auth.rpc import AuthRpc
from auth.settings import PepperSettings, Settings
from auth.store import PostgresRegistry
from auth.subscribers import UseCases, events
from auth.tokens import Ed25519Signer
from auth.usecases.api_keys import CreateApiKey, ListApiKeys, RevokeApiKey
from auth.usecases.bootstrap import BootstrapPlatform, FirstKeys
from auth.usecases.delete_tenant import (
    DeleteTenant,
    GetTenantDeletion,
    RecordRemoval,
    RepeatOrders,
)
from auth.usecases.exchange import ExchangeToken, ListRevocations
from auth.usecases.fair_semaphore import FairSemaphore
from auth.usecases.ports import Clock, Registry, Signer
from auth.usecases.service_keys import IssueServiceKey
from auth.usecases.service_lane import ServiceKeys
from auth.usecases.tenants import CreateTenant, GetTenant, ListTenants, ResumeTenant, SuspendTenant
from chassis.base.errors import ServiceError
from chassis.base.postgres import open_database
from chassis.events.bound import BoundClient
from chassis.events.bus import Bus
from chassis.events.outbox import Outbox
from chassis.events.work import Transactions
from chassis.process.authority import Authority
from chassis.process.process import Build, Loop, Process

log = logging.getLogger(__name__)

SERVICE = "auth"
# Both together leave connections of the default pool for revocations and administration.
SERVICE_EXCHANGES_AT_ONCE = 2
OTHER_EXCHANGES_AT_ONCE = 3
EXCHANGES_WAITING_MAX = 256
EXCHANGES_WAITING_MAX_PER_CONNECTION = 32
EXCHANGE_WAIT_S = 5.0
REPEAT_ORDERS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Everything outside the use cases."""

    registry: Registry
    signer: Signer
    peppers: Peppers
    clock: Clock
    new_key: Callable[[], KeyText]
    new_token_id: Callable[[], str]


def wire(server: grpc.aio.Server, adapters: Adapters) -> AuthRpc:
    """Adds the service to the server."""
    registry, clock = adapters.registry, adapters.clock
    rpc = AuthRpc(
        signer=adapters.signer,
        exchange_token=ExchangeToken(
            registry=registry,
            peppers=adapters.peppers,
            signer=adapters.signer,
            clock=clock,
            new_token_id=adapters.new_token_id,
            service_keys=ServiceKeys(registry=registry, peppers=adapters.peppers),
            service_exchanges=_make_semaphore(SERVICE_EXCHANGES_AT_ONCE),
            other_exchanges=_make_semaphore(OTHER_EXCHANGES_AT_ONCE),
        ),
        list_revocations=ListRevocations(registry=registry, clock=clock),
        create_tenant=CreateTenant(registry=registry, clock=clock),
        get_tenant=GetTenant(registry=registry),
        list_tenants=ListTenants(registry=registry),
        suspend_tenant=SuspendTenant(registry=registry, clock=clock),
        resume_tenant=ResumeTenant(registry=registry, clock=clock),
        delete_tenant=DeleteTenant(registry=registry, clock=clock),
        get_tenant_deletion=GetTenantDeletion(registry=registry),
        create_api_key=CreateApiKey(
            registry=registry, peppers=adapters.peppers, clock=clock, new_key=adapters.new_key
        ),
        list_api_keys=ListApiKeys(registry=registry),
        revoke_api_key=RevokeApiKey(registry=registry, clock=clock),
    )
    add_AuthServiceServicer_to_server(rpc, server)
    return rpc


def _make_semaphore(at_once: int) -> FairSemaphore:
    return FairSemaphore(
        at_once=at_once,
        waiting_max=EXCHANGES_WAITING_MAX,
        waiting_max_per_connection=EXCHANGES_WAITING_MAX_PER_CONNECTION,
        wait_s=EXCHANGE_WAIT_S,
    )


def make_build(settings: Settings) -> Build:
    """Returns the function that opens the dependencies of auth and starts it in its process.

    Raises:
        FailedPreconditionError: PEPPER_INVALID, SIGNING_KEY_INVALID; nothing is open yet.
    """
    signer = Ed25519Signer(settings.auth_signing_key.get_secret_value())
    peppers = Peppers.parse(settings.auth_pepper.get_secret_value())
    dsn = settings.postgres_dsn.get_secret_value()

    async def build(process: Process) -> None:
        database = await process.stack.enter_async_context(
            open_database(dsn, SERVICE, settings.postgres_pool_size)
        )
        outbox = Outbox(database, process.bus, SERVICE)
        adapters = Adapters(
            registry=PostgresRegistry(Transactions(database, outbox)),
            signer=signer,
            peppers=peppers,
            clock=_now,
            new_key=new_key,
            new_token_id=lambda: str(uuid.uuid4()),
        )
        rpc = wire(process.server, adapters)
        process.authority = _own_authority(process.authority, rpc)
        record = RecordRemoval(registry=adapters.registry, clock=adapters.clock)
        process.consume(events, app=UseCases(record_removal=record))
        process.add_loop(outbox.relay)
        process.add_loop(_make_repeat(adapters))
        process.add_loop(rpc.exchange_token.service_keys.follow)
        process.add_probe(database.find_problem)

    return build


def _make_repeat(adapters: Adapters) -> Loop:
    """Makes the loop that orders unfinished removals of tenants again."""
    repeat = RepeatOrders(registry=adapters.registry, clock=adapters.clock)

    async def repeat_orders() -> None:
        while True:
            await asyncio.sleep(REPEAT_ORDERS_S)
            try:
                await repeat.run()
            except ServiceError as error:
                log.warning("tenant_deletion.waiting", extra={"reason": error.reason})

    return repeat_orders


def _own_authority(remote: Authority, rpc: AuthRpc) -> Authority:
    """Verifies tokens like every process, but gets keys and revocations without a call."""

    async def keys() -> str:
        return rpc.signer.jwks()

    async def revocations(after: int) -> ListRevocationsResponse:
        return await rpc.read_revocations(ListRevocationsRequest(after=after))

    return replace(remote, keys=keys, revocations=revocations)


async def bootstrap(
    settings: PepperSettings, tenant_id: str, display_name: str, keep: Callable[[FirstKeys], None]
) -> None:
    """Creates the first tenant and keys of a platform; see `BootstrapPlatform`."""
    peppers = Peppers.parse(settings.auth_pepper.get_secret_value())
    async with _registry(settings) as registry:
        found = BootstrapPlatform(registry=registry, peppers=peppers, clock=_now, new_key=new_key)
        await found.run(tenant_id, display_name, keep)


async def issue_service_key(
    settings: PepperSettings, service: str, keep: Callable[[KeyText], None]
) -> ApiKey:
    """Creates another key for a service; see `IssueServiceKey`."""
    peppers = Peppers.parse(settings.auth_pepper.get_secret_value())
    async with _registry(settings) as registry:
        issue = IssueServiceKey(registry=registry, peppers=peppers, clock=_now, new_key=new_key)
        return await issue.run(service, keep)


@asynccontextmanager
async def _registry(settings: PepperSettings) -> AsyncIterator[Registry]:
    """The registry for a command, which has no bus."""
    dsn = settings.postgres_dsn.get_secret_value()
    unconnected = asyncio.create_task(asyncio.sleep(0))
    await unconnected
    async with open_database(dsn, SERVICE, 1) as database:
        # Only stores events: the relay of the running service finds and publishes them.
        outbox = Outbox(database, Bus(BoundClient(), unconnected), SERVICE)
        yield PostgresRegistry(Transactions(database, outbox))


def _now() -> datetime:
    return datetime.now(UTC)
