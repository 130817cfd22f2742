"""Reads the password of documents: from a file, as arguments of a command are seen by everyone."""

import sys
from pathlib import Path
from typing import Final

from aquifer_cli.errors import EXIT_USAGE, CommandError

PASSWORD_CHARS: Final = 128
_READ_CHARS: Final = 1024


def read_password(file: Path) -> str:
    """The first line of a file, or of standard input for `-`.

    Raises:
        CommandError: FILE_UNREADABLE; PASSWORD_FILE for one without a password.
    """
    try:
        if str(file) == "-":
            line = sys.stdin.readline(_READ_CHARS)
        else:
            with file.open(encoding="utf-8") as source:
                line = source.readline(_READ_CHARS)
    except (OSError, UnicodeError) as error:
        raise CommandError("FILE_UNREADABLE", f"{file}: {error}", exit_code=EXIT_USAGE) from error
    password = line.rstrip("\r\n")
    if not 1 <= len(password) <= PASSWORD_CHARS:
        raise CommandError(
            "PASSWORD_FILE",
            f"the first line must be a password of 1 to {PASSWORD_CHARS} characters",
            exit_code=EXIT_USAGE,
        )
    return password
