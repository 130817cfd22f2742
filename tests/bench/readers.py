"""Speed of the readers of tables, data and mail beside the bare libraries that they use.

`python -m tests.bench.readers` prints a table for `docs/measurements.md`. Each reader runs in a
process of its own, without the jail; the memory is what the process grows by while it reads.
"""

import csv
import io
import json
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from email import message_from_bytes
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

SIZE_BYTES = 15_000_000
LIMIT_CHARS = 1 << 26
REPETITIONS = 3
SENTENCE = "The pump is checked once a year, before the season begins. "


class Speed(NamedTuple):
    """Bytes per second of a reader and of its bare library, and growth of memory in bytes."""

    read: float
    bare: float
    growth_bytes: int


def make_records(count: int) -> list[dict[str, Any]]:
    choose = random.Random(1)
    return [
        {
            "id": f"P{number}",
            "kW": choose.random() * 10,
            "site": {"town": "Ulm", "at": [choose.random(), choose.random()]},
            "note": SENTENCE * choose.randint(1, 6),
        }
        for number in range(count)
    ]


def make_csv(records: list[dict[str, Any]]) -> bytes:
    target = io.StringIO(newline="")
    rows = csv.writer(target)
    rows.writerow(["id", "kW", "town", "note"])
    rows.writerows([one["id"], one["kW"], one["site"]["town"], one["note"]] for one in records)
    return target.getvalue().encode()


def make_xml(records: list[dict[str, Any]]) -> bytes:
    pumps = (
        f'<pump id="{one["id"]}"><power unit="kW">{one["kW"]}</power>'
        f"<note>{one['note']}</note></pump>"
        for one in records
    )
    return f"<pumps>{''.join(pumps)}</pumps>".encode()


def make_notebook(records: list[dict[str, Any]]) -> bytes:
    cells = [
        {
            "cell_type": "code",
            "source": one["note"],
            "outputs": [{"output_type": "stream", "text": json.dumps(one)}],
        }
        for one in records
    ]
    return json.dumps({"metadata": {}, "cells": cells}).encode()


def make_mail(records: list[dict[str, Any]]) -> bytes:
    return b"Subject: pumps\r\n\r\n" + "\r\n".join(one["note"] for one in records).encode()


def parse_xml(data: bytes) -> None:
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda *_: None
    parser.CharacterDataHandler = lambda *_: None
    parser.Parse(data, True)  # noqa: FBT003


FORMATS: dict[str, tuple[Callable[[list[dict[str, Any]]], bytes], Callable[[bytes], object]]] = {
    "data.read_csv": (
        make_csv,
        lambda data: list(csv.reader(io.StringIO(data.decode(), newline=""))),
    ),
    "data.read_json": (lambda records: json.dumps(records, indent=1).encode(), json.loads),
    "data.read_jsonl": (
        lambda records: "\n".join(map(json.dumps, records)).encode(),
        lambda data: [json.loads(line) for line in data.splitlines()],
    ),
    "xml.read_xml": (make_xml, parse_xml),
    "data.read_notebook": (make_notebook, json.loads),
    "mail.read_mail": (make_mail, message_from_bytes),
}


def measure_speed(work: Callable[[bytes], object], data: bytes) -> float:
    """Bytes per second of processor time, the best of some."""
    times = []
    for _ in range(REPETITIONS):
        started = time.process_time()
        work(data)
        times.append(time.process_time() - started)
    return len(data) / min(times)


def find_peak_bytes() -> int:
    """The most memory this process has had; the figure of `getrusage` begins with its parent's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [peak] = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


def measure(name: str, data: bytes) -> Speed:
    """Measure one reader, in a process that did nothing before."""
    reader = import_module(f"ingest.parsing.{name}")
    before = find_peak_bytes()
    read = measure_speed(lambda source: reader.read(source, LIMIT_CHARS), data)
    growth = find_peak_bytes() - before
    return Speed(read, measure_speed(FORMATS[name][1], data), growth)


def main() -> None:
    records = make_records(50_000)
    sys.stdout.write("| reader | MB | MB/s | bare library | growth, MB |\n|---|--:|--:|--:|--:|\n")
    for name, (make, _) in FORMATS.items():
        count = len(records) * SIZE_BYTES // len(make(records))
        data = make(records[:count])
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            speed = fresh.submit(measure, name, data).result()
        figures = (len(data), speed.read, speed.bare, speed.growth_bytes)
        cells = " | ".join(f"{figure / 1e6:.0f}" for figure in figures)
        sys.stdout.write(f"| `{name}` | {cells} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
