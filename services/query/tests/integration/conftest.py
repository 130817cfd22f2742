"""Query as a process of its own beside real siblings: auth, inference, bus, database, vectors."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.message import Message
from nats.js.errors import NotFoundError

from aquifer.auth.v1 import auth_service_pb2 as auth_pb
from aquifer.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from aquifer.query.v1.query_service_pb2_grpc import QueryServiceStub
from chassis.events.envelope import encode_event
from chassis.events.topology import stream_name, subject
from stack.guardian import Guardian
from stack.ports import LOOPBACK, free_ports
from stack.processes import run_all
from stack.programs import Service, Vectors, make_python_command
from testkit.servers import (
    TestBus,
    TestDatabase,
    password_of,
    start_bus,
    start_database,
)

E = TypeVar("E", bound=Message)


@dataclass
class Servers:
    """The processes, and the keys to them. Everything may be killed and started again."""

    bus: TestBus
    database: TestDatabase
    vectors: Vectors
    services: dict[str, Service]
    keys: dict[str, Any]

    @property
    def query(self) -> Service:
        return self.services["query"]

    @asynccontextmanager
    async def channel(self, service: str = "query") -> AsyncIterator[grpc.aio.Channel]:
        async with grpc.aio.insecure_channel(self.services[service].address) as channel:
            yield channel

    async def token(self, api_key: str) -> list[tuple[str, str]]:
        async with self.channel("auth") as channel:
            request = auth_pb.ExchangeTokenRequest(api_key=api_key)
            answer = await AuthServiceStub(channel).ExchangeToken(request)
        return [("authorization", f"Bearer {answer.access_token}")]

    async def key(self, *scopes: str) -> list[tuple[str, str]]:
        """A token of a fresh key of the first tenant that holds just these scopes."""
        async with self.channel("auth") as channel:
            made = await AuthServiceStub(channel).CreateApiKey(
                auth_pb.CreateApiKeyRequest(display_name="test", scopes=scopes),
                metadata=await self.token(self.keys["api_key"]),
            )
        return await self.token(made.api_key)

    async def publish(self, user: str, *events: Message) -> None:
        """Publishes events as a service, each under a new id."""
        async with self.bus.connect(user) as own:
            await own.publish_all(
                [
                    encode_event(
                        event,
                        event_id=str(uuid.uuid4()),
                        document=getattr(event, "document", ""),
                    )
                    for event in events
                ]
            )

    async def wait_for_facts(self, event: type[E], tenant: str, *, count: int = 1) -> list[E]:
        """The first `count` facts of a tenant in their stream, waited for."""
        found: list[E] = []
        stream, wanted = stream_name(event), subject(event, tenant)
        async with self.bus.connect("provisioner") as bus, asyncio.timeout(60):
            sequence = 1
            while len(found) < count:
                try:
                    stored = await bus.jetstream.get_msg(
                        stream, seq=sequence, subject=wanted, next=True
                    )
                except NotFoundError:
                    await asyncio.sleep(0.02)
                    continue
                found.append(event.FromString(stored.data or b""))
                sequence = (stored.seq or 0) + 1
        return found

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            self.database.superuser_dsn, options="-c search_path=query"
        ) as connection:
            return connection.execute(statement.encode()).fetchall()


@pytest.fixture(scope="session")
def servers(servers_folder: Path, guardian: Guardian) -> Iterator[Servers]:
    """All processes query works with, on stores of their own; ingest is played by the tests."""
    folder = servers_folder / "servers"
    folder.mkdir()
    with ExitStack() as held:
        bus = held.enter_context(start_bus(folder, guardian))
        asyncio.run(bus.provision())
        database = held.enter_context(start_database(folder, guardian))
        for service in ("auth", "query"):
            database.migrate(service)
        vectors = held.enter_context(
            Vectors(
                folder / "vectors",
                socket_path=folder / "vectors.sock",
                guardian=guardian,
                log=folder / "vectors.log",
            )
        )
        ports = dict(zip(("auth", "inference", "query"), free_ports(3), strict=True))
        addresses = {f"AQUIFER_{n.upper()}_ADDRESS": f"{LOOPBACK}:{p}" for n, p in ports.items()}
        own = {
            "auth": {
                "AQUIFER_AUTH_PEPPER": "1:integration-pepper-of-32-characters",
                "AQUIFER_AUTH_SIGNING_KEY": signing_key(),
                "AQUIFER_POSTGRES_DSN": database.dsn("auth"),
            },
            "inference": {},
            "query": {
                "AQUIFER_POSTGRES_DSN": database.dsn("query"),
                "AQUIFER_VECTORS": vectors.address,
                "AQUIFER_RECONCILE_S": "0.5",
            },
        }
        environments = {
            name: {
                **addresses,
                **settings,
                "AQUIFER_NATS_URL": bus.url,
                "AQUIFER_NATS_USER": name,
                "AQUIFER_NATS_PASSWORD": password_of(name),
            }
            for name, settings in own.items()
        }
        keys = first_keys(folder, guardian, environments["auth"])
        services = {
            name: held.enter_context(
                Service(
                    name,
                    port=ports[name],
                    environment=environment
                    | {"AQUIFER_SERVICE_KEY": keys["service_keys"].get(name, "")},
                    folder=folder,
                    guardian=guardian,
                    log=folder / f"{name}.log",
                )
            )
            for name, environment in environments.items()
        }
        yield Servers(bus, database, vectors, services, keys)


def first_keys(folder: Path, guardian: Guardian, environment: dict[str, str]) -> dict[str, Any]:
    output = folder / "keys.json"
    command = make_python_command(
        "auth",
        *("bootstrap", "--tenant", "acme", "--output", str(output)),
        folder=folder,
        log=folder / "bootstrap.log",
        environment=environment,
    )
    run_all([command], guardian, timeout_s=90)
    keys: dict[str, Any] = json.loads(output.read_text())
    return keys


def signing_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        .decode()
    )


@pytest.fixture
async def caller(servers: Servers) -> AsyncIterator[Any]:
    """The query service as the first tenant's key holder sees it."""
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(servers.channel())
        yield Caller(QueryServiceStub(channel), await servers.token(servers.keys["api_key"]))


@dataclass
class Caller:
    """Calls with a token."""

    stub: QueryServiceStub
    metadata: list[tuple[str, str]]

    def __getattr__(self, method: str) -> Any:
        call = getattr(self.stub, method)
        return lambda request, **options: call(
            request, **{"metadata": self.metadata, "timeout": 30, **options}
        )
