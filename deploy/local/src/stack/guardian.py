"""The process that outlives its holder just long enough to end what the holder started.

A holder killed by `kill -9` can clean up nothing, and a death signal set in each child would reach
neither its children nor a child that another thread started. So a small process in a session of
its own reads a pipe that only the holder writes. A child announces itself on that pipe before it
becomes its program: there is no moment at which it runs and is not known. When the pipe closes,
every child still known is asked to end, then killed, its descendants included.
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
    """Holds the pipe; when this process ends, in whatever way, all its children do.

    Args:
        keep_open: file descriptors that stay open until every child is gone, such as a lock on
            the folder they write to.
        grace_s: what children get between the request to end and the kill.
    """

    def __init__(self, *, keep_open: Sequence[int] = (), grace_s: float = GRACE_S) -> None:
        self._keep_open = tuple(keep_open)
        self._grace_s = grace_s
        self._wards: dict[int, Signals] = {}
        self._start()

    @property
    def announcements(self) -> int:
        """Write end of the pipe: standard input of a stop_with_stdin command."""
        return self._pipe

    @property
    def pid(self) -> int:
        return self._process.pid

    def wrap(self, argv: Sequence[str], stop_signal: Signals) -> list[str]:
        """The command that announces itself and then becomes `argv`, under the same process id."""
        return ["/bin/sh", "-c", _ANNOUNCE, str(stop_signal.value), *argv]

    def remember(self, pid: int, stop_signal: Signals) -> None:
        """Notes a started child, so that a new guardian can be told of it."""
        self._wards[pid] = stop_signal

    def forget(self, pid: int) -> None:
        """Releases a child that has ended: its number may soon be another process's."""
        self._wards.pop(pid, None)
        self._tell(pid, _FORGET)

    def ensure_running(self) -> None:
        """Starts a new guardian where the old one was killed."""
        if self._process.poll() is None:
            return
        os.close(self._pipe)
        self._start()
        for pid, stop_signal in self._wards.items():
            self._tell(pid, stop_signal)

    def close(self) -> None:
        """Ends every child not forgotten and returns when they are gone."""
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
        # A guardian killed a moment ago is replaced by `ensure_running`, which tells the new one.
        with suppress(BrokenPipeError):
            os.write(self._pipe, f"{pid} {number}\n".encode())


def end(wards: Mapping[int, int], grace_s: float) -> None:
    """Asks each process to end by its signal, and after `grace_s` kills it and its descendants."""
    families = {pid: descendants(pid) for pid in wards}
    for pid, number in wards.items():
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            # A frozen process would never hear the request.
            os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + grace_s
    while any(is_alive(pid) for pid in wards) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for pid, family in families.items():
        kill_tree(pid, {pid, *family})


def main(grace_s: float) -> None:
    """Reads announcements `<pid> <stop signal>` until the holder is gone, then ends the rest."""
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
