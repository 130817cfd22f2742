"""Counts failed attempts of events in this process; errors for events that failed too often."""

from chassis.base.errors import FailedPreconditionError

EVENTS_MAX = 10_000


class Failures:
    """Failed attempts of events by their sequence in the stream; the oldest are forgotten."""

    def __init__(self) -> None:
        self._tries: dict[int, int] = {}

    def add(self, sequence: int) -> int:
        """Counts a failed attempt; returns the number so far."""
        count = self._tries[sequence] = self._tries.get(sequence, 0) + 1
        if len(self._tries) > EVENTS_MAX:
            self._tries.pop(next(iter(self._tries)))
        return count

    def forget(self, sequence: int) -> None:
        """Forgets an event that has ended."""
        self._tries.pop(sequence, None)


class AttemptsExhaustedError(FailedPreconditionError):
    """Every attempt failed with an error that counts against the event."""

    def __init__(self, attempts: int) -> None:
        super().__init__(
            "ATTEMPTS_EXHAUSTED",
            f"{attempts} attempts failed; look up the errors in the log",
            attempts=attempts,
        )


class CrashLoopError(FailedPreconditionError):
    """The event was delivered so often without a result that it probably crashes the process."""

    def __init__(self, deliveries: int) -> None:
        super().__init__(
            "CRASH_LOOP",
            f"{deliveries} deliveries without a result; check whether the process crashes on it",
            deliveries=deliveries,
        )
