"""The Python programs of the stack: trace sink, vector process and the four services."""

import http.client
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from typing_extensions import override

from stack.guardian import Guardian
from stack.part import Part, nothing
from stack.ports import LOOPBACK, accepts
from stack.processes import Command

_PROBE_S = 0.5
_HEALTH = "/grpc.health.v1.Health/Check"


def python(
    module: str,
    *arguments: str,
    folder: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Command:
    """A module run by this interpreter, in our environment and `environment` over it."""
    settings = {
        **os.environ,
        # Logs appear as they are written; nothing is imported from the working folder; no
        # numeric library takes every core for work that fits one.
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **(environment or {}),
    }
    return Command(
        argv=(sys.executable, "-m", module, *arguments),
        environment=settings,
        folder=folder,
        log=log,
    )


class Sink(Part):
    """The trace store: OTLP over gRPC on one port, Tempo's query API on another."""

    grace_s: ClassVar[float] = 5.0

    def __init__(
        self, database: Path, *, otlp_port: int, http_port: int, guardian: Guardian, log: Path
    ) -> None:
        super().__init__("traces", guardian=guardian, log=log)
        self.database = database
        self.otlp_port = otlp_port
        self.http_port = http_port

    @property
    def endpoint(self) -> str:
        """Where spans are sent: OTLP over gRPC."""
        return f"http://{LOOPBACK}:{self.otlp_port}"

    @property
    def url(self) -> str:
        """Where traces are asked for."""
        return f"http://{LOOPBACK}:{self.http_port}"

    @property
    @override
    def address(self) -> str:
        return self.url

    @override
    def command(self) -> Command:
        self.database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return python(
            "stack.sink",
            *("--otlp", f"{LOOPBACK}:{self.otlp_port}"),
            *("--http", f"{LOOPBACK}:{self.http_port}"),
            *("--database", str(self.database)),
            folder=self.database.parent,
            log=self.log,
        )

    @override
    def ready(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.http_port, timeout=_PROBE_S)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.client.OK and accepts(self.otlp_port)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Vectors(Part):
    """The vector engine in a process of its own, behind a unix socket."""

    def __init__(self, data: Path, *, socket_path: Path, guardian: Guardian, log: Path) -> None:
        super().__init__("vectors", guardian=guardian, log=log)
        self.data = data
        self.socket_path = socket_path

    @property
    @override
    def address(self) -> str:
        return f"unix:{self.socket_path}"

    @override
    def command(self) -> Command:
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        return python(
            "query.vectors",
            *("--socket", str(self.socket_path), "--data", str(self.data)),
            folder=self.data,
            log=self.log,
        )

    @override
    def ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            try:
                probe.connect(str(self.socket_path))
            except OSError:
                return False
        return True


class Service(Part):
    """One of the services, `python -m <name> serve`; ready when its gRPC health says SERVING."""

    start_s: ClassVar[float] = 90.0
    # A little more than a service takes to finish what is in flight.
    grace_s: ClassVar[float] = 25.0

    def __init__(
        self,
        name: str,
        *,
        port: int,
        environment: Mapping[str, str],
        folder: Path,
        guardian: Guardian,
        log: Path,
        then: Callable[[], None] = nothing,
    ) -> None:
        super().__init__(name, guardian=guardian, log=log, then=then)
        self.port = port
        self._environment = environment
        self._folder = folder

    @property
    @override
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @override
    def command(self) -> Command:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return python(
            self.name,
            "serve",
            folder=self._folder,
            log=self.log,
            environment={**self._environment, "AQUIFER_LISTEN": self.address},
        )

    @override
    def ready(self) -> bool:
        if not accepts(self.port):
            return False
        with grpc.insecure_channel(self.address) as channel:
            check = channel.unary_unary(
                _HEALTH,
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            try:
                answer = check(HealthCheckRequest(), timeout=_PROBE_S)
            except grpc.RpcError:
                return False
        return answer.status == HealthCheckResponse.SERVING
