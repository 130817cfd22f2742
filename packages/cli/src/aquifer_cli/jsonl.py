"""Reads files line by line; mostly with one JSON object per line."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aquifer_cli.errors import EXIT_USAGE, CommandError

T = TypeVar("T")
LINES_MAX = 10


@dataclass(frozen=True, slots=True)
class Line:
    """An object and its position, as `file:line`."""

    where: str
    row: dict[str, Any]

    def text(self, key: str) -> str:
        """Reads a text or a number under `key`, as text.

        Raises:
            CommandError: LINE_UNREADABLE, the key is missing.
        """
        value = self.row.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise line_error(self.where, f'"{key}" is missing or not a text')
        return str(value)


def read_lines(file: Path, make: Callable[[Line], T]) -> list[T]:
    """Calls `make` for the object on each line that is not blank, and returns the results.

    Raises:
        CommandError: FILE_UNREADABLE; LINE_UNREADABLE, which lists each such line.
    """
    return read_each_line(file, lambda where, line: make(_parse_line(where, line)))


def read_each_line(file: Path, make: Callable[[str, bytes], T]) -> list[T]:
    """Calls `make` with the position and the bytes of each line that is not blank.

    Raises:
        CommandError: FILE_UNREADABLE; LINE_UNREADABLE, which lists each such line.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandError(
            "FILE_UNREADABLE", f"{file}: {error.strerror}", exit_code=EXIT_USAGE
        ) from error
    made: list[T] = []
    unread: list[CommandError] = []
    # Only "\n" ends a line: text may contain other separators, at which `splitlines` would split.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            made.append(make(f"{file}:{number}", line))
        except CommandError as error:
            unread.append(error)
    if unread:
        raise _merge(unread)
    return made


def _parse_line(where: str, line: bytes) -> Line:
    try:
        row = json.loads(line.decode())
        json.dumps(row, ensure_ascii=False).encode()  # fails for half a surrogate pair
    except (ValueError, RecursionError) as error:
        raise line_error(where, f"it is not JSON in UTF-8: {error}") from error
    if not isinstance(row, dict):
        raise line_error(where, "it is not an object")
    return Line(where, row)


def _merge(errors: Sequence[CommandError]) -> CommandError:
    """Makes one error from many; it shows the first ones."""
    details = [error.detail for error in errors[:LINES_MAX]]
    if len(errors) > LINES_MAX:
        details.append(f"and {len(errors) - LINES_MAX:,} more lines")
    first = errors[0]
    return CommandError(
        first.reason, "\n".join(details), hint=first.hint, exit_code=first.exit_code
    )


def line_error(where: str, detail: str) -> CommandError:
    """The error LINE_UNREADABLE, with the expected format."""
    return CommandError(
        "LINE_UNREADABLE",
        f"{where}: {detail}",
        hint='write each line as an object with "_id" and "text", optionally "title", "metadata"',
        exit_code=EXIT_USAGE,
    )
