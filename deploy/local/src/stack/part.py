"""One supervised process of the stack: started, asked whether it serves, stopped, killed."""

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
    """What most parts do once they are up."""


class Part(ABC):
    """A server of the stack, on its own port and folder; may be started again after it ended.

    Args:
        name: shown to people, and the name of its log file.
        log: file its output is appended to.
        then: called each time the part has come up, before it counts as started.
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
        """Where it listens, for people."""

    @abstractmethod
    def command(self) -> Command:
        """What to run; makes the folders and files it needs first."""

    @abstractmethod
    def find_problem(self) -> str:
        """One look, within a second: why this very process does not serve; empty when it does."""

    def is_ready(self) -> bool:
        """True when this very process serves."""
        return not self.find_problem()

    def is_responding(self) -> bool:
        """One look, within `ANSWER_S`: does it answer at all, if only that it can not serve now?

        A process that is stopped, or hangs, does not.
        """
        return self.is_ready()

    def progress(self) -> int:
        """A number that rises while it still works on what keeps it from serving."""
        return 0

    @property
    def pid(self) -> int | None:
        """Process id; None before the first start and after the end."""
        return self._child.pid if self._child and self.running else None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """How it last ended; minus the signal number when a signal did. None while it runs."""
        return self._child.exit_code if self._child else None

    def start(self) -> None:
        """Starts it and waits until it serves; nothing happens when it already runs.

        Raises:
            UnavailableError: PART_NOT_READY, it ended or does not serve within `start_s`.
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
        """Starts it without waiting; `problem` is empty once it serves."""
        assert not self.running
        self._child = Child(self.command(), self.guardian)

    def raise_if_failed(self, problem: str, waited_s: float) -> None:
        """Kills it and raises when it has ended, or was waited for longer than `start_s`.

        Args:
            problem: what it was waited for.
            waited_s: since it was started, or since its progress last rose.

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
        """Ends it in order; killed when it takes longer than `grace_s`."""
        if self._child:
            self._child.stop(self.grace_s)

    def kill(self) -> None:
        """Kills it and all its children at once, as `kill -9` would."""
        if self._child:
            self._child.kill()

    def restart(self) -> None:
        """Ends it in order and starts it again on the same folder and port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Suspends it with all its children: its sockets stay open and nothing answers."""
        if self._child:
            self._child.send(Signals.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen part go on."""
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
