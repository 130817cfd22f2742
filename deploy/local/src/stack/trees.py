"""Finds the descendants of a process, suspends and kills them.

Reads /proc; on a system without it only the process group is found.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from signal import Signals

_PROC = Path("/proc")
_GONE = {"Z", "X"}
_SUSPENDED = {"T", "t", *_GONE}
_GONE_WAIT_S = 5.0
_POLL_S = 0.005


def is_alive(pid: int) -> bool:
    """True while a process runs; False for a zombie."""
    if _PROC.joinpath("self/stat").exists():
        status = _status(pid)
        return status is not None and status[0] not in _GONE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def children(pid: int) -> frozenset[int]:
    """Processes whose parent is `pid`, including zombies."""
    return frozenset(child for child, parent in _parents().items() if parent == pid)


def descendants(pid: int) -> frozenset[int]:
    """All descendants of a process, in any session."""
    parents = _parents()
    found: set[int] = set()
    generation = {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation} - found
        found |= generation
    return frozenset(found)


def kill_tree(leader: int, family: Iterable[int]) -> None:
    """Kills the process group of `leader` and all of `family`; returns when `family` has ended."""
    family = frozenset(family)
    with suppress(ProcessLookupError):
        os.killpg(leader, Signals.SIGKILL)
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, Signals.SIGKILL)
    deadline = time.monotonic() + _GONE_WAIT_S
    while any(is_alive(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def suspend_tree(family: Iterable[int]) -> None:
    """Suspends processes; returns when none of their threads runs any more.

    The signal returns before: on a busy machine a thread may answer one more call.
    """
    family = frozenset(family)
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, Signals.SIGSTOP)
    deadline = time.monotonic() + _GONE_WAIT_S
    while any(map(_is_running, family)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _is_running(pid: int) -> bool:
    """Whether a thread of a process is not suspended."""
    states: list[str] = []
    for stat in _PROC.joinpath(str(pid), "task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            states.append(stat.read_text().rpartition(")")[2].split()[0])
    return any(state not in _SUSPENDED for state in states)


def _parents() -> dict[int, int]:
    return {
        int(entry.name): status[1]
        for entry in (_PROC.iterdir() if _PROC.is_dir() else ())
        if entry.name.isdigit() and (status := _status(int(entry.name)))
    }


def _status(pid: int) -> tuple[str, int] | None:
    """State letter and parent of a process; None if it does not exist."""
    try:
        text = _PROC.joinpath(str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program name, which can contain spaces and brackets.
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)
