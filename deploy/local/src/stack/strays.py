"""Processes that outlive the part that started them: handed to this process, and ended by it.

A part killed from outside leaves its children to the system's first process, where nobody could
tell whose they were. A process that has asked to (Linux) is given its orphaned descendants instead.
"""

import ctypes
import os
from collections.abc import Collection
from contextlib import suppress

from stack.trees import children, descendants, kill_tree

_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Makes this process the parent of its orphaned descendants; False where none can be."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def end_strays(known: Collection[int]) -> int:
    """Kills each child of this process that is not `known`, with its descendants; their number."""
    strays = children(os.getpid()) - set(known)
    for pid in strays:
        kill_tree(pid, {pid, *descendants(pid)})
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return len(strays)
