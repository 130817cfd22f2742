"""Programs of the house that the command starts: `python -m ...`, in the same installation."""

import importlib.util
import sys

from aquifer_cli.errors import EXIT_USAGE, CommandError


def command_of(module: str, *arguments: str) -> list[str]:
    """The command line of a module; a file of that name in the current folder is not meant.

    Raises:
        CommandError: NOT_INSTALLED.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise CommandError(
            "NOT_INSTALLED",
            f"this installation has no {module}",
            hint="`./just setup` in a checkout installs everything",
            exit_code=EXIT_USAGE,
        )
    return [sys.executable, "-P", "-m", module, *arguments]
