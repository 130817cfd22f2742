"""Reports what a long start waits for; publishes addresses early when only a rebuild is left."""

import time
from collections.abc import Callable, Sequence

from stack.supervisor import Notice, Waiting

SAY_EVERY_S = 10.0


class SlowStart:
    """Reports every `SAY_EVERY_S` which parts the start waits for.

    A part with progress works on a long task, for example the rebuild of lost vectors.
    If only such parts are left, the addresses are published, because the rest can be used.

    Args:
        say: called with a notice for each part that is not ready.
        publish: called once, when only parts with progress are left.
    """

    def __init__(self, say: Callable[[Notice], None], publish: Callable[[], object]) -> None:
        self._say = say
        self._publish = publish
        self._published = False
        self._due = time.monotonic() + SAY_EVERY_S

    def __call__(self, waiting: Sequence[Waiting]) -> None:
        """Called with the parts that are not ready yet."""
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
