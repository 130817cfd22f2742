"""The data folder of a stack, locked by one supervisor at a time."""

import fcntl
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from chassis.base.errors import FailedPreconditionError
from stack.guardian import GRACE_S
from stack.trees import is_alive

# sun_path has 108 bytes with its final zero; gRPC has the same limit.
SOCKET_PATH_BYTES = 107
_POLL_S = 0.05
# The guardian of a killed supervisor keeps the lock until it has ended all children.
_WAIT_S = GRACE_S + 10
_PRIVATE = 0o700


class DataDir:
    """A data folder, created if missing with mode 0700, and locked until `close`.

    The kernel releases the lock when its holders have ended: this process, and the guardian that
    inherits `lock`. A new supervisor waits while a guardian cleans up, and fails at once while
    another supervisor runs.

    Raises:
        FailedPreconditionError: DATA_DIR_IN_USE.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
        self.path = path.resolve()
        self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._acquire()
        except FailedPreconditionError:
            os.close(self.lock)
            raise

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.json"

    @property
    def endpoints(self) -> Path:
        return self.path / "endpoints.json"

    @property
    def first_keys(self) -> Path:
        return self.path / "first-keys.json"

    def log(self, part: str) -> Path:
        return self.path / "logs" / f"{part}.log"

    def socket(self, name: str) -> Path:
        """A unix socket in this folder, or in a short private folder if the path is too long.

        Raises:
            FailedPreconditionError: SOCKET_FOLDER_UNSAFE, the short folder belongs to another user
                or is open to others.
        """
        here = self.path / f"{name}.sock"
        if len(os.fsencode(here)) <= SOCKET_PATH_BYTES:
            return here
        known_by = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        short = Path(tempfile.gettempdir(), f"aquifer-{os.geteuid()}-{known_by}")
        short.mkdir(mode=_PRIVATE, exist_ok=True)
        status = short.lstat()
        if status.st_uid != os.geteuid() or status.st_mode != stat.S_IFDIR | _PRIVATE:
            raise FailedPreconditionError(
                "SOCKET_FOLDER_UNSAFE",
                f"{short} is not a private folder of this user; remove it",
                folder=short,
            )
        return short / f"{name}.sock"

    def close(self) -> None:
        os.close(self.lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _acquire(self) -> None:
        deadline = time.monotonic() + _WAIT_S
        while not self._lock_now():
            holder = os.pread(self.lock, 32, 0).decode()
            living = holder.isdigit() and is_alive(int(holder))
            if living or time.monotonic() > deadline:
                raise FailedPreconditionError(
                    "DATA_DIR_IN_USE",
                    f"{self.path} is in use by process {holder or 'unknown'}; stop it first",
                    path=self.path,
                    process=holder,
                )
            time.sleep(_POLL_S)
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, str(os.getpid()).encode(), 0)

    def _lock_now(self) -> bool:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
