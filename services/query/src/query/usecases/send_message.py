"""Answers a message of a conversation."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from chassis.base.errors import AlreadyExistsError, NotFoundError
from chassis.base.labels import Held
from query.answer import (
    OUTPUT_TOKENS_DEFAULT,
    Answer,
    Context,
    Delta,
    Exchange,
    Inquiry,
    Sent,
    Started,
    Step,
)
from query.conversation import Owner, check_request_id
from query.domain import check_question
from query.filters.language import parse_filter
from query.usecases.answers import Answers
from query.usecases.ask import Ask
from query.usecases.complete_question import CompleteQuestion
from query.usecases.conversations import Conversations, Opened

# Earlier questions with their answers that a question is read with.
EXCHANGES_MAX: Final = 6
HISTORY_MAX_CHARS: Final = 8_000


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

    Collections, documents, filter, model and prompt are those of the conversation: nothing that was
    retrieved or said changes them. A question that leans on earlier ones is searched with their
    words. Question and answer are stored in one transaction, so a conversation has no question
    without an answer.
    """

    conversations: Conversations
    answers: Answers
    ask: Ask
    complete: CompleteQuestion

    async def run(self, message: NewMessage, trace_id: str) -> AsyncGenerator[Step, None]:
        """The steps of `Ask`; for a repeat those of the stored answer.

        Raises:
            NotFoundError: CONVERSATION_UNKNOWN; ANSWER_UNKNOWN, the answer to repeat is hidden.
            InvalidInputError: GUARDRAIL_BLOCKED.
            UnavailableError: GUARDRAIL_FAILED.
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
        question, verdicts = await self.ask.guardrails.check_question(message.question)
        checked = replace(message, question=question)
        if opened.repeated:
            for step in list_steps(await self._find_stored(checked, *opened.repeated)):
                yield step
            return
        asked = await self.complete.run(checked.question, opened.questions)
        inquiry = _make_inquiry(checked, opened, asked)
        async with aclosing(self.ask.answer(inquiry, verdicts, trace_id)) as steps:
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


def _make_inquiry(message: NewMessage, opened: Opened, asked: str) -> Inquiry:
    settings = opened.conversation.settings
    return Inquiry(
        tenant=message.owner.tenant,
        held=message.held,
        principal=message.owner.principal,
        question=message.question,
        collection=settings.collection,
        collections=settings.collections,
        documents=settings.documents,
        model=settings.model,
        max_output_tokens=settings.max_output_tokens or OUTPUT_TOKENS_DEFAULT,
        filter=settings.filter,
        where=parse_filter(settings.filter),
        prompt=settings.prompt,
        context=Context(
            sent=Sent(conversation_id=message.conversation_id, request_id=message.request_id),
            asked=asked,
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
