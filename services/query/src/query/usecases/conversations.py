"""Stored answers and conversations: what use cases need of them, and sending a message."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from chassis.base.errors import AlreadyExistsError, NotFoundError
from chassis.base.labels import Held
from query.answer import Answer, Context, Delta, Exchange, Inquiry, Sent, Started, Step
from query.conversation import (
    Conversation,
    Message,
    Owner,
    Settings,
    check_request_id,
)
from query.domain import QUESTION_MAX_CHARS, check_question
from query.filters.language import parse_filter
from query.usecases.answers import Answers
from query.usecases.ask import Ask
from query.words.follow_ups import complete_question

OUTPUT_TOKENS_DEFAULT: Final = 512
# Earlier questions with their answers that a question is read with.
EXCHANGES_MAX: Final = 6
HISTORY_MAX_CHARS: Final = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The position of a conversation in a list; `time` is its `active_at`."""

    time: datetime
    conversation_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A conversation as a new message finds it.

    `exchanges` are the last ones whose answers the reader may see, oldest first; `questions` the
    last questions, oldest first. `repeated` is the question that was stored under the same request
    id, with the id of its answer.
    """

    conversation: Conversation
    questions: Sequence[str]
    exchanges: Sequence[Exchange]
    repeated: tuple[str, UUID] | None = None


class Conversations(Protocol):
    """Stored conversations of owners; raises as `Ledger` does.

    Those with an id raise:
        NotFoundError: CONVERSATION_UNKNOWN, also for a conversation of another owner.
    """

    async def create(self, owner: Owner, settings: Settings) -> Conversation:
        """Create one.

        Raises:
            FailedPreconditionError: CONVERSATIONS_FULL.
        """

    async def get(self, owner: Owner, conversation_id: UUID) -> Conversation:
        """Read one, without messages."""

    async def list_page(
        self, owner: Owner, held: Held, after: Activity | None, limit: int, messages: int
    ) -> Sequence[Conversation]:
        """At most `limit` after a position, the latest active first, with their last messages.

        Each has at most `messages`, whose text is cut; answers as `held` may see them.
        """

    async def update(
        self, owner: Owner, conversation_id: UUID, given: Settings, paths: Sequence[str]
    ) -> Conversation:
        """Change the settings that a mask names.

        Raises:
            InvalidInputError: UPDATE_MASK.
        """

    async def delete(self, owner: Owner, conversation_id: UUID) -> None:
        """Delete one with its messages and their answers."""

    async def list_messages(
        self, owner: Owner, conversation_id: UUID, held: Held, after: int, limit: int
    ) -> Sequence[Message]:
        """At most `limit` messages after a number, in order; answers as `held` may see them."""

    async def open(
        self, owner: Owner, conversation_id: UUID, held: Held, request_id: str, exchanges: int
    ) -> Opened:
        """What a new message needs of it, with at most so many `exchanges`.

        Raises:
            FailedPreconditionError: CONVERSATION_FULL.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A question to a conversation; `request_id` may be empty."""

    owner: Owner
    held: Held
    conversation_id: UUID
    question: str
    request_id: str = ""

    def __post_init__(self) -> None:
        check_question(self.question)
        check_request_id(self.request_id)


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Answers a question in its conversation, as `Ask` does.

    Collection, filter and model are those of the conversation: nothing that was retrieved or said
    changes them. A question that leans on earlier ones is searched with their words. Question and
    answer are stored in one transaction, so a conversation has no question without an answer.
    """

    conversations: Conversations
    answers: Answers
    ask: Ask

    async def run(self, message: NewMessage, trace_id: str) -> AsyncGenerator[Step, None]:
        """The steps of `Ask`; for a repeat those of the stored answer.

        Raises:
            NotFoundError: CONVERSATION_UNKNOWN; ANSWER_UNKNOWN, the answer to repeat is hidden.
            AlreadyExistsError: REQUEST_REUSED, with another question.
            FailedPreconditionError: CONVERSATION_FULL.
            ConflictError: REQUEST_OVERTAKEN.
        """
        opened = await self.conversations.open(
            message.owner,
            message.conversation_id,
            message.held,
            message.request_id,
            EXCHANGES_MAX,
        )
        if opened.repeated:
            for step in list_steps(await self._find_stored(message, *opened.repeated)):
                yield step
            return
        async with aclosing(self.ask.run(_make_inquiry(message, opened), trace_id)) as steps:
            async for step in steps:
                yield step

    async def _find_stored(self, message: NewMessage, question: str, answer_id: UUID) -> Answer:
        if question != message.question:
            raise AlreadyExistsError(
                "REQUEST_REUSED", "this request_id was used for another question; use a new one"
            )
        found = await self.answers.find(message.owner.tenant, answer_id, message.held)
        if found is None:
            raise NotFoundError("ANSWER_UNKNOWN", "the key may not see the stored answer")
        return found


def list_steps(answer: Answer) -> Iterator[Step]:
    """The steps of a stored answer, its text in one piece."""
    yield Started(answer_id=answer.answer_id, trace_id=answer.trace_id)
    if answer.text:
        yield Delta(text=answer.text)
    yield from answer.citations
    yield answer.finish


def _make_inquiry(message: NewMessage, opened: Opened) -> Inquiry:
    settings = opened.conversation.settings
    return Inquiry(
        tenant=message.owner.tenant,
        held=message.held,
        principal=message.owner.principal,
        question=message.question,
        collection=settings.collection,
        model=settings.model,
        max_output_tokens=settings.max_output_tokens or OUTPUT_TOKENS_DEFAULT,
        where=parse_filter(settings.filter),
        context=Context(
            sent=Sent(conversation_id=message.conversation_id, request_id=message.request_id),
            asked=complete_question(message.question, opened.questions)[:QUESTION_MAX_CHARS],
            history=choose_history(opened.exchanges),
        ),
    )


def choose_history(exchanges: Sequence[Exchange]) -> Sequence[Exchange]:
    """The latest exchanges that have at most `HISTORY_MAX_CHARS` characters, oldest first."""
    left_chars = HISTORY_MAX_CHARS
    for place, one in reversed(list(enumerate(exchanges))):
        left_chars -= len(one.question) + len(one.answer)
        if left_chars < 0:
            return exchanges[place + 1 :]
    return exchanges
