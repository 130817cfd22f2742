"""How long work takes, and how long it may stay silent."""

from dataclasses import dataclass
from typing import Final

from ingest.domain import State

PARSED_BYTES_PER_S: Final = 256 * 1024
BATCH_WORK_S: Final = 2.0


def work_s(state: State, size_bytes: int, batch_count: int) -> float:
    """Seconds a step may really need for one version, on a slow machine."""
    match state:
        case State.ACCEPTED:
            return size_bytes / PARSED_BYTES_PER_S
        case State.PREPARED:
            return batch_count * BATCH_WORK_S
        case _:
            return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a step may stay silent before it is doubted, and after how long it is given up.

    The wait doubles with every emission, from `first_s` to `last_s` seconds, on top of the work.
    """

    first_s: float = 60.0
    last_s: float = 600.0
    deadline_s: float = 86_400.0

    def wait_s(self, attempt: int, work_s: float = 0.0) -> float:
        """Seconds from emission number `attempt` (0 is the first) to the doubt."""
        return float(min(self.first_s * 2 ** min(attempt, 32), self.last_s)) + work_s
