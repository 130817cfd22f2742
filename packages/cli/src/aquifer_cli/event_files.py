"""Reads upload events from files: one event, or a line for each."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from aquifer_cli.errors import EXIT_USAGE, CommandError
from aquifer_cli.event_check import is_json

STDIN: Final = "-"
# Twice the limit of the broker: more cannot be an event.
READ_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """The bytes of an event, and where they are: `file` or `file:line`."""

    where: str
    payload: bytes


def read_events(path: Path) -> Iterator[Candidate]:
    """The events of a file, or of standard input for `-`.

    A file that is not JSON is one event in protobuf. A JSON file is one event, or an event in each
    line that is not blank. No more than `READ_MAX_BYTES` of an event are read.

    Raises:
        CommandError: FILE_UNREADABLE.
    """
    name = "stdin" if str(path) == STDIN else str(path)
    with _open(path) as file:
        head = file.read(READ_MAX_BYTES)
        first = head.lstrip().partition(b"\n")[0]
        lines = _is_object(first) or b"\n{" in head.strip()
        if not is_json(head) or _is_object(head) or not lines:
            yield Candidate(name, head)
            return
        for number, line in enumerate(_read_lines(head, file), 1):
            if line.strip():
                yield Candidate(f"{name}:{number}", line)


def _read_lines(head: bytes, file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file whose first bytes were read; of a long line only the beginning."""
    *lines, rest = head.split(b"\n")
    yield from lines
    line = rest + file.readline(READ_MAX_BYTES)
    while line:
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(READ_MAX_BYTES)
        line = file.readline(READ_MAX_BYTES)


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    if str(path) == STDIN:
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise CommandError(
            "FILE_UNREADABLE", f"{path}: {error.strerror}", exit_code=EXIT_USAGE
        ) from error
