"""What every command has: the stack it talks to, its output, and how it fails."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from aquifer_cli import endpoints
from aquifer_cli.client import Client, open_client
from aquifer_cli.errors import CommandError
from aquifer_cli.screen import Screen

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """What every command gets: where the stack is, and where its output goes."""

    data_dir: Path | None
    screen: Screen

    def with_client(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Runs `work` with a client of the stack."""

        async def connected() -> T:
            async with open_client(endpoints.find(self.data_dir)) as client:
                return await work(client)

        return asyncio.run(connected())


def command(group: click.Group, name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of `group` with the two options every command has."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @click.pass_context
        def call(
            context: click.Context, /, *, machine: bool, data_dir: Path | None, **options: object
        ) -> None:
            outer: Path | None = (context.find_root().params or {}).get("data_dir")
            run = Run(data_dir or outer, Screen(machine=machine))
            try:
                context.exit(function(run, **options) or 0)
            except CommandError as error:
                _show(run.screen, error)
                context.exit(error.exit_code)

        call.__doc__ = function.__doc__
        made: Any = call
        made.__click_params__ = getattr(function, "__click_params__", [])
        made = click.option(
            "--data-dir",
            type=click.Path(path_type=Path),
            help="Folder of the stack; else AQUIFER_HOME.",
        )(made)
        made = click.option("--json", "machine", is_flag=True, help="For machines.")(made)
        decorated: click.Command = group.command(name)(made)
        return decorated

    return decorate


def _show(screen: Screen, error: CommandError) -> None:
    if screen.machine:
        screen.record(error.as_json())
        return
    screen.err.print(f"{error.reason}: {error.detail}", style="red", markup=False)
    if error.hint:
        screen.err.print(error.hint, style="dim", markup=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the stack.")
@click.version_option(package_name="aquifer-cli")
def cli(data_dir: Path | None) -> None:
    """Aquifer: documents soak in through events, cited answers are drawn out over gRPC."""
