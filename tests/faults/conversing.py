"""People who hold conversations while parts are killed, with a journal of their own."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from aquifer.query.v1.conversation_service_pb2 import (
    Conversation,
    CreateConversationRequest,
    DeleteConversationRequest,
    ListConversationsRequest,
    SendMessageRequest,
    UpdateConversationRequest,
)
from aquifer_cli import keys, tenants
from aquifer_cli.client import Client, open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import from_rpc
from tests.faults.journal import Journal

# Two principals of one tenant, and one of another tenant.
PEOPLE = ("first", "second", "neighbour")
NEIGHBOUR = "neighbour"
# Always there.
MODEL = "extractive"
CALL_S = 8.0
RETRY_S = 0.3
# A call whose end was not seen is repeated for so long.
REPEATED_S = 20.0
APART_S = (0.01, 0.1)
# What a person does at the same time, each with up to so many conversations.
SIDE_BY_SIDE = 2
OPEN_MAX = 3
PAGE = 7
# What a repeat does not change.
FINAL_REASONS = {"CONVERSATION_UNKNOWN", "CONVERSATION_FULL", "REQUEST_REUSED"}
SUBJECTS = ("water", "rock", "spring", "well", "river", "pump", "valley", "snow", "basin", "field")


@dataclass(slots=True)
class Person:
    """A principal, with a client for each replica; `conversations` are those it goes on with."""

    name: str
    clients: Sequence[Client]
    conversations: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An answer whose finish was seen."""

    answer_id: str
    text: str


async def make_keys(client: Client) -> dict[str, tuple[str, str]]:
    """The tenant and a new key of each person."""
    await tenants.create_tenant(client, NEIGHBOUR, NEIGHBOUR)
    made = {}
    for name in PEOPLE:
        tenant = NEIGHBOUR if name == NEIGHBOUR else ""
        key = await keys.create_key(client, name, ["ask"], labels=None, days=1, tenant=tenant)
        made[name] = (tenant or client.endpoints.tenant, key.api_key)
    return made


@asynccontextmanager
async def open_people(
    endpoints: Sequence[Endpoints], made: Mapping[str, tuple[str, str]]
) -> AsyncIterator[list[Person]]:
    """Each person with own clients of every replica."""
    async with AsyncExitStack() as held:
        people = []
        for name, (tenant, key) in made.items():
            own = [replace(each, tenant=tenant, api_key=key) for each in endpoints]
            clients = [await held.enter_async_context(open_client(each)) for each in own]
            people.append(Person(name, clients))
        yield people


@dataclass(slots=True)
class Conversing:
    """People conversing until they are stopped.

    The title of a conversation and the end of a question are the id of their operation, so that
    whatever a store has can be told apart.
    """

    people: list[Person]
    journal: Journal
    random: random.Random
    run: int

    async def until(self, stop: asyncio.Event) -> None:
        """Converses until `stop`, then finishes what is in flight."""
        async with asyncio.TaskGroup() as group:
            for person in self.people * SIDE_BY_SIDE:
                group.create_task(self._converse(replace(person, conversations=[]), stop))

    async def _converse(self, person: Person, stop: asyncio.Event) -> None:
        while not stop.is_set():
            known = person.conversations
            choice = self.random.random()
            if not known or (choice < 0.2 and len(known) < OPEN_MAX):
                await self._create(person)
            elif choice < 0.28:
                await self._delete(person, self._take(known), amid=self.random.random() < 0.5)
            elif choice < 0.38:
                await self._rename(person, self.random.choice(known))
            elif choice < 0.48:
                await self._list(person)
            elif choice < 0.58:
                await self._repeat(person)
            elif choice < 0.68:
                await self._send_together(person, self.random.choice(known))
            else:
                await self._send(person, self.random.choice(known))
            await asyncio.sleep(self.random.uniform(*APART_S))

    def _take(self, known: list[str]) -> str:
        return known.pop(self.random.randrange(len(known)))

    def _begin(self, person: Person, kind: str, **facts: Any) -> str:
        operation = f"{kind}-{uuid.uuid4().hex[:12]}"
        self.journal.begin(operation, kind=kind, person=person.name, run=self.run, **facts)
        return operation

    async def _create(self, person: Person) -> None:
        """Without an answer there may be one that nobody goes on with."""
        operation = self._begin(person, "create")
        given = Conversation(title=operation, model=MODEL)
        client = self.random.choice(person.clients)
        request = CreateConversationRequest(conversation=given)
        created, reason = await _call(client, client.conversations.CreateConversation, request)
        if created is None:
            self.journal.end(operation, created=False, reason=reason)
        else:
            self.journal.end(operation, created=True, conversation=created.name)
            person.conversations.append(created.name)

    async def _rename(self, person: Person, conversation: str) -> None:
        operation = self._begin(person, "rename", conversation=conversation)
        given = Conversation(name=conversation, title=operation)
        request = UpdateConversationRequest(conversation=given)
        request.update_mask.paths.append("title")
        client = self.random.choice(person.clients)
        changed, reason = await _call(client, client.conversations.UpdateConversation, request)
        self.journal.end(operation, renamed=changed is not None, reason=reason)

    async def _delete(self, person: Person, conversation: str, *, amid: bool) -> None:
        """Deletes it, also `amid` a message that is being answered."""
        operation = self._begin(person, "delete", conversation=conversation)
        async with asyncio.TaskGroup() as group:
            if amid:
                group.create_task(self._send(person, conversation))
                await asyncio.sleep(self.random.uniform(0.0, 0.05))
            group.create_task(self._delete_until_answered(person, conversation, operation))

    async def _delete_until_answered(
        self, person: Person, conversation: str, operation: str
    ) -> None:
        request = DeleteConversationRequest(name=conversation)
        tries, until = 0, time.monotonic() + REPEATED_S
        while True:
            tries += 1
            client = self.random.choice(person.clients)
            gone, reason = await _call(client, client.conversations.DeleteConversation, request)
            # Unknown to a repeat: the first call has deleted it, though its answer was lost.
            deleted = gone is not None or (tries > 1 and reason == "CONVERSATION_UNKNOWN")
            if deleted or reason in FINAL_REASONS or time.monotonic() > until:
                break
            await asyncio.sleep(RETRY_S)
        self.journal.end(operation, deleted=deleted, reason=reason, tries=tries)

    async def _list(self, person: Person) -> None:
        """Pages through all conversations of the person."""
        operation = self._begin(person, "list")
        client, token, titles = self.random.choice(person.clients), "", []
        while True:
            request = ListConversationsRequest(
                page_size=PAGE, page_token=token, messages_per_conversation=2
            )
            page, reason = await _call(client, client.conversations.ListConversations, request)
            if page is None:
                self.journal.end(operation, listed=False, reason=reason)
                return
            titles += [one.title for one in page.conversations]
            token = page.next_page_token
            if not token:
                self.journal.end(operation, listed=True, titles=titles)
                return

    async def _send(self, person: Person, conversation: str) -> None:
        message = self._begin_message(person, conversation)
        await self._send_until_answered(person, message)

    async def _send_together(self, person: Person, conversation: str) -> None:
        """Two messages at the same time, or one message twice at the same time."""
        message = self._begin_message(person, conversation)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_until_answered(person, message))
            if self.random.random() < 0.5:
                group.create_task(self._send(person, conversation))
            else:
                group.create_task(self._send_again(person, message))

    async def _repeat(self, person: Person) -> None:
        """Sends a message again that was answered long ago."""
        answered = [
            operation
            for operation, facts in self.journal.accepted().items()
            if facts["kind"] == "message" and facts["conversation"] in person.conversations
        ]
        if answered:
            await self._send_again(person, self.random.choice(answered))

    async def _send_again(self, person: Person, message: str) -> None:
        conversation = self.journal.begun[message]["conversation"]
        operation = self._begin(person, "repeat", conversation=conversation, message=message)
        await self._send_until_answered(person, operation)

    def _begin_message(self, person: Person, conversation: str) -> str:
        """Its request id, which stands at the end of its question."""
        first, second = self.random.sample(SUBJECTS, 2)
        question = f"What does the report say of the {first} and the {second}?"
        return self._begin(person, "message", conversation=conversation, question=question)

    async def _send_until_answered(self, person: Person, operation: str) -> None:
        """Sends a message, or a repeat of one, until its end is seen."""
        message = self.journal.begun[operation].get("message", operation)
        facts = self.journal.begun[message]
        request = SendMessageRequest(
            parent=facts["conversation"],
            question=f"{facts['question']} {message}",
            request_id=message,
        )
        tries, until = 0, time.monotonic() + REPEATED_S
        while True:
            tries += 1
            seen, reason = await _stream(self.random.choice(person.clients), request)
            if seen is not None:
                self.journal.end(
                    operation,
                    accepted=True,
                    answer_id=seen.answer_id,
                    text=seen.text,
                    tries=tries,
                )
                return
            if reason in FINAL_REASONS or time.monotonic() > until:
                self.journal.end(operation, accepted=False, reason=reason, tries=tries)
                return
            await asyncio.sleep(RETRY_S)


async def _call(client: Client, method: Any, request: Any) -> tuple[Any, str]:
    """What was answered, or None and a reason."""
    try:
        metadata = await client.credentials()
        return await method(request, timeout=CALL_S, metadata=metadata), ""
    except grpc.aio.AioRpcError as error:
        return None, from_rpc(error).reason


async def _stream(client: Client, request: SendMessageRequest) -> tuple[Seen | None, str]:
    """The answer if its finish comes, which promises that it is stored; or None and a reason."""
    answer_id, text = "", []
    try:
        metadata = await client.credentials()
        send = client.conversations.SendMessage
        async for step in send(request, timeout=CALL_S, metadata=metadata):
            match step.WhichOneof("step"):
                case "started":
                    answer_id = step.started.answer_id
                case "delta":
                    text.append(step.delta.text)
                case "finished":
                    return Seen(answer_id=answer_id, text="".join(text)), ""
    except grpc.aio.AioRpcError as error:
        return None, from_rpc(error).reason
    return None, "NO_FINISH"
