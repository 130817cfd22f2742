"""The base class of the parts of the stack, each a supervised process."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import ClassVar, Self

from chassis.base.errors import UnavailableError
from stack.guardian import Guardian
from stack.processes import Child, Command, log_tail

ANSWER_S = 3.0
_POLL_S = 0.02


def do_nothing() -> None:
    """The default for `then`."""


class Part(ABC):
    """A server of the stack with its own port and folder; it can be started again after its end.

    Args:
        name: shown in output, and the name of its log file.
        log: file to which its output is appended.
        then: called after each start, before the part counts as started.
    """

    start_s: ClassVar[float] = 30.0
    grace_s: ClassVar[float] = 10.0

    def __init__(
        self, name: str, *, guardian: Guardian, log: Path, then: Callable[[], None] = do_nothing
    ) -> None:
        self.name = name
        self.guardian = guardian
        self.log = log
        self.then = then
        self._child: Child | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """The address it listens on, for output."""

    @abstractmethod
    def command(self) -> Command:
        """Creates the folders and files it needs, and returns the command to run."""

    @abstractmethod
    def find_problem(self) -> str:
        """One check, within a second: why this process is not ready; empty if it is."""

    def is_ready(self) -> bool:
        """True if this process is ready."""
        return not self.find_problem()

    def is_responding(self) -> bool:
        """One check, within `ANSWER_S`: True if it answers at all, even if it is not ready.

        A process that is stopped, or hangs, does not answer.
        """
        return self.is_ready()

    def progress(self) -> int:
        """A number that increases while it works on what keeps it from being ready."""
        return 0

    @property
    def pid(self) -> int | None:
        """Process id; None before the first start and after its end."""
        return self._child.pid if self._child and self.running else None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """Exit code of its last run, minus the signal number after a signal; None while it runs."""
        return self._child.exit_code if self._child else None

    def start(self) -> None:
        """Starts it and waits until it is ready; does nothing if it is running.

        Raises:
            UnavailableError: PART_NOT_READY, it ended or is not ready within `start_s`.
        """
        if self.running:
            return
        self.spawn()
        started_at = time.monotonic()
        while problem := self.find_problem():
            self.raise_if_failed(problem, time.monotonic() - started_at)
            time.sleep(_POLL_S)
        self.then()

    def spawn(self) -> None:
        """Starts it without waiting; `find_problem` shows when it is ready."""
        assert not self.running
        self._child = Child(self.command(), self.guardian)

    def raise_if_failed(self, problem: str, waited_s: float) -> None:
        """Kills it and raises if it has ended or is not ready after `start_s`.

        Args:
            problem: why it is not ready.
            waited_s: seconds since its start, or since its progress last increased.

        Raises:
            UnavailableError: PART_NOT_READY, with the last lines of its log.
        """
        if self.running and waited_s < self.start_s:
            return
        if self.running:
            why = f"was not ready after {waited_s:.0f} s: {problem}"
        else:
            why = f"ended with code {self.exit_code} after {waited_s:.1f} s"
        self.kill()
        tail = log_tail(self.log)
        said = f"the end of {self.log}:\n{tail}" if tail else f"it wrote nothing to {self.log}"
        raise UnavailableError(
            "PART_NOT_READY", f"{self.name} {why}; {said}", part=self.name, log=self.log
        )

    def stop(self) -> None:
        """Asks it to end; kills it after `grace_s`."""
        if self._child:
            self._child.stop(self.grace_s)

    def kill(self) -> None:
        """Kills it and all its children at once, like `kill -9`."""
        if self._child:
            self._child.kill()

    def restart(self) -> None:
        """Stops it and starts it again with the same folder and port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Suspends it and all its children: its sockets stay open, but nothing answers."""
        if self._child:
            self._child.suspend()

    def thaw(self) -> None:
        """Continues a suspended part."""
        if self._child:
            self._child.send(Signals.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
