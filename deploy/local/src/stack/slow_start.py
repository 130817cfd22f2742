"""What people see of a start that takes long, and when it opens the door before it is over."""

import time
from collections.abc import Callable, Sequence

from stack.supervisor import Notice, Waiting

SAY_EVERY_S = 10.0


class SlowStart:
    """Says every `SAY_EVERY_S` what is waited for.

    A part whose progress rises works on something large, such as the rebuild of lost vectors.
    When only such parts are left, the stack is opened: what can be served is served meanwhile.

    Args:
        say: told of each part that is waited for.
        open_door: called once, when only parts with progress are left.
    """

    def __init__(self, say: Callable[[Notice], None], open_door: Callable[[], object]) -> None:
        self._say = say
        self._open_door = open_door
        self._opened = False
        self._due = time.monotonic() + SAY_EVERY_S

    def __call__(self, waiting: Sequence[Waiting]) -> None:
        """Takes note of the parts that do not serve yet."""
        if not waiting:
            return
        if not self._opened and all(each.part.progress() for each in waiting):
            self._open_door()
            self._opened = True
            self._due = time.monotonic()
        if time.monotonic() >= self._due:
            for each in waiting:
                self._say(Notice(each.part.name, "waiting", each.trouble))
            self._due = time.monotonic() + SAY_EVERY_S
