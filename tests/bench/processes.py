"""Processor time and memory of a process and its children, from /proc."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.trees import descendants
from stack.up import Stack

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Proportional set size in MiB: pages shared by n processes count 1/n for each."""

    total: float
    anonymous: float
    file: float
    shared: float

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(
            total=self.total + other.total,
            anonymous=self.anonymous + other.anonymous,
            file=self.file + other.file,
            shared=self.shared + other.shared,
        )


NOTHING = Memory(total=0, anonymous=0, file=0, shared=0)


def of(stack: Stack) -> dict[str, int]:
    """Process id of every part by name, and of this process, which plays the client."""
    pids = {name: part.pid for name, part in stack.parts.items() if part.pid is not None}
    return {**pids, CLIENT: os.getpid()}


def cpu_s(pid: int) -> float:
    """Seconds of processor time of a process, its living descendants and those it waited for."""
    return sum(_cpu_ticks(each) for each in _family(pid)) / TICKS_PER_S


def cpu_by_part(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds so far of each part; the client is this process alone, not the stack below it."""
    return {
        name: _cpu_ticks(pid) / TICKS_PER_S if name == CLIENT else cpu_s(pid)
        for name, pid in pids.items()
    }


def memory(pid: int) -> Memory:
    """Memory of a process and its living descendants."""
    return sum((_memory(each) for each in _family(pid)), NOTHING)


def reset_peak(pid: int) -> float:
    """Makes the peak of a process the memory it has now; returns that in MiB."""
    Path("/proc", str(pid), "clear_refs").write_text("5")
    return read_peak(pid)


def read_peak(pid: int) -> float:
    """The most memory of a process since the last reset, in MiB, children not counted."""
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    [peak] = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


def _family(pid: int) -> list[int]:
    return [pid, *descendants(pid)]


def _cpu_ticks(pid: int) -> int:
    """utime, stime, cutime and cstime: fields 14 to 17 of /proc/PID/stat."""
    try:
        text = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # gone meanwhile: its time is in what its parent waited for
    own = 2 if pid == os.getpid() else 4
    return sum(map(int, text.rpartition(")")[2].split()[11 : 11 + own]))


def _memory(pid: int) -> Memory:
    try:
        text = Path("/proc", str(pid), "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return NOTHING
    mib = {
        key: int(value.split()[0]) / 1024
        for line in text.splitlines()[1:]
        for key, _, value in [line.partition(":")]
    }
    return Memory(
        total=mib["Pss"], anonymous=mib["Pss_Anon"], file=mib["Pss_File"], shared=mib["Pss_Shmem"]
    )
