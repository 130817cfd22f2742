"""The Python programs of the stack: trace sink, vector process and the four services."""

import http.client
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from stack.guardian import Guardian
from stack.health import check
from stack.part import ANSWER_S, Part, do_nothing
from stack.ports import LOOPBACK, is_listening
from stack.processes import Command

_PROBE_S = 0.5


def make_python_command(
    module: str,
    *arguments: str,
    folder: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Command:
    """A command that runs a module with this interpreter; `environment` extends the current one."""
    settings = {
        **os.environ,
        # Logs are not buffered; nothing is imported from the working folder; numeric libraries do
        # not use every core for small work.
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
    """The trace store: OTLP over gRPC on one port, Tempo's query API on another.

    If `forward` is set, it also forwards every span to that collector.
    """

    grace_s: ClassVar[float] = 5.0

    def __init__(
        self,
        database: Path,
        *,
        otlp_port: int,
        http_port: int,
        guardian: Guardian,
        log: Path,
        forward: str = "",
    ) -> None:
        super().__init__("traces", guardian=guardian, log=log)
        self.database = database
        self.otlp_port = otlp_port
        self.http_port = http_port
        self.forward = forward

    @property
    def endpoint(self) -> str:
        """The address for spans, OTLP over gRPC."""
        return f"http://{LOOPBACK}:{self.otlp_port}"

    @property
    def url(self) -> str:
        """The address of the query API."""
        return f"http://{LOOPBACK}:{self.http_port}"

    @property
    @override
    def address(self) -> str:
        return self.url

    @override
    def command(self) -> Command:
        self.database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return make_python_command(
            "stack.sink",
            *("--otlp", f"{LOOPBACK}:{self.otlp_port}"),
            *("--http", f"{LOOPBACK}:{self.http_port}"),
            *("--database", str(self.database)),
            *(("--forward", self.forward) if self.forward else ()),
            folder=self.database.parent,
            log=self.log,
        )

    @override
    def find_problem(self) -> str:
        status = self._status(_PROBE_S)
        if status != http.client.OK:
            return f"its health check says {status}" if status else f"no answer at {self.url}"
        return "" if is_listening(self.otlp_port) else f"nothing listens on port {self.otlp_port}"

    @override
    def is_responding(self) -> bool:
        return bool(self._status(ANSWER_S))

    def _status(self, timeout_s: float) -> int:
        """HTTP status of `/ready`; 0 without an answer."""
        connection = http.client.HTTPConnection(LOOPBACK, self.http_port, timeout=timeout_s)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


class Vectors(Part):
    """The vector process, on a unix socket; ready when its health says SERVING."""

    grace_s: ClassVar[float] = 25.0

    def __init__(
        self,
        data: Path,
        *,
        socket_path: Path,
        guardian: Guardian,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("vectors", guardian=guardian, log=log)
        self.data = data
        self.socket_path = socket_path
        self._environment = environment or {}

    @property
    @override
    def address(self) -> str:
        return f"unix:{self.socket_path}"

    @override
    def command(self) -> Command:
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        return make_python_command(
            "query.vectors",
            *("--socket", str(self.socket_path), "--data", str(self.data)),
            folder=self.data,
            log=self.log,
            environment=self._environment,
        )

    @override
    def find_problem(self) -> str:
        if not self.socket_path.is_socket():
            return f"no socket at {self.socket_path} yet"
        return check(self.address, _PROBE_S).problem

    @override
    def is_responding(self) -> bool:
        return check(self.address, ANSWER_S).answered


class Service(Part):
    """A service, `python -m <name> serve`; ready when its health says SERVING."""

    start_s: ClassVar[float] = 90.0
    # A little more than the drain time of a service.
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
        then: Callable[[], None] = do_nothing,
    ) -> None:
        super().__init__(name, guardian=guardian, log=log, then=then)
        self.port = port
        self._environment = environment
        self._folder = folder
        self._progress = 0

    @property
    @override
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @override
    def command(self) -> Command:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return make_python_command(
            self.name,
            "serve",
            folder=self._folder,
            log=self.log,
            environment={**self._environment, "AQUIFER_LISTEN": self.address},
        )

    @override
    def find_problem(self) -> str:
        if not is_listening(self.port):
            return f"nothing listens on {self.address} yet"
        health = check(self.address, _PROBE_S)
        self._progress = health.progress
        return health.problem

    @override
    def is_responding(self) -> bool:
        return check(self.address, ANSWER_S).answered

    @override
    def progress(self) -> int:
        return self._progress
