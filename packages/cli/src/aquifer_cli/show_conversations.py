"""Conversations and their messages for people."""

from collections.abc import Sequence
from datetime import UTC

from aquifer.query.v1.conversation_service_pb2 import MESSAGE_ROLE_USER, Conversation, Message
from aquifer_cli.ask import citation_line
from aquifer_cli.conversations import read_id
from aquifer_cli.launch import spell_commands
from aquifer_cli.layout import Row
from aquifer_cli.screen import Screen

WITHHELD = "(withheld: a document it uses was deleted, or your key may not see it)"


def show_list(screen: Screen, found: Sequence[Conversation]) -> None:
    """A table; the titles stand behind it, cut to the width."""
    screen.table(
        ["conversation", "messages", "last message"],
        [
            Row(cells=(read_id(one), one.message_count, _render_time(one)), aside=one.title)
            for one in found
        ],
    )
    if not found:
        screen.say(spell_commands("no conversations; `aquifer chat` starts the first one"))


def show_messages(screen: Screen, found: Conversation, messages: Sequence[Message]) -> None:
    """The settings that are set, then the messages in order, with their sources."""
    screen.say(found.title or "(without title)", style="bold")
    settings = {
        "collections": ", ".join(filter(None, [found.collection, *found.collections])),
        "attached": ", ".join(found.documents),
        "model": found.model,
        "filter": found.filter,
        "prompt": found.prompt,
    }
    for name, value in settings.items():
        if value:
            screen.note(f"{name}: {value}")
    for message in messages:
        if message.role == MESSAGE_ROLE_USER:
            screen.say()
            screen.fill(message.text, "> ", style="bold")
        else:
            screen.fill(WITHHELD if message.withheld else message.text)
            for citation in message.citations:
                screen.fill(citation_line(citation), style="cyan")


def _render_time(one: Conversation) -> str:
    return one.activity_time.ToDatetime(tzinfo=UTC).isoformat(" ", "seconds")
