"""The interface of stored conversations."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from chassis.base.labels import Held
from query.answer import Exchange
from query.conversation import Conversation, Message, Owner, Settings


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
        self,
        owner: Owner,
        conversation_id: UUID,
        held: Held,
        after: int,
        limit: int,
        *,
        citations: bool = False,
    ) -> Sequence[Message]:
        """At most `limit` messages after a number, in order; answers as `held` may see them.

        Those have their `citations` if that is wanted.
        """

    async def open(
        self, owner: Owner, conversation_id: UUID, held: Held, request_id: str, exchanges: int
    ) -> Opened:
        """What a new message needs of it, with at most so many `exchanges`.

        Raises:
            FailedPreconditionError: CONVERSATION_FULL.
        """
