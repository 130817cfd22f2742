"""Ends processes that a part has left behind.

Children of a killed part normally become children of process 1, where they cannot be recognised. On
Linux a process can ask to become the parent of its orphaned descendants instead.
"""

import ctypes
import os
from collections.abc import Collection
from contextlib import suppress

from stack.trees import children, descendants, kill_tree

_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Makes this process the parent of its orphaned descendants; False if not supported."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def end_strays(known: Collection[int]) -> int:
    """Kills children that are not `known`, with their descendants; returns their number."""
    strays = children(os.getpid()) - set(known)
    for pid in strays:
        kill_tree(pid, {pid, *descendants(pid)})
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return len(strays)
