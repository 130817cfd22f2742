"""`ConversationService` and the scopes of its methods."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext
from opentelemetry import trace
from typing_extensions import override

from aquifer.query.v1 import conversation_service_pb2 as pb
from aquifer.query.v1.conversation_service_pb2_grpc import ConversationServiceServicer
from aquifer.query.v1.query_service_pb2 import AskResponse
from chassis.base import paging
from chassis.identity.tokens import caller
from chassis.rpc.server import Access, any_of
from query.answer_messages import FINISH_REASONS, annotate, to_citation, to_step
from query.conversation import (
    Conversation,
    Message,
    Owner,
    Role,
    Settings,
    check_last_messages,
    make_name,
    read_conversation_id,
)
from query.usecases.conversations import Activity, Conversations
from query.usecases.send_message import NewMessage, SendMessage

ACCESS: Final[Access] = {
    f"aquifer.query.v1.ConversationService/{method}": any_of("ask")
    for method in (
        "CreateConversation",
        "GetConversation",
        "ListConversations",
        "UpdateConversation",
        "DeleteConversation",
        "ListMessages",
        "SendMessage",
    )
}
# Citations bring whole passages: what does not fit into the page is read for nothing.
CITED_PAGE_MAX: Final = 100
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS_PER_DAY: Final = 86_400
ROLES: Final = {
    Role.USER: pb.MESSAGE_ROLE_USER,
    Role.ASSISTANT: pb.MESSAGE_ROLE_ASSISTANT,
}


@dataclass(frozen=True, kw_only=True)
class ConversationRpc(ConversationServiceServicer):
    """`ConversationService`; converts messages, for the caller's verified tenant and principal."""

    conversations: Conversations
    send: SendMessage

    @override
    async def CreateConversation(
        self, request: pb.CreateConversationRequest, context: ServicerContext[Any, Any]
    ) -> pb.Conversation:
        """Creates a conversation of the caller."""
        settings = _read_settings(request.conversation)
        return _to_conversation(await self.conversations.create(_owner(), settings))

    @override
    async def GetConversation(
        self, request: pb.GetConversationRequest, context: ServicerContext[Any, Any]
    ) -> pb.Conversation:
        """Reads a conversation of the caller."""
        conversation_id = read_conversation_id(request.name)
        return _to_conversation(await self.conversations.get(_owner(), conversation_id))

    @override
    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListConversationsResponse:
        """Lists the caller's conversations, the latest active first."""
        page = paging.parse(request.page_size, request.page_token, parts=2)
        check_last_messages(request.messages_per_conversation)
        found = await self.conversations.list_page(
            _owner(),
            caller().labels,
            _read_activity(page.after),
            page.limit,
            request.messages_per_conversation,
        )
        shown, token = paging.fill(
            page,
            found,
            _to_conversation,
            lambda one: (one.active_at.isoformat(), str(one.conversation_id)),
        )
        return pb.ListConversationsResponse(conversations=shown, next_page_token=token)

    @override
    async def UpdateConversation(
        self, request: pb.UpdateConversationRequest, context: ServicerContext[Any, Any]
    ) -> pb.Conversation:
        """Changes settings of a conversation of the caller."""
        given = request.conversation
        changed = await self.conversations.update(
            _owner(),
            read_conversation_id(given.name),
            _read_settings(given),
            request.update_mask.paths,
        )
        return _to_conversation(changed)

    @override
    async def DeleteConversation(
        self, request: pb.DeleteConversationRequest, context: ServicerContext[Any, Any]
    ) -> pb.DeleteConversationResponse:
        """Deletes a conversation of the caller."""
        await self.conversations.delete(_owner(), read_conversation_id(request.name))
        return pb.DeleteConversationResponse()

    @override
    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListMessagesResponse:
        """Lists messages, oldest first."""
        page = paging.parse(request.page_size, request.page_token)
        if request.include_citations:
            page = replace(page, size=min(page.size, CITED_PAGE_MAX))
        conversation_id = read_conversation_id(request.parent)
        found = await self.conversations.list_messages(
            _owner(),
            conversation_id,
            caller().labels,
            paging.read_number(page.after),
            page.limit,
            citations=request.include_citations,
        )

        convert = partial(_to_message, make_name(conversation_id))
        shown, token = paging.fill(page, found, convert, lambda one: (str(one.number),))
        return pb.ListMessagesResponse(messages=shown, next_page_token=token)

    @override
    async def SendMessage(
        self, request: pb.SendMessageRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[AskResponse]:
        """Streams the answer to a message; its span links to the traces of what it cites."""
        message = NewMessage(
            owner=_owner(),
            held=caller().labels,
            conversation_id=read_conversation_id(request.parent),
            question=request.question,
            request_id=request.request_id,
        )
        span = trace.get_current_span()
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        async with aclosing(self.send.run(message, trace_id)) as steps:
            async for step in steps:
                annotate(span, step)
                yield to_step(step)


def _owner() -> Owner:
    who = caller()
    return Owner(tenant=who.tenant, principal=who.principal)


def _read_activity(position: paging.Position) -> Activity | None:
    if not position:
        return None
    time, conversation_id = position
    try:
        found = Activity(time=datetime.fromisoformat(time), conversation_id=UUID(conversation_id))
    except ValueError as error:
        raise paging.invalid_token_error() from error
    if found.time.tzinfo is None:
        raise paging.invalid_token_error()
    return found


def _read_settings(given: pb.Conversation) -> Settings:
    settings = Settings(
        title=given.title,
        model=given.model,
        collection=given.collection,
        collections=tuple(given.collections),
        documents=tuple(given.documents),
        filter=given.filter,
        max_output_tokens=given.max_output_tokens,
        prompt=given.prompt,
    )
    settings.check()
    return settings


def _to_conversation(one: Conversation) -> pb.Conversation:
    settings, name = one.settings, make_name(one.conversation_id)
    made = pb.Conversation(
        name=name,
        title=settings.title,
        model=settings.model,
        collection=settings.collection,
        collections=settings.collections,
        documents=settings.documents,
        filter=settings.filter,
        max_output_tokens=settings.max_output_tokens,
        prompt=settings.prompt,
        message_count=one.message_count,
        last_messages=[_to_message(name, last) for last in one.last_messages],
    )
    _set_time(made.create_time, one.created_at)
    _set_time(made.update_time, one.updated_at)
    _set_time(made.activity_time, one.active_at)
    return made


def _to_message(conversation: str, one: Message) -> pb.Message:
    """A message; what only answers have is not set for questions, because a page has hundreds."""
    made = pb.Message(
        name=f"{conversation}/messages/{one.number}", role=ROLES[one.role], text=one.text
    )
    _set_time(made.create_time, one.created_at)
    if one.answer_id:
        made.answer_id = str(one.answer_id)
        made.withheld = one.withheld
        if one.reason:
            made.finish_reason = FINISH_REASONS[one.reason]
        if one.citations:
            made.citations.extend(map(to_citation, one.citations))
    return made


def _set_time(field: Timestamp, time: datetime) -> None:
    """As `Timestamp.FromDatetime`, in a third of its time: a page has hundreds."""
    since = time - EPOCH
    field.seconds = since.days * SECONDS_PER_DAY + since.seconds
    field.nanos = since.microseconds * 1_000
