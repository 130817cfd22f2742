"""The commands for models. They follow the commands for profiles.

Like all commands they import what they need when they run.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aquifer_cli.command import Commands, Run, command
from aquifer_cli.commands_profiles import cli
from aquifer_cli.errors import EXIT_FAILED, EXIT_USAGE, CommandError

if TYPE_CHECKING:
    from aquifer.inference.v1.inference_service_pb2 import Model
    from aquifer_cli.client import Client

__all__ = ["cli"]

_NAME = click.argument("name", metavar="NAME")


@cli.group("models", cls=Commands, invoke_without_command=True)
@click.option("--json", "machine", is_flag=True, help="As `aquifer models list --json`.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Data folder of the stack.")
@click.pass_context
def models(context: click.Context, data_dir: Path | None, *, machine: bool) -> None:
    """Lists, loads and unloads models while the stack runs.

    Without a command: the list. What is loaded stays until it is unloaded, also when the stack
    starts again. To load and unload, the key in use needs the scope operate; to list, models.
    """
    if context.invoked_subcommand is None:
        context.exit(context.invoke(list_models, machine=machine, data_dir=data_dir))
    outer = context.find_root().params
    outer["machine"] = machine or outer.get("machine")
    outer["data_dir"] = data_dir or outer.get("data_dir")


@command(models, "list", examples="  aquifer models\n  aquifer models --json | jq -r .name")
def list_models(run: Run) -> int:
    """Lists the models, the engine of each, and what they can do.

    The first one of each kind is the default. The key in use needs the scope models.
    """
    from aquifer_cli import models as listing

    listing.show(run.screen, run.with_client(listing.list_models))
    return 0


@command(
    models,
    "load",
    examples="""\
  aquifer models load chat --url http://localhost:11434/v1 --model qwen3:8b
  aquifer models load chat --url http://gpu-1:8000/v1 --url http://gpu-2:8000/v1
  aquifer models load mini --url https://api.openai.com/v1 --key-variable OPENAI_KEY
  aquifer models load bge-m3 --kind embed --url http://gpu-1:8001/v1 --model BAAI/bge-m3
  aquifer models load qwen --folder qwen3-8b""",
)
@_NAME
@click.option(
    "--url", "urls", multiple=True, help="Server with OpenAI's protocol; repeat it for several."
)
@click.option("--spare-url", "spares", multiple=True, help="Server to use when all others fail.")
@click.option("--model", default="", help="Name of the model there; default: the first it lists.")
@click.option(
    "--folder", default="", help="Folder in AQUIFER_MODEL_FOLDER: vLLM in inference runs it."
)
@click.option(
    "--kind",
    type=click.Choice(["generate", "embed", "rerank"]),
    default="generate",
    show_default=True,
    help="What it is for.",
)
@click.option(
    "--key-variable", default="", help="Variable of the environment with the servers' key."
)
@click.option("--concurrency", default=0, help="Calls of each server at once.")
@click.option("--priority", is_flag=True, help="The servers know priorities (vLLM).")
@click.option("--tool-parser", default="", help="vLLM's parser of calls of functions.")
@click.option("--reasoning-parser", default="", help="vLLM's parser of what a model thinks.")
@click.option(
    "--max-tokens", default=0, help="Longest text in tokens, if the server does not tell."
)
@click.option(
    "--dimensions", default=0, help="Length of its vectors; default: as the model has it."
)
@click.option("--question-prefix", default="", help="Put before each question that is embedded.")
@click.option("--passage-prefix", default="", help="Put before each passage that is embedded.")
@click.option("--description", default="", help="What it is, for people.")
@click.option("--licence", default="", help="Licence of its weights, as an SPDX identifier.")
@click.option("--revision", default="", help="Version of its weights.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is open.")
def load_model(
    run: Run,
    name: str,
    *,
    kind: str,
    urls: tuple[str, ...],
    spares: tuple[str, ...],
    key_variable: str,
    no_wait: bool,
    **told: object,
) -> int:
    """Adds a model, or replaces one that was loaded under this name.

    Every replica of inference opens it, and opens it again when it fails. Exit code 1: it is
    stored, and cannot be opened now.
    """
    from aquifer_cli import models as loading

    if bool(urls) == bool(told["folder"]):
        raise click.UsageError("give --url, or --folder")
    if told["folder"] and (spares or key_variable):
        raise click.UsageError(
            "--spare-url and --key-variable are for servers: give them with --url, not --folder"
        )
    servers = [*((url, 1) for url in urls), *((url, 0) for url in spares)]
    request = loading.make_request(
        name, kind, servers, {**told, "api_key": _read_key(key_variable)}
    )

    async def load(client: "Client") -> "Model":
        return await loading.load(client, request, wait=not no_wait)

    with run.screen.show_waiting(f"loading {name} ..."):
        loaded = run.with_client(load)
    if run.screen.machine or loading.is_usable(loaded) or no_wait:
        loading.show(run.screen, [loaded])
    if loading.is_usable(loaded) or no_wait:
        return 0
    run.screen.fail(
        f"{name} is stored, and cannot be used as given: {loaded.problem}",
        "inference tries again; correct the cause, load it again, or `aquifer models unload`",
    )
    return EXIT_FAILED


@command(models, "unload", examples="  aquifer models unload chat")
@_NAME
@click.option("--force", is_flag=True, help="Also a model that embeds.")
def unload_model(run: Run, name: str, *, force: bool) -> int:
    """Removes a loaded model and its aliases; calls that run are given 20 seconds."""
    from aquifer_cli import models as unloading

    run.with_client(lambda client: unloading.unload(client, name, force=force))
    _tell(run, {"model": name, "state": "UNLOADED"}, f"{name} is unloaded")
    return 0


@command(
    models,
    "alias",
    examples="  aquifer models alias best chat\n  aquifer models alias default chat",
)
@click.argument("alias")
@_NAME
def set_alias(run: Run, alias: str, name: str) -> int:
    """Gives a model a further name, or points that name to another model.

    The alias `default` stands for the model that answers questions without a name of a model.
    """
    from aquifer_cli import models as naming

    run.with_client(lambda client: naming.set_alias(client, alias, name))
    _tell(run, {"alias": alias, "model": name}, f"{alias} stands for {name}")
    return 0


@command(models, "unalias", examples="  aquifer models unalias best")
@click.argument("alias")
def delete_alias(run: Run, alias: str) -> int:
    """Removes a further name."""
    from aquifer_cli import models as naming

    run.with_client(lambda client: naming.delete_alias(client, alias))
    _tell(run, {"alias": alias, "model": None}, f"{alias} stands for nothing now")
    return 0


def _tell(run: Run, record: dict[str, object], text: str) -> None:
    if run.screen.machine:
        run.screen.record(record)
    run.screen.say(text)


def _read_key(variable: str) -> str:
    """The key in a variable: an argument would be seen by everyone on this machine."""
    if not variable:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise CommandError(
            "SETTING_MISSING",
            f"the variable {variable} is not set",
            hint=f"export {variable}=... with the key of the server",
            exit_code=EXIT_USAGE,
        )
    return key
