"""Keeps the parts of a stack running until asked to stop, and then ends them in reverse order."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from types import FrameType, TracebackType
from typing import Self

from chassis.base.errors import ServiceError
from stack.guardian import Guardian
from stack.part import Part
from stack.strays import adopt_orphans, end_strays

_POLL_S = 0.05
_WATCH_S = 0.1


class StopRequestedError(Exception):
    """Start-up was cut short by a request to stop."""


class StopRequest:
    """Made by SIGTERM, SIGINT or SIGHUP while entered, or by calling it."""

    _SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        # A plain flag: a lock taken by a signal handler could be the one it interrupted.
        self.made = False

    def __call__(self) -> None:
        self.made = True

    def refuse(self) -> None:
        """Raises StopRequestedError once the request was made."""
        if self.made:
            raise StopRequestedError

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._heard) for number in self._SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        self()


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an operator wants to know of a part; `event` is one lower case word."""

    part: str
    event: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits between restarts, in seconds: `first_s`, doubled each time up to `longest_s`.

    A part that stayed up for `calm_s` starts again from the first.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    calm_s: float = 60.0

    def wait_s(self, failures: int) -> float:
        """Wait after the `failures`-th failure in a row, counted from 1."""
        return float(min(self.longest_s, self.first_s * 2 ** min(failures - 1, 16)))


class _State(Enum):
    UP = auto()
    COMING = auto()
    DOWN = auto()


@dataclass(slots=True, kw_only=True)
class _Watched:
    """A part; `due` is the monotonic time before which nothing is done about it."""

    part: Part
    state: _State
    since: float
    due: float = 0.0
    failures: int = 0


class Supervisor:
    """Starts parts in order, restarts what ends, stops all.

    Args:
        guardian: that of the parts; replaced when it was killed.
        say: told what happens to each part.
        stop: asked at every step.
        alone: this process has no children but parts and the guardian. What a part that ended has
            left behind is then handed to this process, known as no part, and killed.
    """

    def __init__(
        self,
        *,
        guardian: Guardian,
        say: Callable[[Notice], None],
        stop: StopRequest,
        backoff: Backoff | None = None,
        alone: bool = False,
    ) -> None:
        self._guardian = guardian
        self._say = say
        self._stop = stop
        self._backoff = backoff or Backoff()
        self._watched: list[_Watched] = []
        self._adopts = alone and adopt_orphans()

    def start(self, *parts: Part) -> None:
        """Starts parts side by side and returns when each serves.

        Raises:
            UnavailableError: PART_NOT_READY; parts already started stay until `stop`.
            StopRequestedError: the request to stop came first.
        """
        coming = []
        for part in parts:
            self._stop.refuse()
            watched = _Watched(part=part, state=_State.UP, since=time.monotonic())
            self._watched.append(watched)
            part.spawn()
            coming.append((part, time.monotonic() + part.start_s))
        while coming:
            self._stop.refuse()
            for each in list(coming):
                part, deadline = each
                if part.ready():
                    part.then()
                    coming.remove(each)
                    self._say(Notice(part.name, "ready", part.address))
                else:
                    part.refuse_failure(deadline)
            time.sleep(_POLL_S)

    def watch(self) -> None:
        """Restarts what ends, until the request to stop."""
        while not self._stop.made:
            self._guardian.mend()
            for watched in self._watched:
                if time.monotonic() >= watched.due:
                    self._look(watched)
            time.sleep(_WATCH_S)

    def stop(self) -> None:
        """Stops every part, the last started first."""
        while self._watched:
            part = self._watched.pop().part
            if part.running:
                part.stop()
                self._say(Notice(part.name, "stopped"))
        self._end_strays()

    def _look(self, watched: _Watched) -> None:
        part = watched.part
        match watched.state:
            case _State.UP if not part.running:
                self._fell(watched, f"ended with code {part.exit_code}")
                self._end_strays()
            case _State.UP if time.monotonic() - watched.since > self._backoff.calm_s:
                watched.failures = 0
            case _State.DOWN:
                self._spawn(watched)
            case _State.COMING:
                self._await(watched)

    def _end_strays(self) -> None:
        if self._adopts:
            known = {watched.part.pid for watched in self._watched}
            end_strays({self._guardian.pid, *filter(None, known)})

    def _spawn(self, watched: _Watched) -> None:
        try:
            watched.part.spawn()
        except (ServiceError, OSError) as error:
            self._fell(watched, f"not started: {error}")
        else:
            watched.state, watched.since = _State.COMING, time.monotonic()

    def _await(self, watched: _Watched) -> None:
        part = watched.part
        try:
            if not part.ready():
                part.refuse_failure(watched.since + part.start_s)
                return
        except ServiceError as error:
            self._fell(watched, str(error))
            return
        try:
            part.then()
        except ServiceError as error:
            wait_s = self._put_off(watched)
            self._say(Notice(part.name, "unfinished", f"{error}; next try in {wait_s:g} s"))
        else:
            watched.state, watched.since = _State.UP, time.monotonic()
            self._say(Notice(part.name, "restarted", part.address))

    def _fell(self, watched: _Watched, why: str) -> None:
        watched.state = _State.DOWN
        wait_s = self._put_off(watched)
        self._say(Notice(watched.part.name, "ended", f"{why}; next start in {wait_s:g} s"))

    def _put_off(self, watched: _Watched) -> float:
        watched.failures += 1
        wait_s = self._backoff.wait_s(watched.failures)
        watched.due = time.monotonic() + wait_s
        return wait_s
