"""How far each step has come: what tells work that waits in line from work that was lost."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ingest.domain import Pace, State, Version
from ingest.usecases.ports import Monotonic


@dataclass(slots=True, kw_only=True)
class Progress:
    """What this process saw leave each step.

    The queues between the services are first in, first out. So a version is taken for lost when
    one whose event was sent well after its own has left the same step; while none has, it waits in
    line however long the line is, and sending its event again would only make the line longer.
    """

    pace: Pace
    clock: Monotonic
    _furthest: dict[State, datetime] = field(default_factory=dict)
    _moved_at: dict[State, float] = field(default_factory=dict)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def left(self, step: Version) -> None:
        """Note that a version, as it was before, has left its step in good order."""
        self._moved_at[step.state] = self.clock()
        if step.step_due_at is None:
            return
        sent_at = step.step_due_at - timedelta(seconds=self.pace.wait_of(step))
        self._furthest[step.state] = max(sent_at, self._furthest.get(step.state, sent_at))

    def overtaken(self, state: State) -> datetime | None:
        """Versions due up to then were overtaken by one sent a whole wait later."""
        return self._furthest.get(state)

    def is_silent(self, state: State) -> bool:
        """Whether nothing has left the step for a whole wait."""
        return self.clock() - self._moved_at.get(state, self._since) >= self.pace.first_s

    def probed(self, state: State) -> None:
        """Note that something was sent to find out whether the silence is a loss."""
        self._moved_at[state] = self.clock()
