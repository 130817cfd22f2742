"""Entry point of the `aquifer` command."""

import os
import sys

from aquifer_cli.commands import cli


def main() -> None:
    """Entry point; a closed pipe or Ctrl-C is not a traceback."""
    try:
        cli.main(prog_name="aquifer")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
