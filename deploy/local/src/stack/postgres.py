"""PostgreSQL on loopback, with password authentication only.

The server refuses to run as root. If root starts the stack, it runs as the user `postgres`, else as
`nobody`. The cluster belongs to that user, and the data folder above it gets `o+x`, which lets the
user pass through but not list it. Folders above the data folder are not changed; if the user cannot
pass through one of them, the start fails with an explanation.
"""

import os
import pwd
import shutil
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import Signals
from typing import ClassVar
from urllib.parse import quote

import psycopg
from typing_extensions import override

from chassis.base.errors import FailedPreconditionError
from stack.guardian import Guardian
from stack.part import ANSWER_S, Part, do_nothing
from stack.ports import LOOPBACK, free_ports
from stack.postgres_binaries import find_binaries, find_closed_folder, make_reachable
from stack.processes import Account, Command, run_all

SUPERUSER = "postgres"
_ACCOUNTS = ("postgres", "nobody")
_INITDB_S = 60.0
_PASS = 0o001
# The SSLRequest message of the protocol: its length and its code.
_TLS_REQUEST = struct.pack("!ii", 8, 80_877_103)
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    # Detail lines would log the failing row, which can contain document text.
    "log_error_verbosity": "terse",
}


class Postgres(Part):
    """A PostgreSQL cluster, created on the first start.

    Args:
        folder: of the cluster; its parent must exist.
        password: of the superuser `postgres`, set when the cluster is created.
        port: a free one by default.
        binaries: folder of `initdb` and `postgres`; by default from `find_binaries`.
    """

    start_s: ClassVar[float] = 30.0
    grace_s: ClassVar[float] = 10.0

    def __init__(
        self,
        folder: Path,
        *,
        password: str,
        guardian: Guardian,
        log: Path | None = None,
        port: int | None = None,
        binaries: Path | None = None,
        then: Callable[[], None] = do_nothing,
    ) -> None:
        super().__init__(
            "postgres", guardian=guardian, log=log or folder.parent / "postgres.log", then=then
        )
        self.folder = folder
        self.port = port or free_ports(1)[0]
        self._password = password
        self._binaries = binaries
        self._account = _account()
        # True if only root can enter a folder above, for example /root.
        self._shut = False

    @property
    @override
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def cluster(self) -> Path:
        """The data directory of the server."""
        return self.folder / "cluster"

    @property
    def superuser_dsn(self) -> str:
        return self.dsn(SUPERUSER, self._password, database="postgres")

    def dsn(self, role: str, password: str, *, database: str = "aquifer") -> str:
        """Connection address of a role."""
        return (
            f"postgresql://{quote(role, safe='')}:{quote(password, safe='')}"
            f"@{LOOPBACK}:{self.port}/{database}"
        )

    @override
    def command(self) -> Command:
        self._prepare_folder()
        if not self.cluster.exists():
            self._make_cluster()
        self._forget_dead_server()
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        # Fast shutdown: rolls back open transactions and does not wait for clients.
        return self._run(
            "postgres",
            *("-D", str(self.cluster), "-p", str(self.port), *settings),
            stop_signal=Signals.SIGINT,
        )

    @override
    def find_problem(self) -> str:
        try:
            with psycopg.connect(self.superuser_dsn, connect_timeout=1) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.OperationalError as error:
            return str(error).strip().rpartition("\n")[2]
        if row is None or row[0] != str(self.cluster):
            return f"another PostgreSQL answers on port {self.port}"
        return ""

    @override
    def is_responding(self) -> bool:
        """The server answers a TLS request before login, even if all connections are in use."""
        try:
            with socket.create_connection((LOOPBACK, self.port), ANSWER_S) as connection:
                connection.sendall(_TLS_REQUEST)
                return bool(connection.recv(1))
        except OSError:
            return False

    def _run(
        self, program: str, *arguments: str, stop_signal: Signals = Signals.SIGTERM
    ) -> Command:
        argv = (str(self._server() / program), *arguments)
        return Command(
            argv=(*_run_as(self._account), *argv) if self._shut else argv,
            environment={"LC_ALL": "C", "PATH": os.defpath},
            folder=self.folder,
            log=self.log,
            account=None if self._shut else self._account,
            stop_signal=stop_signal,
        )

    def _prepare_folder(self) -> None:
        self.folder.mkdir(exist_ok=True, mode=0o700)
        if self._account is None:
            return
        holder = self.folder.parent
        if not holder.stat().st_mode & _PASS:
            holder.chmod(holder.stat().st_mode | _PASS)
        shut = find_closed_folder(holder)
        self._shut = shut is not None
        if shut and shutil.which("setpriv") is None:
            raise FailedPreconditionError(
                "POSTGRES_FOLDER_UNREACHABLE",
                f"PostgreSQL does not run as root, and the user {self._account.name} cannot enter "
                f"{shut}; choose another data folder, for example /var/lib/aquifer, or start "
                "the stack as an ordinary user",
                folder=shut,
            )
        os.chown(self.folder, self._account.uid, self._account.gid)

    def _make_cluster(self) -> None:
        """Creates the cluster in a temporary folder and renames it when complete."""
        draft = self.folder / "cluster.new"
        shutil.rmtree(draft, ignore_errors=True)
        secret = self.folder / "password"
        secret.unlink(missing_ok=True)
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._password)
            if self._account:
                os.fchown(file.fileno(), self._account.uid, self._account.gid)
        initdb = self._run(
            "initdb",
            *("--pgdata", str(draft), "--username", SUPERUSER, "--pwfile", str(secret)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--data-checksums"),
        )
        try:
            run_all([initdb], self.guardian, timeout_s=_INITDB_S)
        finally:
            secret.unlink()
        draft.rename(self.cluster)

    def _forget_dead_server(self) -> None:
        """Removes the pid file of a killed server, unless that server still runs.

        The server takes any process of its user with that pid for a running server, and an empty
        file for one being written, and would never start. This is safe because the data folder is
        locked.
        """
        note = self.cluster / "postmaster.pid"
        if not note.exists():
            return
        number = note.read_text().partition("\n")[0]
        program = Path("/proc", number, "comm")
        if not number.isdigit() or (program.exists() and program.read_text().strip() != "postgres"):
            note.unlink()

    def _server(self) -> Path:
        """Folder of the programs, of the version that created the cluster."""
        made_by = self.cluster / "PG_VERSION"
        major = int(made_by.read_text()) if made_by.exists() else None
        if self._account is None:
            return self._binaries or find_binaries(major)
        folder = self._binaries or find_binaries(major, shared=True)
        return make_reachable(folder, self.folder.with_name(f"{self.folder.name}-server"))


def _run_as(account: Account | None) -> tuple[str, ...]:
    """A prefix that runs a program as `account` with the right to enter closed folders.

    The right also lets it read files; it is used only if there is no other way.
    """
    assert account is not None
    right = "+dac_read_search"
    return (
        *("setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"),
        *(f"--inh-caps={right}", f"--ambient-caps={right}"),
    )


def _account() -> Account | None:
    """The user that runs the server: None for the current user, unless that is root."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=found.pw_uid, gid=found.pw_gid)
    raise FailedPreconditionError(
        "POSTGRES_ACCOUNT_MISSING",
        f"PostgreSQL does not run as root; create one of the users {', '.join(_ACCOUNTS)}",
    )
