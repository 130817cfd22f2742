"""Servers in containers, with the interface of the testkit's servers."""

import importlib.util
import json
import socket
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from testcontainers.core.container import DockerContainer

from chassis.events import topology
from stack import roles
from stack.ports import LOOPBACK, free_ports, is_listening
from testkit.servers import SUPERUSER_PASSWORD, TestBus, TestDatabase, password_of
from tests.containers.images import NATS, POSTGRES, QDRANT

START_S = 90.0
_PREPARE = Path(__file__).parents[2] / "deploy" / "prepare.py"


class Server(ABC):
    """A container on a port of loopback that it keeps, killed and started as a test wants."""

    def __init__(self, container: DockerContainer, inner_port: int) -> None:
        self.port = free_ports(1)[0]
        self._container = container
        # The library takes numbers; the engine's client below it also takes an address to bind.
        container.ports[inner_port] = (LOOPBACK, self.port)  # type: ignore[assignment]

    @abstractmethod
    def is_ready(self) -> bool:
        """The server itself answers: the engine's proxy takes connections before it does."""

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.is_ready():
            if time.monotonic() > deadline:
                out, err = self._container.get_logs()
                raise TimeoutError((out + err).decode(errors="replace")[-2000:])
            time.sleep(0.1)

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._container:
            self.wait()
            yield


class NatsServer(Server):
    """The broker, with the settings and grants the containers of deploy/ get."""

    def __init__(self, folder: Path) -> None:
        grants = {
            **topology.permissions(),
            "upstream": topology.upstream_permissions("default"),
        }
        passwords = {name: password_of(name) for name in grants}
        settings = prepare().nats_settings(grants, passwords)
        self.max_file_bytes = settings["jetstream"]["max_file_store"]
        configuration = _readable(folder / "nats.conf", json.dumps(settings))
        super().__init__(
            DockerContainer(NATS.reference)
            .with_command(["nats-server", "--config", "/etc/aquifer-nats.conf"])
            .with_volume_mapping(configuration, "/etc/aquifer-nats.conf", "ro"),
            4222,
        )

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=2) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False


class PostgresServer(Server):
    """The database, entered by password as in deploy/."""

    def __init__(self, folder: Path) -> None:
        password = _readable(folder / "password", SUPERUSER_PASSWORD)
        super().__init__(
            DockerContainer(POSTGRES.reference)
            .with_env("POSTGRES_PASSWORD_FILE", "/run/password")
            .with_env("POSTGRES_INITDB_ARGS", "--auth=scram-sha-256 --encoding=UTF8 --locale=C")
            .with_env("PGDATA", "/var/lib/aquifer-postgres/cluster")
            .with_volume_mapping(password, "/run/password", "ro"),
            5432,
        )

    def is_ready(self) -> bool:
        try:
            psycopg.connect(
                self.dsn("postgres", SUPERUSER_PASSWORD, database="postgres"), connect_timeout=2
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def dsn(self, role: str, password: str, *, database: str = "aquifer") -> str:
        return f"postgresql://{role}:{password}@{LOOPBACK}:{self.port}/{database}"


class QdrantServer(Server):
    """The vector store; the adapter's queries go by gRPC, on a second port."""

    def __init__(self) -> None:
        self.grpc_port = free_ports(1)[0]
        container = DockerContainer(QDRANT.reference)
        container.ports[6334] = (LOOPBACK, self.grpc_port)  # type: ignore[assignment]
        super().__init__(container, 6333)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return answer.status == 200 and is_listening(self.grpc_port)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def start_bus(folder: Path) -> Iterator[TestBus]:
    server = NatsServer(folder)
    with server.running():
        yield TestBus(server)


@contextmanager
def start_database(folder: Path) -> Iterator[TestDatabase]:
    server = PostgresServer(folder)
    with server.running():
        superuser = server.dsn("postgres", SUPERUSER_PASSWORD, database="postgres")
        roles.prepare(superuser, {name: password_of(name) for name in roles.LOGINS})
        yield TestDatabase(server)


def prepare() -> Any:
    """The script that renders the settings of containers."""
    spec = importlib.util.spec_from_file_location("prepare", _PREPARE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _readable(path: Path, text: str) -> Path:
    """A file for a server that reads as a user of its image's choice."""
    path.write_text(text)
    path.chmod(0o444)
    return path
