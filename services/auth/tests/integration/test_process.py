"""The service as a process of its own, on the real database and the real bus."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from nats.js.errors import NotFoundError

from aquifer.auth.v1 import auth_service_pb2 as pb
from aquifer.auth.v1.auth_events_pb2 import ApiKeyRevoked, TenantCreated, TenantResumed
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from auth.app import bootstrap
from auth.settings import PepperSettings
from auth.usecases.bootstrap import FirstKeys
from chassis.events.topology import stream_name, subject
from stack.ports import free_ports
from testkit.servers import TestBus, TestDatabase, password_of

PEPPER = "1:integration-pepper-of-32-characters"
HEALTH_S = 60.0
REFUSED_WITHIN_S = 5.0


@dataclass
class Running:
    process: asyncio.subprocess.Process
    address: str
    channel: grpc.aio.Channel
    stub: AuthServiceStub
    first: FirstKeys
    log: Path

    async def login(self, api_key: str) -> list[tuple[str, str]]:
        answer = await self.stub.ExchangeToken(pb.ExchangeTokenRequest(api_key=api_key))
        return [("authorization", f"Bearer {answer.access_token}")]


async def create_first_keys(dsn: str) -> FirstKeys:
    kept: list[FirstKeys] = []
    settings = PepperSettings.model_validate({"postgres_dsn": dsn, "auth_pepper": PEPPER})
    await bootstrap(settings, "default", "First", kept.append)
    return kept[0]


async def health(channel: grpc.aio.Channel) -> int | None:
    """What the process says of itself; None when it says nothing."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    try:
        answer: HealthCheckResponse = await check(HealthCheckRequest(), timeout=5)
    except grpc.aio.AioRpcError:
        return None
    return answer.status


async def until(channel: grpc.aio.Channel, state: int) -> None:
    """Waits until the process says it is in this state."""
    async with asyncio.timeout(HEALTH_S):
        while await health(channel) != state:
            await asyncio.sleep(0.1)


@asynccontextmanager
async def running(
    tables: TestDatabase, bus: TestBus, signing_key: str, log: Path
) -> AsyncIterator[Running]:
    first = await create_first_keys(tables.dsn("auth"))
    [port] = free_ports(1)
    environment = {
        "AQUIFER_LISTEN": f"127.0.0.1:{port}",
        "AQUIFER_NATS_URL": bus.url,
        "AQUIFER_NATS_USER": "auth",
        "AQUIFER_NATS_PASSWORD": password_of("auth"),
        "AQUIFER_POSTGRES_DSN": tables.dsn("auth"),
        "AQUIFER_AUTH_PEPPER": PEPPER,
        "AQUIFER_AUTH_SIGNING_KEY": signing_key,
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "auth", "serve"), env=environment, stdout=output, stderr=output
        )
    try:
        address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address) as channel:
            await until(channel, HealthCheckResponse.SERVING)
            yield Running(process, address, channel, AuthServiceStub(channel), first, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def published(bus: TestBus, event: type[Message], tenant: str) -> bytes:
    """Body of the last event of a tenant in its stream, waited for."""
    name, on = stream_name(event), subject(event, tenant)
    async with bus.connect("provisioner") as provisioner, asyncio.timeout(30):
        while True:
            try:
                found = await provisioner.jetstream.get_last_msg(name, on)
            except NotFoundError:
                await asyncio.sleep(0.05)
            else:
                return found.data or b""


async def refusal(call: Awaitable[object]) -> grpc.StatusCode:
    """How a call fails; it must."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


async def refused_after(running: Running, metadata: list[tuple[str, str]]) -> tuple[str, float]:
    """How the service starts to refuse a token, and after how many seconds."""
    started = time.monotonic()
    while True:
        passed = time.monotonic() - started
        try:
            await running.stub.ListApiKeys(pb.ListApiKeysRequest(), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}", passed
        if passed > 2 * REFUSED_WITHIN_S:
            return "never", passed
        await asyncio.sleep(0.02)


async def served_after(running: Running, metadata: list[tuple[str, str]]) -> float:
    """After how many seconds the service takes a token again."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < 2 * REFUSED_WITHIN_S:
        try:
            await running.stub.ListApiKeys(pb.ListApiKeysRequest(), metadata=metadata)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.02)
        else:
            break
    return passed


async def test_a_key_lives_and_dies_everywhere(
    tables: TestDatabase, bus: TestBus, signing_key: str, tmp_path: Path
) -> None:
    async with running(tables, bus, signing_key, tmp_path / "auth.log") as auth:
        operator = await auth.login(auth.first.operator.reveal())
        made = await auth.stub.CreateApiKey(
            pb.CreateApiKeyRequest(display_name="short-lived", scopes=["keys.admin"]),
            metadata=operator,
        )
        holder = await auth.login(made.api_key)
        await auth.stub.ListApiKeys(pb.ListApiKeysRequest(), metadata=holder)

        await auth.stub.RevokeApiKey(
            pb.RevokeApiKeyRequest(key_id=made.key.key_id), metadata=operator
        )
        how, after_s = await refused_after(auth, holder)
        assert how.startswith("UNAUTHENTICATED")
        assert after_s < REFUSED_WITHIN_S

        event = ApiKeyRevoked.FromString(await published(bus, ApiKeyRevoked, "default"))
        assert event.key_id == made.key.key_id
        first = TenantCreated.FromString(await published(bus, TenantCreated, "default"))
        assert first.display_name == "First"

        service = await auth.login(auth.first.services["query"].reveal())
        listed = await auth.stub.ListRevocations(pb.ListRevocationsRequest(), metadata=service)
        assert [one.key_id for one in listed.revocations] == [made.key.key_id]

        auth.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(auth.process.wait(), 60) == 0

        secrets = [auth.first.operator.secret, made.api_key, made.api_key.split("_")[2]]
        secrets += [value.removeprefix("Bearer ") for _, value in (*operator, *holder)]
        secrets += [PEPPER.removeprefix("1:"), tables.dsn("auth"), password_of("auth")]
        logged = auth.log.read_text()
        assert "service.started" in logged
        assert not any(secret in logged for secret in secrets)


async def first_key_of_acme(auth: Running, operator: list[tuple[str, str]]) -> str:
    """Makes the tenant, as an operator of another one."""
    await auth.stub.CreateTenant(
        pb.CreateTenantRequest(tenant="acme", display_name="Acme"), metadata=operator
    )
    made = await auth.stub.CreateApiKey(
        pb.CreateApiKeyRequest(tenant="acme", display_name="first", scopes=["keys.admin"]),
        metadata=operator,
    )
    return str(made.api_key)


async def test_suspension_ends_a_tenants_tokens(
    tables: TestDatabase, bus: TestBus, signing_key: str, tmp_path: Path
) -> None:
    async with running(tables, bus, signing_key, tmp_path / "auth.log") as auth:
        operator = await auth.login(auth.first.operator.reveal())
        api_key = await first_key_of_acme(auth, operator)
        holder = await auth.login(api_key)
        await auth.stub.SuspendTenant(pb.SuspendTenantRequest(tenant="acme"), metadata=operator)
        how, after_s = await refused_after(auth, holder)
        assert how.startswith("UNAUTHENTICATED")
        assert after_s < REFUSED_WITHIN_S
        service = await auth.login(auth.first.services["query"].reveal())
        listed = await auth.stub.ListRevocations(pb.ListRevocationsRequest(), metadata=service)
        assert [one.tenant for one in listed.revocations] == ["acme"]


async def test_a_resumed_tenant_is_served_again(
    tables: TestDatabase, bus: TestBus, signing_key: str, tmp_path: Path
) -> None:
    async with running(tables, bus, signing_key, tmp_path / "auth.log") as auth:
        operator = await auth.login(auth.first.operator.reveal())
        api_key = await first_key_of_acme(auth, operator)
        holder = await auth.login(api_key)
        for sequence in (2, 4):
            await auth.stub.SuspendTenant(pb.SuspendTenantRequest(tenant="acme"), metadata=operator)
            how, _ = await refused_after(auth, holder)
            assert how.startswith("UNAUTHENTICATED")
            assert await refusal(auth.login(api_key)) is grpc.StatusCode.UNAUTHENTICATED

            await auth.stub.ResumeTenant(pb.ResumeTenantRequest(tenant="acme"), metadata=operator)
            assert await served_after(auth, holder) < REFUSED_WITHIN_S
            await auth.login(api_key)
            async with asyncio.timeout(30):
                event = TenantResumed()
                while event.sequence != sequence:
                    event = TenantResumed.FromString(await published(bus, TenantResumed, "acme"))
        service = await auth.login(auth.first.services["query"].reveal())
        listed = await auth.stub.ListRevocations(pb.ListRevocationsRequest(), metadata=service)
        assert [one.WhichOneof("subject") for one in listed.revocations] == [
            "tenant",
            "resumed_tenant",
        ] * 2


async def test_auth_outlives_its_database(
    tables: TestDatabase, bus: TestBus, signing_key: str, tmp_path: Path
) -> None:
    async with running(tables, bus, signing_key, tmp_path / "auth.log") as auth:
        tables.server.kill()
        try:
            await auth.stub.GetJwks(pb.GetJwksRequest(), timeout=5)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(until(auth.channel, HealthCheckResponse.NOT_SERVING))
                login = tasks.create_task(refusal(auth.login(auth.first.operator.reveal())))
            assert await login is grpc.StatusCode.UNAVAILABLE
        finally:
            tables.server.start()
        await until(auth.channel, HealthCheckResponse.SERVING)
        await auth.login(auth.first.operator.reveal())


async def test_auth_outlives_the_bus(
    tables: TestDatabase, bus: TestBus, signing_key: str, tmp_path: Path
) -> None:
    async with running(tables, bus, signing_key, tmp_path / "auth.log") as auth:
        operator = await auth.login(auth.first.operator.reveal())
        bus.server.kill()
        try:
            made = await auth.stub.CreateApiKey(
                pb.CreateApiKeyRequest(display_name="d", scopes=["keys.admin"]), metadata=operator
            )
            holder = await auth.login(made.api_key)
            await auth.stub.RevokeApiKey(
                pb.RevokeApiKeyRequest(key_id=made.key.key_id), metadata=operator
            )
            how, after_s = await refused_after(auth, holder)
            assert how.startswith("UNAUTHENTICATED")
            assert after_s < REFUSED_WITHIN_S
        finally:
            bus.server.start()
        event = ApiKeyRevoked.FromString(await published(bus, ApiKeyRevoked, "default"))
        assert event.key_id == made.key.key_id
        await until(auth.channel, HealthCheckResponse.SERVING)
