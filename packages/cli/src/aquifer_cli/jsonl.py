"""Files of one JSON object a line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aquifer_cli.errors import EXIT_USAGE, CommandError


@dataclass(frozen=True, slots=True)
class Line:
    """An object and where it stands, as `file:line`."""

    where: str
    row: dict[str, Any]

    def text(self, key: str) -> str:
        """A text or a number under `key`, as text.

        Raises:
            CommandError: LINE_UNREADABLE, there is none.
        """
        value = self.row.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise line_error(self.where, f'no text under "{key}"')
        return str(value)


def read_lines(file: Path) -> Iterator[Line]:
    """Each line that is not blank.

    Raises:
        CommandError: FILE_UNREADABLE, LINE_UNREADABLE.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandError(
            "FILE_UNREADABLE", f"{file}: {error.strerror}", exit_code=EXIT_USAGE
        ) from error
    # Only "\n" ends a line: text may hold other separators, which `splitlines` would break at.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            row = json.loads(line.decode())
            json.dumps(row, ensure_ascii=False).encode()  # an escaped half of a character is none
        except (ValueError, RecursionError) as error:
            raise line_error(where, f"no JSON in UTF-8: {error}") from error
        if not isinstance(row, dict):
            raise line_error(where, "no object")
        yield Line(where, row)


def line_error(where: str, detail: str) -> CommandError:
    """LINE_UNREADABLE, with the shape that is expected."""
    return CommandError(
        "LINE_UNREADABLE",
        f"{where}: {detail}",
        hint='each line is an object with "_id" and "text"; documents may have "title", "metadata"',
        exit_code=EXIT_USAGE,
    )
