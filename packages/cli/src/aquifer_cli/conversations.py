"""Conversations: their settings, their messages, and sending one."""

import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC

from google.protobuf.field_mask_pb2 import FieldMask

from aquifer.query.v1.conversation_service_pb2 import (
    MESSAGE_ROLE_USER,
    Conversation,
    CreateConversationRequest,
    DeleteConversationRequest,
    GetConversationRequest,
    ListConversationsRequest,
    ListMessagesRequest,
    Message,
    SendMessageRequest,
    UpdateConversationRequest,
)
from aquifer.query.v1.query_service_pb2 import AskResponse, FinishReason
from aquifer_cli.ask import citation_json, stream_steps
from aquifer_cli.client import Client
from aquifer_cli.errors import EXIT_USAGE, CommandError

PAGE = 1_000
_PREFIX = "conversations/"
_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def make_name(text: str) -> str:
    """The resource name for an id or a resource name.

    Raises:
        CommandError: CONVERSATION_NAME.
    """
    conversation_id = text.removeprefix(_PREFIX)
    if not _ID.fullmatch(conversation_id):
        raise CommandError(
            "CONVERSATION_NAME",
            f"{text!r} is not the id of a conversation",
            hint="`aquifer conversations list` shows the ids",
            exit_code=EXIT_USAGE,
        )
    return _PREFIX + conversation_id


def read_id(conversation: Conversation) -> str:
    """Its id."""
    return conversation.name.removeprefix(_PREFIX)


async def create(client: Client, settings: Conversation) -> Conversation:
    """Creates a conversation."""
    request = CreateConversationRequest(conversation=settings)
    created: Conversation = await client.call(client.conversations.CreateConversation, request)
    return created


async def get(client: Client, name: str) -> Conversation:
    """One conversation."""
    request = GetConversationRequest(name=name)
    found: Conversation = await client.call(client.conversations.GetConversation, request)
    return found


async def update(client: Client, given: Conversation, paths: Sequence[str]) -> Conversation:
    """Changes the settings that `paths` name."""
    request = UpdateConversationRequest(conversation=given, update_mask=FieldMask(paths=paths))
    changed: Conversation = await client.call(client.conversations.UpdateConversation, request)
    return changed


async def delete(client: Client, name: str) -> None:
    """Deletes a conversation with its messages."""
    request = DeleteConversationRequest(name=name)
    await client.call(client.conversations.DeleteConversation, request)


async def list_conversations(client: Client) -> AsyncIterator[Conversation]:
    """All conversations of the key's principal, that with the newest message first."""
    token = ""
    while True:
        request = ListConversationsRequest(page_size=PAGE, page_token=token)
        page = await client.call(client.conversations.ListConversations, request)
        for one in page.conversations:
            yield one
        token = page.next_page_token
        if not token:
            return


async def list_messages(
    client: Client, name: str, *, citations: bool = False
) -> AsyncIterator[Message]:
    """All messages of a conversation, oldest first; answers with their `citations` if wanted."""
    token = ""
    while True:
        request = ListMessagesRequest(
            parent=name, page_size=PAGE, page_token=token, include_citations=citations
        )
        page = await client.call(client.conversations.ListMessages, request)
        for one in page.messages:
            yield one
        token = page.next_page_token
        if not token:
            return


def send(client: Client, name: str, question: str) -> AsyncIterator[AskResponse]:
    """The steps of the answer to a question, as `aquifer_cli.ask.ask`."""
    request = SendMessageRequest(parent=name, question=question)
    return stream_steps(client, client.conversations.SendMessage, request)


def as_json(conversation: Conversation) -> dict[str, object]:
    """A conversation for programs."""
    return {
        "conversation": read_id(conversation),
        "title": conversation.title,
        "model": conversation.model,
        "collection": conversation.collection,
        "collections": list(conversation.collections),
        "documents": list(conversation.documents),
        "filter": conversation.filter,
        "max_output_tokens": conversation.max_output_tokens,
        "prompt": conversation.prompt,
        "messages": conversation.message_count,
        "create_time": conversation.create_time.ToDatetime(tzinfo=UTC).isoformat(),
        "update_time": conversation.update_time.ToDatetime(tzinfo=UTC).isoformat(),
        "activity_time": conversation.activity_time.ToDatetime(tzinfo=UTC).isoformat(),
    }


def message_json(message: Message) -> dict[str, object]:
    """A message for programs; `answer` and `reason` are null for a question."""
    asked = message.role == MESSAGE_ROLE_USER
    reason = FinishReason.Name(message.finish_reason).removeprefix("FINISH_REASON_")
    return {
        "number": int(message.name.rpartition("/")[2]),
        "role": "user" if asked else "assistant",
        "text": message.text,
        "answer": message.answer_id or None,
        "reason": None if asked or message.withheld else reason,
        "withheld": message.withheld,
        "citations": list(map(citation_json, message.citations)),
        "create_time": message.create_time.ToDatetime(tzinfo=UTC).isoformat(),
    }
