"""How users start this command, and how it starts programs of the stack."""

import importlib.util
import shutil
import sys
from pathlib import Path

from aquifer_cli.errors import EXIT_USAGE, CommandError

NAME = "aquifer"


def command_name() -> str:
    """How a person starts this command from here."""
    started = Path(sys.argv[0]).absolute()
    if started.name != NAME:
        return NAME
    if started.is_relative_to(Path.cwd()):
        # Not by PATH, which a recipe may have set for this process alone.
        return str(started.relative_to(Path.cwd()))
    return NAME if shutil.which(NAME) == str(started) else str(started)


def spell_commands(text: str) -> str:
    """A text with its commands, `aquifer ...` in backticks, as they can be typed here."""
    return text.replace(f"`{NAME} ", f"`{command_name()} ")


def command_of(module: str, *arguments: str) -> list[str]:
    """The command line of a module in the same installation.

    A file of that name in the current folder is not meant.

    Raises:
        CommandError: NOT_INSTALLED.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise CommandError(
            "NOT_INSTALLED",
            f"the module {module} is not installed",
            hint="run `./just setup` in a checkout to install everything",
            exit_code=EXIT_USAGE,
        )
    return [sys.executable, "-P", "-m", module, *arguments]
