"""The machine of a measurement, and whether it had other load."""

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

NOISY_LOAD = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts of the machine; `load` is its one-minute average before anything was started."""

    cores: int
    cpu: str
    memory_gib: float
    load: float
    python: str
    grpcio: str

    @property
    def noisy(self) -> bool:
        """Somebody else was at work: the figures of this run compare with nothing else."""
        return self.load > NOISY_LOAD

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {**asdict(self), "noisy": self.noisy}


def look() -> Machine:
    """The machine as it is now."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=_field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        memory_gib=round(_kib("/proc/meminfo", "MemTotal") / 2**20, 1),
        load=os.getloadavg()[0],
        python=platform.python_version(),
        grpcio=version("grpcio"),
    )


def _field(path: str, name: str) -> str:
    file = Path(path)
    for line in file.read_text().splitlines() if file.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _kib(path: str, name: str) -> int:
    return int((_field(path, name) or "0 kB").split()[0])
