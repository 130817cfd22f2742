"""Entry point of the `aquifer` command."""

import os
import sys
from pathlib import Path

import click

from aquifer_cli.command import show_failure
from aquifer_cli.commands_eval import cli
from aquifer_cli.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PIPE,
    EXIT_USAGE,
    CommandError,
    OutputError,
)


def main() -> None:
    """Runs one command; user errors never show a traceback."""
    # Otherwise gRPC logs ended connections into the output.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for name in ("stdout", "stderr"):
        # The caller may have closed it.
        stream = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        stream.reconfigure(errors="replace")
        setattr(sys, name, stream)
    try:
        code = _main()
        sys.stdout.flush()
    except (OutputError, OSError, SystemExit) as error:
        gone = _is_broken_pipe(error)
        if isinstance(error, SystemExit) and not gone:
            raise
        # A closed pipe is not an error message; shells know the exit code from SIGPIPE.
        code = EXIT_PIPE if gone else EXIT_FAILED
        if not gone:
            sys.stderr.write(f"OUTPUT_UNWRITABLE: {error}\n")
        # Prevents the interpreter from writing the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _is_broken_pipe(error: BaseException) -> bool:
    # click and rich convert it to this exit code; nothing else here uses it.
    exited = isinstance(error, SystemExit) and error.code == EXIT_FAILED
    return exited or isinstance(error, BrokenPipeError)


def _main() -> int:
    try:
        # Without its standalone mode click returns the exit code and raises what went wrong.
        return int(cli.main(prog_name="aquifer", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "aquifer"
        return show_failure(
            CommandError(
                "USAGE", error.format_message(), hint=f"see `{path} --help`", exit_code=EXIT_USAGE
            ),
            machine="--json" in sys.argv[1:],
        )
    except click.Abort:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    main()
