"""A nats-server and a PostgreSQL for tests, on free ports."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from chassis.base.postgres import migrate
from chassis.events import topology
from chassis.events.bus import Bus, open_bus
from chassis.events.provision import provision
from stack import roles
from stack.guardian import Guardian
from stack.nats import Nats, NatsUser
from stack.postgres import Postgres

SUPERUSER_PASSWORD = "test-superuser"  # noqa: S105  (a server on loopback that lives for one test run)


def password_of(name: str) -> str:
    """The password of a NATS user or Postgres role in tests."""
    return f"test-{name}"


@dataclass(frozen=True, slots=True)
class TestBus:
    """A broker with the users and permissions of all services, and an administrator."""

    __test__ = False

    server: Nats

    @property
    def url(self) -> str:
        """The address of the broker."""
        return self.server.url

    @asynccontextmanager
    async def connect(self, user: str) -> AsyncIterator[Bus]:
        """A connected bus of one user; `provisioner` may use the whole JetStream API."""
        async with open_bus(
            self.url, user, password_of(user), name=f"test-{user}", lost=lambda: None
        ) as bus:
            await bus.wait_until_connected()
            yield bus

    async def provision(self) -> None:
        """Creates missing streams and durables of the contract."""
        async with self.connect("provisioner") as bus:
            await provision(bus.jetstream, replicas=1, apply=True)

    async def reset(self) -> None:
        """Deletes and creates all streams, so that nothing is left from another test."""
        async with self.connect("provisioner") as bus:
            for info in await bus.jetstream.streams_info():
                await bus.jetstream.delete_stream(str(info.config.name))
            await provision(bus.jetstream, replicas=1, apply=True)


@contextmanager
def start_bus(folder: Path, guardian: Guardian) -> Iterator[TestBus]:
    """A broker on a free port; the user `upstream` is an upstream system of tenant `default`."""
    grants = dict(topology.permissions())
    grants["upstream"] = topology.upstream_permissions("default")
    users = [
        NatsUser(
            name=name,
            password=password_of(name),
            publish=permissions.publish,
            subscribe=permissions.subscribe,
        )
        for name, permissions in grants.items()
    ]
    with Nats(folder / "nats", users=users, guardian=guardian) as server:
        yield TestBus(server)


@dataclass(frozen=True, slots=True)
class TestDatabase:
    """A database `aquifer` with the roles and schemas of all services."""

    __test__ = False

    server: Postgres

    def dsn(self, role: str) -> str:
        """The connection address for a role."""
        return self.server.dsn(role, password_of(role))

    @property
    def superuser_dsn(self) -> str:
        """The connection address for the superuser."""
        return self.server.dsn("postgres", SUPERUSER_PASSWORD)

    def migrate(self, service: str) -> None:
        """Creates or updates the tables of a service."""
        migrate(self.dsn(f"{service}_owner"), service)

    def clear(self, service: str) -> None:
        """Deletes all rows of a service. Does not truncate: that costs three times as much."""
        with psycopg.connect(self.superuser_dsn) as connection:
            names = connection.execute(
                "SELECT tablename FROM pg_tables"
                " WHERE schemaname = %s AND tablename <> 'schema_migrations'",
                [service],
            ).fetchall()
            deletes = [
                sql.SQL("DELETE FROM {}").format(sql.Identifier(service, name)) for (name,) in names
            ]
            # As a replica: without triggers, so that rows may go before those that refer to them.
            connection.execute("SET session_replication_role = replica")
            connection.execute(sql.SQL("; ").join(deletes))


@contextmanager
def start_database(folder: Path, guardian: Guardian) -> Iterator[TestDatabase]:
    """A PostgreSQL on a free port, with roles and schemas, without tables."""
    with Postgres(folder / "postgres", password=SUPERUSER_PASSWORD, guardian=guardian) as server:
        roles.prepare(server.superuser_dsn, {name: password_of(name) for name in roles.LOGINS})
        yield TestDatabase(server)
