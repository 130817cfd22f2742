"""Aquifer on one machine: every part on loopback, all data in one folder."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from aquifer.services import NAMES, WITH_TABLES, address_variable
from chassis.base.errors import InvalidInputError
from chassis.events import topology
from stack import roles, secrets, steps
from stack.data_dir import DataDir
from stack.first_keys import make_first_keys, read_first_keys
from stack.forward import parse_target
from stack.guardian import Guardian
from stack.nats import Nats, NatsUser
from stack.part import Part
from stack.ports import LOOPBACK, free_ports, ports_from
from stack.postgres import SUPERUSER, Postgres
from stack.private_files import write_private
from stack.processes import append_log, run_all
from stack.programs import Service, Sink, Vectors, make_python_command
from stack.slow_start import SlowStart
from stack.supervisor import Notice, StopRequest, Supervisor

TENANT = "default"
UPSTREAM = f"upstream-{TENANT}"
PROVISIONER = "provisioner"
TABLELESS = tuple(name for name in NAMES if name not in WITH_TABLES)
_SERVERS = (*NAMES, "nats", "postgres", "otlp", "traces", "nats-monitor")
_PORTS = (*_SERVERS, *(f"{service}-metrics" for service in NAMES))
_STEP_S = 60.0
# Streams reserve their whole `max_bytes`; this is left for the server itself.
_SPARE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Addresses of all parts, and the first key; stored in `endpoints.json`.

    Attributes:
        services: address of each service.
        nats: address, user and password of the first tenant's upstream system.
        parts: address of each part that is not a service.
        metrics: URL of the metrics of each service.
    """

    version: int = 1
    services: Mapping[str, str]
    nats: Mapping[str, str] = field(repr=False)
    traces: str
    parts: Mapping[str, str]
    metrics: Mapping[str, str]
    data_dir: str
    tenant: str
    api_key: str = field(repr=False)


class Stack:
    """Aquifer on one machine; locks its data folder until `close`.

    Args:
        path: the data folder; a new folder starts empty.
        base_port: first of 13 ports; by default free ports, chosen at random.
        say: called with the events of each part.
        stop: the request that interrupts `start` and ends `supervise`.
        alone: this process does nothing else, see `Supervisor`.

    Raises:
        FailedPreconditionError: DATA_DIR_IN_USE, PORT_IN_USE.
    """

    def __init__(
        self,
        path: Path,
        *,
        base_port: int | None = None,
        say: Callable[[Notice], None] = lambda _: None,
        stop: StopRequest | None = None,
        alone: bool = False,
    ) -> None:
        self._stop = stop or StopRequest()
        self._say = say
        with ExitStack() as held:
            self.data = held.enter_context(DataDir(path))
            # The ports of a killed stack are free when its folder is unlocked.
            count = len(_PORTS)
            picked = free_ports(count) if base_port is None else ports_from(base_port, count)
            self._ports = dict(zip(_PORTS, picked, strict=True))
            self.guardian = held.enter_context(Guardian(keep_open=(self.data.lock,)))
            self._supervisor = Supervisor(
                guardian=self.guardian, say=say, stop=self._stop, alone=alone
            )
            held.callback(self._supervisor.stop)
            self._make_parts()
            self._held = held.pop_all()

    def start(self) -> Endpoints:
        """Starts everything and writes `endpoints.json`; returns when every part is ready.

        Each part waits only for what it needs. On the first start services wait for their keys;
        later only those with tables wait for Postgres and its migrations.

        Raises:
            UnavailableError: PART_NOT_READY or STEP_FAILED; call `close`.
            StopRequestedError: call `close`.
        """
        self.data.endpoints.unlink(missing_ok=True)
        self._supervisor.spawn(self.nats, self.vectors, self.sink)
        if self.data.first_keys.exists():
            self._spawn_services(TABLELESS)
        self._supervisor.spawn(self.postgres)
        self._supervisor.wait(self.postgres)
        self._spawn_services(name for name in NAMES if name not in self.parts)
        self._supervisor.wait(
            *self.parts.values(), waiting=SlowStart(self._say, self._write_endpoints)
        )
        return self._write_endpoints()

    def supervise(self) -> None:
        """Restarts parts that end, until the request to stop."""
        self._supervisor.watch()

    def close(self) -> None:
        """Stops all parts, the last one started first, and unlocks the data folder."""
        self.data.endpoints.unlink(missing_ok=True)
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make_parts(self) -> None:
        grants = {**topology.permissions(), UPSTREAM: topology.upstream_permissions(TENANT)}
        self._secrets = secrets.load(
            self.data.secrets, nats=grants, postgres=(SUPERUSER, *roles.LOGINS)
        )
        self.nats = self._nats(grants)
        self.postgres = Postgres(
            self.data.path / "postgres",
            password=self._secrets.postgres[SUPERUSER],
            guardian=self.guardian,
            log=self.data.log("postgres"),
            port=self._ports["postgres"],
            then=self._prepare_database,
        )
        self.sink = Sink(
            self.data.path / "traces" / "spans.sqlite",
            otlp_port=self._ports["otlp"],
            http_port=self._ports["traces"],
            guardian=self.guardian,
            log=self.data.log("traces"),
            forward=_read_collector(),
        )
        self.vectors = Vectors(
            self.data.path / "vectors",
            socket_path=self.data.socket("vectors"),
            guardian=self.guardian,
            log=self.data.log("vectors"),
            environment={"AQUIFER_OTLP_ENDPOINT": self.sink.endpoint},
        )
        self.parts: dict[str, Part] = {
            part.name: part for part in (self.nats, self.postgres, self.sink, self.vectors)
        }

    def _nats(self, grants: Mapping[str, topology.Permissions]) -> Nats:
        return Nats(
            self.data.path / "nats",
            users=[
                NatsUser(
                    name=name,
                    password=self._secrets.nats[name],
                    publish=grant.publish,
                    subscribe=grant.subscribe,
                )
                for name, grant in grants.items()
            ],
            guardian=self.guardian,
            log=self.data.log("nats"),
            port=self._ports["nats"],
            monitor_port=self._ports["nats-monitor"],
            max_file_bytes=_SPARE_BYTES + sum(each.max_bytes for each in topology.streams()),
            then=self._provision,
        )

    def _provision(self) -> None:
        """Declares streams and consumers, after each start because the store may have been lost."""
        changes = steps.provision(
            self.nats.url,
            PROVISIONER,
            self._secrets.nats[PROVISIONER],
            cancelled=lambda: self._supervisor.ending,
        )
        if changes:
            append_log(self.data.log("provision"), changes)
            self._say(Notice("nats", "declared", f"{len(changes)} streams and consumers"))

    def _prepare_database(self) -> None:
        """Updates roles and schemas, and creates the first keys if there are none."""
        roles.prepare(self.postgres.superuser_dsn, self._secrets.postgres)
        owners = {service: self._dsn(f"{service}_owner") for service in WITH_TABLES}
        applied = steps.migrate(owners)
        if applied:
            append_log(self.data.log("migrate"), applied)
            self._say(Notice("postgres", "migrated", f"{len(applied)} migrations applied"))
        make_first_keys(self.data.first_keys, self._bootstrap)

    def _bootstrap(self, output: Path) -> None:
        command = make_python_command(
            "auth",
            *("bootstrap", "--tenant", TENANT, "--output", str(output)),
            folder=self.data.path,
            log=self.data.log("auth-bootstrap"),
            environment=self._environment("auth"),
        )
        run_all(
            [command],
            self.guardian,
            timeout_s=_STEP_S,
            cancelled=lambda: self._supervisor.ending,
        )

    def _spawn_services(self, names: Iterable[str]) -> None:
        services = {name: self._service(name) for name in names}
        self.parts.update(services)
        self._supervisor.spawn(*services.values())

    def _service(self, name: str) -> Service:
        environment = self._environment(name)
        keys = read_first_keys(self.data.first_keys)
        if name in keys.service_keys:
            environment["AQUIFER_SERVICE_KEY"] = keys.service_keys[name]
        return Service(
            name,
            port=self._ports[name],
            environment=environment,
            folder=self.data.path,
            guardian=self.guardian,
            log=self.data.log(name),
        )

    def _environment(self, service: str) -> dict[str, str]:
        """Settings of a service; it gets only its own password."""
        settings = {
            **self._bus(service),
            "AQUIFER_METRICS_LISTEN": self._address(f"{service}-metrics"),
            "AQUIFER_OTLP_ENDPOINT": self.sink.endpoint,
            **{address_variable(name): self._address(name) for name in NAMES},
        }
        if service in WITH_TABLES:
            settings["AQUIFER_POSTGRES_DSN"] = self._dsn(service)
        match service:
            case "auth":
                settings["AQUIFER_AUTH_PEPPER"] = self._secrets.auth_pepper
                settings["AQUIFER_AUTH_SIGNING_KEY"] = self._secrets.auth_signing_key
            case "ingest":
                settings["AQUIFER_OBJECTS_URL"] = str(self.data.path / "objects")
                settings["AQUIFER_PASSWORD_KEY"] = self._secrets.password_key
            case "inference":
                settings["AQUIFER_CREDENTIAL_KEY"] = self._secrets.credential_key
            case "query":
                settings["AQUIFER_VECTORS"] = self.vectors.address
        return settings

    def _bus(self, user: str) -> dict[str, str]:
        return {
            "AQUIFER_NATS_URL": self.nats.url,
            "AQUIFER_NATS_USER": user,
            "AQUIFER_NATS_PASSWORD": self._secrets.nats[user],
        }

    def _dsn(self, role: str) -> str:
        return self.postgres.dsn(role, self._secrets.postgres[role], database=roles.DATABASE)

    def _address(self, port: str) -> str:
        return f"{LOOPBACK}:{self._ports[port]}"

    def _write_endpoints(self) -> Endpoints:
        keys = read_first_keys(self.data.first_keys)
        endpoints = Endpoints(
            services={name: self._address(name) for name in NAMES},
            nats={
                "url": self.nats.url,
                "user": UPSTREAM,
                "password": self._secrets.nats[UPSTREAM],
            },
            traces=self.sink.url,
            parts={
                "nats": f"http://{self._address('nats-monitor')}",
                "postgres": self.postgres.address,
                "vectors": self.vectors.address,
                "traces": self.sink.url,
            },
            data_dir=str(self.data.path),
            metrics={
                service: f"http://{self._address(f'{service}-metrics')}/metrics"
                for service in NAMES
            },
            tenant=keys.tenant,
            api_key=keys.api_key,
        )
        # Addresses of services are at the top level of the file: scripts read `.query`.
        kept = asdict(endpoints)
        text = json.dumps({**kept.pop("services"), **kept}, indent=1)
        write_private(self.data.endpoints, text + "\n")
        return endpoints


def _read_collector() -> str:
    """The OTLP collector in the environment of the stack, which also gets every span.

    Raises:
        InvalidInputError: SETTING_INVALID.
    """
    endpoint = os.environ.get("AQUIFER_OTLP_ENDPOINT", "")
    if endpoint:
        try:
            parse_target(endpoint)
        except ValueError as error:
            raise InvalidInputError("SETTING_INVALID", f"AQUIFER_OTLP_ENDPOINT: {error}") from error
    return endpoint
