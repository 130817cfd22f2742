"""The processor of this machine."""

import platform
from pathlib import Path


def find_cpu_name() -> str:
    """Its name for people, for example `AMD EPYC 9655`; its architecture if it has none."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
