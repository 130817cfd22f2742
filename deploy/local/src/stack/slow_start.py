"""Reports what a long start waits for; publishes addresses early when only a rebuild is left."""

import time
from collections.abc import Callable, Sequence

from stack.supervisor import Notice, Waiting

SAY_EVERY_S = 10.0


class SlowStart:
    """Reports every `SAY_EVERY_S` which parts the start waits for.

    A part whose progress rises works on something large, such as the rebuild of lost vectors.
    When only such parts are left, clients get the addresses: everything else can be used.

    Args:
        say: called with a notice for each part that is waited for.
        publish: called once, when only parts with progress are left.
    """

    def __init__(self, say: Callable[[Notice], None], publish: Callable[[], object]) -> None:
        self._say = say
        self._publish = publish
        self._published = False
        self._due = time.monotonic() + SAY_EVERY_S

    def __call__(self, waiting: Sequence[Waiting]) -> None:
        """Takes note of the parts that do not serve yet."""
        if not waiting:
            return
        if not self._published and all(each.part.progress() for each in waiting):
            self._publish()
            self._published = True
            self._due = time.monotonic()
        if time.monotonic() >= self._due:
            for each in waiting:
                self._say(Notice(each.part.name, "waiting", each.problem))
            self._due = time.monotonic() + SAY_EVERY_S
