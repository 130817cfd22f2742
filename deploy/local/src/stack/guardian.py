"""A small process that ends the children of its parent after the parent has ended.

A parent killed by `kill -9` cannot clean up, and a parent-death signal reaches neither
grandchildren nor children started by another thread. So the guardian, in its own session, reads a
pipe to which only the parent and its children write. A child writes its process id to the pipe
before it becomes its program, so the guardian knows every running child. When the pipe closes, the
guardian asks each known child to end, then kills it with its descendants.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from signal import Signals
from types import TracebackType
from typing import Self

from stack.trees import descendants, is_alive, kill_tree

GRACE_S = 5.0
_FORGET = 0
_KILL_WAIT_S = 5.0
_POLL_S = 0.02
# $0 is the signal that asks the program to end; the pipe is the shell's standard input.
_ANNOUNCE = 'echo "$$ $0" >&0 && exec "$@" </dev/null'


class Guardian:
    """Starts the guardian; when this process ends, for any reason, all its children are ended.

    Args:
        keep_open: file descriptors that stay open until every child has ended, for example the lock
            of the data folder.
        grace_s: seconds between the request to end and the kill.
    """

    def __init__(self, *, keep_open: Sequence[int] = (), grace_s: float = GRACE_S) -> None:
        self._keep_open = tuple(keep_open)
        self._grace_s = grace_s
        self._wards: dict[int, Signals] = {}
        self._start()

    @property
    def announcements(self) -> int:
        """Write end of the pipe: standard input of a wrapped command."""
        return self._pipe

    @property
    def pid(self) -> int:
        return self._process.pid

    def wrap(self, argv: Sequence[str], stop_signal: Signals) -> list[str]:
        """A command that announces its process id and then becomes `argv`, with the same id."""
        return ["/bin/sh", "-c", _ANNOUNCE, str(stop_signal.value), *argv]

    def remember(self, pid: int, stop_signal: Signals) -> None:
        """Records a started child, so that a new guardian can get it."""
        self._wards[pid] = stop_signal

    def forget(self, pid: int) -> None:
        """Removes a child that has ended, because its process id can be reused."""
        self._wards.pop(pid, None)
        self._tell(pid, _FORGET)

    def ensure_running(self) -> None:
        """Starts a new guardian if the old one was killed."""
        if self._process.poll() is None:
            return
        os.close(self._pipe)
        self._start()
        for pid, stop_signal in self._wards.items():
            self._tell(pid, stop_signal)

    def close(self) -> None:
        """Ends every known child and returns when they have ended."""
        os.close(self._pipe)
        try:
            self._process.wait(self._grace_s + _KILL_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        reading, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603  (this very module)
                [sys.executable, "-P", "-m", "stack.guardian", str(self._grace_s)],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
                pass_fds=self._keep_open,
            )
        finally:
            os.close(reading)

    def _tell(self, pid: int, number: int) -> None:
        # If the guardian was just killed, `ensure_running` starts a new one with all children.
        with suppress(BrokenPipeError):
            os.write(self._pipe, f"{pid} {number}\n".encode())


def end(wards: Mapping[int, int], grace_s: float) -> None:
    """Asks each process to end by its signal, and after `grace_s` kills it and its descendants."""
    families = {pid: descendants(pid) for pid in wards}
    for pid, number in wards.items():
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            # A stopped process would not receive the signal.
            os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + grace_s
    while any(is_alive(pid) for pid in wards) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for pid, family in families.items():
        kill_tree(pid, {pid, *family})


def main(grace_s: float) -> None:
    """Reads lines `<pid> <stop signal>` until the parent has ended, then ends its children."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    wards: dict[int, int] = {}
    for line in sys.stdin.buffer:
        pid, number = map(int, line.split())
        if number == _FORGET:
            wards.pop(pid, None)
        else:
            wards[pid] = number
    end(wards, grace_s)


if __name__ == "__main__":
    main(float(sys.argv[1]))
