"""Starts children of this process and ends them with all their descendants."""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from signal import Signals

from chassis.base.errors import UnavailableError
from stack.guardian import Guardian
from stack.trees import descendants, kill_tree, suspend_tree

LOG_BYTES_MAX = 16 << 20
_KILL_WAIT_S = 10.0
_POLL_S = 0.02
_TAIL_BYTES = 4096
_TAIL_LINES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An operating system user a child runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to start; `environment` is complete, nothing is inherited."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    log: Path
    account: Account | None = None
    stop_signal: Signals = Signals.SIGTERM


class Child:
    """A running program in its own process group, known to the guardian."""

    def __init__(self, command: Command, guardian: Guardian) -> None:
        account = command.account
        self.command = command
        self._guardian = guardian
        self._forgotten = False
        guardian.ensure_running()
        with _open_log(command.log) as log:
            self._process = subprocess.Popen(  # noqa: S603  (our own programs, no shell text)
                guardian.wrap(command.argv, command.stop_signal),
                env=dict(command.environment),
                cwd=command.folder,
                stdin=guardian.announcements,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        guardian.remember(self.pid, command.stop_signal)

    @property
    def pid(self) -> int:
        """Process id, and process group id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal number after a signal."""
        code = self._process.poll()
        if code is not None and not self._forgotten:
            kill_tree(self.pid, ())
            self._guardian.forget(self.pid)
            self._forgotten = True
        return code

    def stop(self, grace_s: float) -> None:
        """Asks it to end, waits `grace_s`, then kills it and its children."""
        if self.exit_code is not None:
            return
        family = descendants(self.pid)
        self._process.send_signal(self.command.stop_signal)
        # A stopped process would not receive the signal.
        self._process.send_signal(Signals.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self._end(family)

    def kill(self) -> None:
        """Kills it and all its children at once, like `kill -9`; returns when it has ended."""
        if self.exit_code is None:
            self._end(descendants(self.pid))

    def send(self, number: Signals) -> None:
        """Sends a signal to it and all its children."""
        if self.exit_code is None:
            for pid in (self.pid, *descendants(self.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def suspend(self) -> None:
        """Suspends it and all its children; returns when none of their threads runs any more."""
        if self.exit_code is None:
            suspend_tree((self.pid, *descendants(self.pid)))

    def _end(self, family: Iterable[int]) -> None:
        kill_tree(self.pid, family)
        self._process.wait(_KILL_WAIT_S)
        assert self.exit_code is not None


def run_all(
    commands: Sequence[Command],
    guardian: Guardian,
    *,
    timeout_s: float,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Runs programs concurrently until each has ended with code 0.

    Raises:
        UnavailableError: STEP_FAILED, one ended with another code, they took more than `timeout_s`
            seconds, or `cancelled` returned true; running programs are killed.
    """
    deadline = time.monotonic() + timeout_s
    children = [Child(command, guardian) for command in commands]
    try:
        while any(child.exit_code is None for child in children):
            _raise_if_failed(children)
            if cancelled():
                raise UnavailableError("STEP_FAILED", "cancelled")
            if time.monotonic() > deadline:
                raise UnavailableError("STEP_FAILED", f"not done after {timeout_s:.0f} s")
            time.sleep(_POLL_S)
        _raise_if_failed(children)
    finally:
        for child in children:
            child.kill()


def _raise_if_failed(children: Iterable[Child]) -> None:
    for child in children:
        if child.exit_code:
            line = " ".join(Path(part).name for part in child.command.argv[:4])
            raise UnavailableError(
                "STEP_FAILED",
                f"`{line}` ended with code {child.exit_code}:\n{log_tail(child.command.log)}",
                exit_code=child.exit_code,
                log=child.command.log,
            )


def log_tail(log: Path) -> str:
    """The last lines of a log, indented; empty if there is no log."""
    if not log.exists():
        return ""
    with log.open("rb") as lines:
        lines.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = lines.read().decode(errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-_TAIL_LINES:])


def append_log(log: Path, lines: Iterable[str]) -> None:
    """Adds lines to a log."""
    with _open_log(log) as file:
        file.writelines(f"{line}\n".encode() for line in lines)


def _open_log(log: Path) -> BufferedWriter:
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_name(f"{log.name}.1"))
    return open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))
