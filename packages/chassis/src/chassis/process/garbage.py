"""Settings of Python's garbage collector for processes that run for a long time."""

import gc
from typing import Final

# Containers allocated, less those freed, before a collection of the youngest ones. Python's default
# is 700, which the events in work exceed all the time without any garbage.
YOUNG_MAX: Final = 5_000


def exempt_loaded_objects() -> None:
    """Exempts all existing objects from collections, and makes collections rarer.

    Call it at the end of the start. Otherwise each full collection visits the objects of all
    libraries and blocks the event loop for up to 80 ms.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_MAX)
