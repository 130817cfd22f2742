"""The commands for conversations and feedback. They follow the one that counts documents.

Like all commands they import what they need when they run.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click
from typing_extensions import Unpack

from aquifer_cli import names
from aquifer_cli.command import Commands, Run, command
from aquifer_cli.commands import COLLECTIONS_ANY
from aquifer_cli.commands_facets import cli
from aquifer_cli.errors import EXIT_FAILED

if TYPE_CHECKING:
    from aquifer.query.v1.conversation_service_pb2 import Conversation, Message
    from aquifer_cli import exporting
    from aquifer_cli.client import Client

__all__ = ["cli"]

ATTACHMENTS = "attachments"
_CONVERSATION = click.argument("conversation", metavar="CONVERSATION")


class ChatOptions(TypedDict):
    """The options of `aquifer chat`."""

    conversation: str
    collections: tuple[str, ...]
    model: str | None
    where: str | None
    prompt: str | None
    files: tuple[Path, ...]
    attach_to: str
    no_attached: bool


@command(
    cli,
    "chat",
    examples="""\
  aquifer chat -c handbook -c surveys
  aquifer chat --attach report.pdf --attach minutes.docx
  aquifer chat --conversation 0f8c1c1e-5a52-4c55-9c5f-2f2a2f6d8f10
  printf 'How deep is the well?\\nAnd how old?\\n' | aquifer chat --json""",
)
@click.option("--conversation", default="", help="Goes on with this one; default: a new one.")
@COLLECTIONS_ANY
@click.option("--model", default=None, help="Model of `aquifer models`, or an alias.")
@click.option("--filter", "where", default=None, help="Only documents for which this is true.")
@click.option("--prompt", default=None, help="Prompt of `aquifer prompts`, as ID or ID@VERSION.")
@click.option(
    "--attach",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Uploads a file and attaches it to the conversation; repeatable.",
)
@click.option(
    "--attach-to",
    default=ATTACHMENTS,
    show_default=True,
    help="Collection for the documents of --attach.",
)
@click.option("--no-attached", is_flag=True, help="Detaches what was attached before.")
def chat(
    run: Run,
    **options: Unpack[ChatOptions],
) -> int:
    """Answers questions in a conversation, line by line.

    A question can refer to those before it. In a terminal, Ctrl-C stops the running answer, of
    which nothing is stored, and Ctrl-D ends; questions can also come from a pipe, one a line.
    Options change the settings of an existing conversation; "" sets one back.

    Files of --attach become documents, and the first question waits until they are indexed.
    Answers then come from attached documents and, with -c, from these collections. The same file
    again is the same document. Documents stay when they are detached or the conversation is
    deleted: `aquifer delete NAME` deletes one.
    """
    from aquifer.query.v1.conversation_service_pb2 import Conversation
    from aquifer_cli import conversations
    from aquifer_cli.chat import Chat, Files
    from aquifer_cli.prompts import make_reference

    chosen = names.check_collections(options["collections"])
    model, where, prompt = options["model"], options["where"], options["prompt"]
    told = None if prompt is None else make_reference(prompt)
    settings = {"model": model, "filter": where, "prompt": told}
    paths = [name for name, value in settings.items() if value is not None]
    if options["collections"]:
        # Both: those of `collections` take the place of one that was set before.
        paths += ["collection", "collections"]
    files = Files(
        options["files"], names.check_collection(options["attach_to"]), options["no_attached"]
    )
    if files.paths or files.replace:
        paths += ["documents"]
    given = Conversation(
        collections=chosen, model=model or "", filter=where or "", prompt=told or ""
    )
    conversation = options["conversation"]
    name = conversations.make_name(conversation) if conversation else ""
    return Chat(run, given, paths, name, files).answer_lines()


@command(
    cli,
    "feedback",
    examples="""\
  aquifer feedback 6f1c0b4e-5a52-4c55-9c5f-2f2a2f6d8f10 bad --reason "the wrong pump\"""",
)
@click.argument("answer", metavar="ANSWER")
@click.argument("rating", type=click.Choice(["good", "bad"]))
@click.option("--reason", default="", help="Why, at most 1,000 characters.")
def feedback(run: Run, answer: str, rating: str, reason: str) -> int:
    """Says whether an answer of yours is good.

    ANSWER is its id, as `aquifer ask` shows it. The last feedback counts.
    """
    from aquifer.query.v1.query_service_pb2 import (
        RATING_BAD,
        RATING_GOOD,
        Feedback,
        GiveFeedbackRequest,
    )

    given = Feedback(rating=RATING_GOOD if rating == "good" else RATING_BAD, reason=reason)
    request = GiveFeedbackRequest(answer_id=answer, feedback=given)
    run.with_client(lambda client: client.call(client.query.GiveFeedback, request))
    if run.screen.machine:
        run.screen.record({"answer": answer, "rating": rating, "reason": reason})
    run.screen.say(f"{answer}: {rating}")
    return 0


@cli.group("conversations", cls=Commands)
def conversations_() -> None:
    """Lists, shows, exports, renames and deletes conversations."""


@command(conversations_, "list", examples="  aquifer conversations list --json | jq .title")
def list_conversations(run: Run) -> int:
    """Lists conversations, that with the newest message first."""
    from aquifer_cli import conversations, show_conversations

    async def work(client: "Client") -> "list[Conversation]":
        return [one async for one in conversations.list_conversations(client)]

    found = run.with_client(work)
    for one in found if run.screen.machine else ():
        run.screen.record(conversations.as_json(one))
    show_conversations.show_list(run.screen, found)
    return 0


@command(
    conversations_,
    "show",
    examples="  aquifer conversations show 0f8c1c1e-5a52-4c55-9c5f-2f2a2f6d8f10",
)
@_CONVERSATION
def show_conversation(run: Run, conversation: str) -> int:
    """Shows the settings of a conversation and its messages with their sources.

    With --json: one object for the conversation, then one for each message.
    """
    from aquifer_cli import conversations, show_conversations

    name = conversations.make_name(conversation)

    async def work(client: "Client") -> "tuple[Conversation, list[Message]]":
        found = await conversations.get(client, name)
        return found, [
            one async for one in conversations.list_messages(client, name, citations=True)
        ]

    found, messages = run.with_client(work)
    if run.screen.machine:
        run.screen.record(conversations.as_json(found))
        for one in messages:
            run.screen.record(conversations.message_json(one))
    show_conversations.show_messages(run.screen, found, messages)
    return 0


@command(
    conversations_,
    "export",
    examples="""\
  aquifer conversations export --output answers.jsonl
  aquifer conversations export --output january.jsonl --from 2026-01-01 --to 2026-02-01 --all""",
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSONL file.")
@click.option("--from", "start", default="", help="Only answers from this time on; UTC.")
@click.option("--to", "end", default="", help="Only answers before this time; UTC.")
@click.option(
    "--all", "all_principals", is_flag=True, help="Those of every key; needs the scope operate."
)
def export_conversations(
    run: Run, output: Path, start: str, end: str, *, all_principals: bool
) -> int:
    """Exports answers with everything that is recorded of them.

    A line for each answer, oldest first, also outside of conversations: its question, settings,
    citations, model, feedback and times. After an interruption the same command goes on. What was
    deleted, or what the key may not see, has no text.
    """
    from aquifer_cli import exporting
    from aquifer_cli.outputs import check_folder

    check_folder(output)
    request = exporting.make_request(start, end, all_principals=all_principals)
    with run.screen.show_progress(answers=None) as bars:

        async def work(client: "Client") -> "exporting.Exported":
            return await exporting.export(
                client, request, output, done=bars["answers"].advance, note=run.screen.note
            )

        exported = run.with_client(work)
    if run.screen.machine:
        counts = {"answers": exported.answers, "withheld": exported.withheld}
        run.screen.record({"output": str(output), **counts})
    lacking = f", {exported.withheld:,} of them without text" if exported.withheld else ""
    run.screen.say(f"{exported.answers:,} answers in {output}{lacking}")
    return 0


@command(
    conversations_,
    "rename",
    examples='  aquifer conversations rename 0f8c1c1e-5a52-4c55-9c5f-2f2a2f6d8f10 "Wells"',
)
@_CONVERSATION
@click.argument("title")
def rename_conversation(run: Run, conversation: str, title: str) -> int:
    """Gives a conversation another title."""
    from aquifer.query.v1.conversation_service_pb2 import Conversation
    from aquifer_cli import conversations

    given = Conversation(name=conversations.make_name(conversation), title=title)
    changed = run.with_client(lambda client: conversations.update(client, given, ["title"]))
    if run.screen.machine:
        run.screen.record(conversations.as_json(changed))
    run.screen.say(f"{conversations.read_id(changed)}: {changed.title}")
    return 0


@command(
    conversations_,
    "delete",
    examples="  aquifer conversations delete 0f8c1c1e-5a52-4c55-9c5f-2f2a2f6d8f10 --yes",
)
@_CONVERSATION
@click.option("--yes", "-y", is_flag=True, help="Do not ask before.")
def delete_conversation(run: Run, conversation: str, *, yes: bool) -> int:
    """Deletes a conversation with its messages and answers.

    Documents that are attached to it stay: `aquifer conversations show` names them, and
    `aquifer delete NAME` deletes one.
    """
    from aquifer_cli import conversations

    name = conversations.make_name(conversation)
    asks = not yes and run.screen.animated and sys.stdin.isatty()
    if asks and not click.confirm("delete the conversation and its answers?", err=True):
        run.screen.note("nothing was changed")
        return EXIT_FAILED
    run.with_client(lambda client: conversations.delete(client, name))
    conversation_id = name.rpartition("/")[2]
    if run.screen.machine:
        run.screen.record({"conversation": conversation_id, "deleted": True})
    run.screen.say(f"{conversation_id}: deleted")
    return 0
