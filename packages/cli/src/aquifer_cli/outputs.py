"""Files that commands write."""

from pathlib import Path

from aquifer_cli.errors import EXIT_USAGE, CommandError


def check_folder(file: Path) -> None:
    """Checks that the folder of a file exists, before the work that fills the file.

    Raises:
        CommandError: FILE_UNWRITABLE.
    """
    if not file.parent.is_dir():
        detail = f"the folder {file.parent} does not exist; create it"
        raise CommandError("FILE_UNWRITABLE", detail, exit_code=EXIT_USAGE)


def write_file(file: Path, content: bytes) -> None:
    """Writes a file as a whole.

    Raises:
        CommandError: FILE_UNWRITABLE.
    """
    try:
        file.write_bytes(content)
    except OSError as error:
        detail = f"{file}: {error.strerror}"
        raise CommandError("FILE_UNWRITABLE", detail, exit_code=EXIT_USAGE) from error
