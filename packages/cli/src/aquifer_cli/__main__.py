"""Entry point of the `aquifer` command."""

import os
import sys

import click

from aquifer_cli.command import failed
from aquifer_cli.commands import cli
from aquifer_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, CommandError
from aquifer_cli.screen import Screen


def main() -> None:
    """Runs one command; nothing a person does ends in a traceback."""
    # Else gRPC's core tells of connections that end, between the lines of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a text file in fact
    try:
        code = _main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; the interpreter must not try to write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    sys.exit(code)


def _main() -> int:
    try:
        # Without its standalone mode click returns the exit code and raises what went wrong.
        return int(cli.main(prog_name="aquifer", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "aquifer"
        return failed(
            Screen(machine="--json" in sys.argv[1:]),
            CommandError(
                "USAGE", error.format_message(), hint=f"see `{path} --help`", exit_code=EXIT_USAGE
            ),
        )
    except click.Abort:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    main()
