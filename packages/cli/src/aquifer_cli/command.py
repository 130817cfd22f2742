"""Common to all commands: the stack, the output, and the handling of failures.

Commands import slow libraries when they run, not here, because `--help` and usage errors do not
need them.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aquifer_cli.errors import (
    EXIT_BUG,
    EXIT_USAGE,
    CommandError,
    OutputError,
    interrupted_error,
)

if TYPE_CHECKING:
    from aquifer_cli.client import Client
    from aquifer_cli.screen import Screen

T = TypeVar("T")
_FOLDER = click.Path(path_type=Path)
_FOLDER_HELP = "Data folder of the stack; default: AQUIFER_HOME, otherwise a folder of this user."
_JSON_HELP = "Output for programs: one JSON object, or one per line; also for errors."


@dataclass(frozen=True, slots=True)
class Run:
    """What every command gets: where the stack is, and where its output goes."""

    data_dir: Path | None
    screen: "Screen"

    def with_client(self, work: "Callable[[Client], Awaitable[T]]") -> T:
        """Runs `work` with a client of the stack."""
        from aquifer_cli import endpoints
        from aquifer_cli.client import open_client
        from aquifer_cli.interrupts import run_async

        async def run_connected() -> T:
            async with open_client(endpoints.find(self.data_dir)) as client:
                return await work(client)

        return run_async(run_connected())


class Commands(click.Group):
    """Commands in the order of their definition, which is the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # type: ignore[explicit-override]  # noqa: ARG002
        return list(self.commands)


def command(
    group: click.Group, name: str, *, examples: str = "", folder: bool = True
) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of `group` with the options every command has.

    Args:
        group: where it belongs.
        name: what people type.
        examples: lines for the end of its help.
        folder: whether it looks into a data folder.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @click.pass_context
        def call(
            context: click.Context,
            /,
            *,
            machine: bool,
            data_dir: Path | None = None,
            **options: object,
        ) -> None:
            from aquifer_cli.screen import Screen

            outer = context.find_root().params
            screen = Screen(machine=machine or bool(outer.get("machine")))
            run = Run(data_dir or outer.get("data_dir"), screen)

            def work() -> int:
                _check_encoding(context.command, {**options, "data_dir": str(data_dir or "")})
                return function(run, **options) or 0

            context.exit(_guard(screen.machine, work))

        call.__doc__ = function.__doc__
        made: Any = call
        made.__click_params__ = getattr(function, "__click_params__", [])
        if folder:
            made = click.option("--data-dir", type=_FOLDER, help=_FOLDER_HELP)(made)
        made = click.option("--json", "machine", is_flag=True, help=_JSON_HELP)(made)
        decorated: click.Command = group.command(name, epilog=_epilog(examples))(made)
        return decorated

    return decorate


def _epilog(examples: str) -> str | None:
    return f"\b\nExamples:\n{examples}" if examples else None


def _check_encoding(command: click.Command, options: Mapping[str, object]) -> None:
    """Checks that texts and the data folder are UTF-8; names of files need not be.

    Raises:
        CommandError: ARGUMENT_ENCODING.
    """
    for parameter in command.params:
        given = options.get(parameter.name or "")
        for text in given if isinstance(given, tuple) else (given,):
            try:
                (text if isinstance(text, str) else "").encode()
            except UnicodeEncodeError as error:
                option = isinstance(parameter, click.Option)
                name = parameter.opts[0] if option else parameter.human_readable_name
                raise CommandError(
                    "ARGUMENT_ENCODING",
                    f"{name} is not UTF-8 text (character {error.start + 1})",
                    hint="set a UTF-8 locale, or convert the text with `iconv`",
                    exit_code=EXIT_USAGE,
                ) from error


def _guard(machine: bool, work: Callable[[], int]) -> int:  # noqa: FBT001
    """Runs `work`, shows its failure, returns the exit code; bugs show no traceback."""
    try:
        return work()
    except CommandError as error:
        return show_failure(error, machine=machine)
    except KeyboardInterrupt:
        return show_failure(interrupted_error("stopped by Ctrl-C"), machine=machine)
    except (click.ClickException, BrokenPipeError, OutputError):
        raise
    except Exception as error:
        if "AQUIFER_TRACEBACK" in os.environ:
            raise
        return show_failure(
            CommandError(
                "BUG",
                f"{type(error).__name__}: {error}",
                hint="this is a bug: set AQUIFER_TRACEBACK=1 to see where, and report it",
                exit_code=EXIT_BUG,
            ),
            machine=machine,
        )


def show_failure(error: CommandError, *, machine: bool) -> int:
    """Shows a failure; returns the exit code."""
    from aquifer_cli.screen import Screen

    screen = Screen(machine=machine)
    if machine:
        screen.record(error.as_json())
    else:
        screen.fail(f"{error.reason}: {error.detail}", error.hint)
    return error.exit_code


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 failure, 2 wrong usage or no running stack, 3 a service "
    "cannot be reached, 70 a bug, 130 stopped by Ctrl-C, 141 the reader of a pipe has closed it. "
    "`aquifer COMMAND --help` shows examples.",
)
@click.option("--data-dir", type=_FOLDER, help=_FOLDER_HELP)
@click.option("--json", "machine", is_flag=True, help=_JSON_HELP)
@click.version_option(package_name="aquifer-cli")
def cli(data_dir: Path | None, *, machine: bool) -> None:
    """Aquifer: upload documents, search them and get answers with citations.

    Start with `aquifer demo`, or with `aquifer up` in one terminal and `aquifer upload`,
    `aquifer ask` in another.
    """
