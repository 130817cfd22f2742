"""Keeps the parts of a stack running until a request to stop, then ends them in reverse order."""

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from types import FrameType, TracebackType
from typing import Any, Self

from chassis.base.errors import ServiceError
from stack.guardian import Guardian
from stack.part import Part
from stack.strays import adopt_orphans, end_strays

_POLL_S = 0.02
_WATCH_S = 0.1
# Each part has at most one running check or step.
_THREADS = 16


class StopRequestedError(Exception):
    """A request to stop interrupted the start."""


class StopRequest:
    """A request to stop: made by SIGTERM, SIGINT or SIGHUP inside `with`, or by calling it."""

    _SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        # A plain flag, because a signal handler must not wait for a lock that it interrupted.
        self.made = False

    def __call__(self) -> None:
        self.made = True

    def raise_if_made(self) -> None:
        """Raises StopRequestedError if the request was made."""
        if self.made:
            raise StopRequestedError

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in self._SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self()


@dataclass(frozen=True, slots=True)
class Notice:
    """An event of a part for the operator; `event` is one lower-case word."""

    part: str
    event: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A part that is not ready yet, and why."""

    part: Part
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses between restarts, in seconds: `first_s`, doubled each time up to `longest_s`.

    After `calm_s` without a failure the pause starts at `first_s` again.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    calm_s: float = 60.0

    def wait_s(self, failures: int) -> float:
        """The pause after so many failures in a row, at least 1."""
        return float(min(self.longest_s, self.first_s * 2 ** min(failures - 1, 16)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When a part that runs but does not answer counts as hung.

    It is checked every `every_s` seconds and killed after `misses_max` checks in a row without an
    answer. Checks are counted, not seconds, because a machine that was suspended made no checks.
    """

    every_s: float = 10.0
    misses_max: int = 3


class _State(Enum):
    COMING = auto()
    FINISHING = auto()
    UP = auto()
    DOWN = auto()


@dataclass(slots=True, kw_only=True)
class _Watched:
    """The state of a part; nothing is done before the monotonic time `due`.

    Attributes:
        since: when it entered its state, or when its progress last increased.
        step: the work that runs in a thread: its `then`, or `is_responding`.
        served: True once it was ready; from then on it is restarted.
    """

    part: Part
    state: _State
    since: float
    due: float = 0.0
    failures: int = 0
    misses: int = 0
    progress: int = 0
    problem: str = ""
    step: Future[Any] | None = None
    served: bool = False


class Supervisor:
    """Starts parts concurrently, restarts those that end or hang, and stops all.

    Args:
        guardian: of the parts; it is replaced if it was killed.
        say: called with the events of each part.
        stop: checked at every step.
        alone: this process has no children but parts and the guardian. Processes left behind by a
            part that ended then become its children, and are killed.
    """

    def __init__(
        self,
        *,
        guardian: Guardian,
        say: Callable[[Notice], None],
        stop: StopRequest,
        backoff: Backoff | None = None,
        patience: Patience | None = None,
        alone: bool = False,
    ) -> None:
        self._guardian = guardian
        self._say = say
        self._stop = stop
        self._backoff = backoff or Backoff()
        self._patience = patience or Patience()
        self._watched: list[_Watched] = []
        self._adopts = alone and adopt_orphans()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="supervisor")
        self._ending = False

    @property
    def ending(self) -> bool:
        """True if running work should stop."""
        return self._ending or self._stop.made

    def start(self, *parts: Part) -> None:
        """Starts parts concurrently and returns when all are ready.

        Raises:
            UnavailableError: PART_NOT_READY; parts that were started run until `stop`.
            StopRequestedError: the request to stop came first.
        """
        self.spawn(*parts)
        self.wait(*parts)

    def spawn(self, *parts: Part) -> None:
        """Starts parts without waiting for them.

        Raises:
            StopRequestedError: the request to stop came first.
        """
        for part in parts:
            self._stop.raise_if_made()
            part.spawn()
            now = time.monotonic()
            self._watched.append(_Watched(part=part, state=_State.COMING, since=now))

    def wait(
        self, *parts: Part, waiting: Callable[[Sequence[Waiting]], None] = lambda _: None
    ) -> None:
        """Returns when all of these parts are ready; also supervises all others meanwhile.

        Args:
            parts: to wait for; they were spawned before.
            waiting: called at each check with the parts that are not ready, and why.

        Raises:
            UnavailableError: PART_NOT_READY, or what the `then` of a part raised.
            StopRequestedError: the request to stop came first.
        """
        awaited = [watched for watched in self._watched if watched.part in parts]
        while any(watched.state is not _State.UP for watched in awaited):
            self._stop.raise_if_made()
            for watched in self._watched:
                if watched.served:
                    self._look(watched)
                else:
                    self._advance(watched, "up")
            waiting([Waiting(w.part, w.problem) for w in awaited if w.state is not _State.UP])
            time.sleep(_POLL_S)

    def watch(self) -> None:
        """Restarts parts that end or hang, until the request to stop."""
        while not self._stop.made:
            self._guardian.ensure_running()
            for watched in self._watched:
                self._look(watched)
            time.sleep(_WATCH_S)

    def stop(self) -> None:
        """Stops all parts, the last one started first."""
        self._ending = True
        while self._watched:
            part = self._watched.pop().part
            if part.running:
                part.stop()
                self._say(Notice(part.name, "stopped"))
        self._threads.shutdown(cancel_futures=True)
        self._end_strays()

    def _look(self, watched: _Watched) -> None:
        part = watched.part
        match watched.state:
            case _State.UP if not part.running:
                self._mark_down(watched, f"ended with code {part.exit_code}")
                self._end_strays()
            case _ if time.monotonic() < watched.due:
                return
            case _State.UP:
                self._ask(watched)
            case _State.DOWN:
                self._spawn(watched)
            case _State.COMING | _State.FINISHING:
                try:
                    self._advance(watched, "restarted")
                except ServiceError as error:
                    self._retry(watched, str(error))

    def _advance(self, watched: _Watched, event: str) -> None:
        """Continues the start of a part if its current step is done.

        Raises:
            ServiceError: the start has failed.
        """
        part, now = watched.part, time.monotonic()
        if watched.state is _State.COMING:
            watched.problem = part.find_problem() if part.running else ""
            if watched.problem or not part.running:
                if part.progress() > watched.progress:
                    watched.progress, watched.since = part.progress(), now
                part.raise_if_failed(watched.problem, now - watched.since)
                return
            watched.state, watched.problem = _State.FINISHING, "the steps after its start"
            watched.step = self._threads.submit(part.then)
        if watched.step is None or not watched.step.done():
            return
        step, watched.step = watched.step, None
        step.result()
        watched.state, watched.since, watched.misses = _State.UP, now, 0
        watched.problem, watched.progress, watched.served = "", 0, True
        watched.due = now + self._patience.every_s
        self._say(Notice(part.name, event, part.address))

    def _ask(self, watched: _Watched) -> None:
        """Checks a running part and kills it if it hangs; `_look` then starts it again."""
        if watched.step is None:
            watched.step = self._threads.submit(watched.part.is_responding)
            return
        if not watched.step.done():
            return
        answered: bool = watched.step.result()
        watched.step = None
        watched.due = time.monotonic() + self._patience.every_s
        watched.misses = 0 if answered else watched.misses + 1
        if time.monotonic() - watched.since > self._backoff.calm_s:
            watched.failures = 0
        if watched.misses >= self._patience.misses_max:
            watched.part.kill()
            self._mark_down(watched, f"hung: {watched.misses} health checks in a row had no answer")
            self._end_strays()

    def _end_strays(self) -> None:
        if self._adopts:
            known = {watched.part.pid for watched in self._watched}
            end_strays({self._guardian.pid, *filter(None, known)})

    def _spawn(self, watched: _Watched) -> None:
        try:
            watched.part.spawn()
        except (ServiceError, OSError) as error:
            self._mark_down(watched, f"not started: {error}")
        else:
            watched.state, watched.since = _State.COMING, time.monotonic()

    def _retry(self, watched: _Watched, why: str) -> None:
        """Restarts a part whose start has failed; if only its `then` failed, it keeps running."""
        if not watched.part.running:
            self._mark_down(watched, why)
            return
        watched.state, watched.since = _State.COMING, time.monotonic()
        wait_s = self._set_next_try(watched)
        self._say(Notice(watched.part.name, "unfinished", f"{why}; next try in {wait_s:g} s"))

    def _mark_down(self, watched: _Watched, why: str) -> None:
        watched.state, watched.step = _State.DOWN, None
        wait_s = self._set_next_try(watched)
        self._say(Notice(watched.part.name, "ended", f"{why}; next start in {wait_s:g} s"))

    def _set_next_try(self, watched: _Watched) -> float:
        watched.failures += 1
        wait_s = self._backoff.wait_s(watched.failures)
        watched.due = time.monotonic() + wait_s
        return wait_s
