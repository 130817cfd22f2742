"""The commands for prompts. They follow those for conversations.

Like all commands they import what they need when they run.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aquifer_cli.command import Commands, Run, command
from aquifer_cli.commands_conversations import cli
from aquifer_cli.errors import EXIT_FAILED

if TYPE_CHECKING:
    from aquifer.query.v1.prompt_service_pb2 import Prompt
    from aquifer_cli.client import Client

__all__ = ["cli"]

_PROMPT = click.argument("prompt", metavar="PROMPT")
_FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
_DESCRIPTION = click.option(
    "--description", default="", help="What the version is for, or what it changes."
)


@cli.group("prompts", cls=Commands)
def prompts_() -> None:
    """Tells models that write how to answer.

    A prompt gives role, tone, language and form of answers. It is used by `aquifer ask --prompt`,
    and by a conversation that names it. Each change makes a new version, and an answer names the
    one it was made with: support@3. What keeps answers safe is not part of a prompt: they use
    nothing but the passages and name them.

    In a template {today} is the date and {refusal} the sentence for "no answer"; {{ and }} are
    braces. Changing prompts needs the scope documents.write.
    """


@command(prompts_, "list", examples="  aquifer prompts list --json | jq -r .prompt")
def list_prompts(run: Run) -> int:
    """Lists the prompts, each in its newest version."""
    from aquifer_cli import prompts

    async def work(client: "Client") -> "list[Prompt]":
        return [one async for one in prompts.list_prompts(client)]

    _show(run, run.with_client(work))
    return 0


@command(
    prompts_,
    "get",
    examples="  aquifer prompts get support\n  aquifer prompts get support@3 > support.txt",
)
@_PROMPT
def get_prompt(run: Run, prompt: str) -> int:
    """Prints the template of a prompt.

    PROMPT is its newest version, PROMPT@VERSION one of all.
    """
    from aquifer_cli import prompts

    name = prompts.make_reference(prompt) or prompts.make_name(prompt)
    found = run.with_client(lambda client: prompts.get(client, name))
    if run.screen.machine:
        run.screen.record(prompts.as_json(found))
    run.screen.say(found.template)
    note = f"{prompts.read_id(found)}@{found.version}"
    run.screen.note(": ".join(filter(None, (note, found.description))))
    return 0


@command(
    prompts_,
    "create",
    examples="""\
  aquifer prompts create support support.txt --description "for the help desk"
  echo "You answer in one sentence. Today is {today}." | aquifer prompts create short -""",
)
@_PROMPT
@_FILE
@_DESCRIPTION
def create_prompt(run: Run, prompt: str, file: Path, description: str) -> int:
    """Creates a prompt from a file.

    FILE has the template; `-` is standard input.
    """
    from aquifer.query.v1.prompt_service_pb2 import Prompt
    from aquifer_cli import prompts

    name = prompts.make_name(prompt)
    given = Prompt(name=name, template=prompts.read_template(file), description=description)
    _tell(run, run.with_client(lambda client: prompts.create(client, given)))
    return 0


@command(
    prompts_,
    "update",
    examples="""\
  aquifer prompts update support support.txt --description "shorter answers"
  aquifer prompts update support support.txt --expected-version 3""",
)
@_PROMPT
@_FILE
@_DESCRIPTION
@click.option(
    "--expected-version",
    type=click.IntRange(1),
    default=None,
    help="Change nothing if the newest version is another one.",
)
def update_prompt(
    run: Run, prompt: str, file: Path, description: str, expected_version: int | None
) -> int:
    """Adds a version from a file.

    FILE has the template; `-` is standard input. The same template and description as those of the
    newest version add none.
    """
    from aquifer.query.v1.prompt_service_pb2 import Prompt
    from aquifer_cli import prompts

    name = prompts.make_name(prompt)
    given = Prompt(name=name, template=prompts.read_template(file), description=description)
    _tell(run, run.with_client(lambda client: prompts.update(client, given, expected_version or 0)))
    return 0


@command(prompts_, "versions", examples="  aquifer prompts versions support")
@_PROMPT
def list_versions(run: Run, prompt: str) -> int:
    """Lists the versions of a prompt, newest first."""
    from aquifer_cli import prompts

    name = prompts.make_name(prompt)

    async def work(client: "Client") -> "list[Prompt]":
        return [one async for one in prompts.list_versions(client, name)]

    _show(run, run.with_client(work))
    return 0


@command(prompts_, "delete", examples="  aquifer prompts delete support --yes")
@_PROMPT
@click.option("--yes", "-y", is_flag=True, help="Do not ask before.")
def delete_prompt(run: Run, prompt: str, *, yes: bool) -> int:
    """Deletes a prompt with its versions.

    Conversations that name it answer again once they get another one.
    """
    from aquifer_cli import prompts

    name = prompts.make_name(prompt)
    asks = not yes and run.screen.animated and sys.stdin.isatty()
    if asks and not click.confirm("delete the prompt with all versions?", err=True):
        run.screen.note("nothing was changed")
        return EXIT_FAILED
    run.with_client(lambda client: prompts.delete(client, name))
    prompt_id = name.rpartition("/")[2]
    if run.screen.machine:
        run.screen.record({"prompt": prompt_id, "deleted": True})
    run.screen.say(f"{prompt_id}: deleted")
    return 0


def _tell(run: Run, prompt: "Prompt") -> None:
    from aquifer_cli import prompts

    if run.screen.machine:
        run.screen.record(prompts.as_json(prompt))
    run.screen.say(f"{prompts.read_id(prompt)}: version {prompt.version}")


def _show(run: Run, found: "list[Prompt]") -> None:
    """A table; the descriptions, or the templates, stand behind it, cut to the width."""
    from aquifer_cli import prompts
    from aquifer_cli.layout import Row

    for one in found if run.screen.machine else ():
        run.screen.record(prompts.as_json(one))
    rows = [
        Row(
            cells=(
                prompts.read_id(one),
                one.version,
                prompts.render_time(one) or "built in",
                one.creator or "-",
            ),
            aside=one.description or " ".join(one.template.split()),
        )
        for one in found
    ]
    run.screen.table(["prompt", "version", "created", "by"], rows)
