"""How long a step may take before it is overdue."""

from dataclasses import dataclass
from typing import Final

from ingest.domain import State

PARSED_BYTES_PER_S: Final = 256 * 1024
BATCH_WORK_S: Final = 2.0


def work_s(state: State, size_bytes: int, batch_count: int) -> float:
    """Seconds that a step may need for one version on a slow machine."""
    match state:
        case State.ACCEPTED:
            return size_bytes / PARSED_BYTES_PER_S
        case State.PREPARED:
            return batch_count * BATCH_WORK_S
        case _:
            return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The time after which a step is overdue, and the time after which its version fails.

    The wait doubles with every attempt, from `first_s` to `last_s` seconds, plus the time for the
    work itself.
    """

    first_s: float = 60.0
    last_s: float = 600.0
    deadline_s: float = 86_400.0

    def wait_s(self, attempt: int, work_s: float = 0.0) -> float:
        """Seconds until attempt number `attempt` (0 is the first) is overdue."""
        return float(min(self.first_s * 2 ** min(attempt, 32), self.last_s)) + work_s
