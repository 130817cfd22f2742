"""How often events have failed in this process, and the errors that end one for it."""

from chassis.base.errors import FailedPreconditionError

EVENTS_MAX = 10_000


class Failures:
    """Failed tries of events, by their place in the stream; the oldest are forgotten."""

    def __init__(self) -> None:
        self._tries: dict[int, int] = {}

    def add(self, sequence: int) -> int:
        """Counts a failed try; returns how many there were."""
        count = self._tries[sequence] = self._tries.get(sequence, 0) + 1
        if len(self._tries) > EVENTS_MAX:
            self._tries.pop(next(iter(self._tries)))
        return count

    def forget(self, sequence: int) -> None:
        """Forgets an event that has ended."""
        self._tries.pop(sequence, None)


class AttemptsExhaustedError(FailedPreconditionError):
    """Every try failed with an error that is blamed on the event."""

    def __init__(self, attempts: int) -> None:
        super().__init__(
            "ATTEMPTS_EXHAUSTED", f"{attempts} tries failed; the log holds why", attempts=attempts
        )


class CrashLoopError(FailedPreconditionError):
    """Delivered so often without an end that it must be what ends the process."""

    def __init__(self, deliveries: int) -> None:
        super().__init__(
            "CRASH_LOOP", f"{deliveries} deliveries without an end", deliveries=deliveries
        )
