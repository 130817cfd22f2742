"""The interface of stored answers."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from aquifer.query.v1.passage_events_pb2 import AnswerProduced
from chassis.base.labels import Held
from query.answer import Answer, Feedback, Sent
from query.domain import Version


class Answers(Protocol):
    """Stored answers; raises as `Ledger` does."""

    async def keep(
        self,
        answer: Answer,
        sources: Sequence[Version],
        event: AnswerProduced,
        sent: Sent | None = None,
    ) -> None:
        """Store an answer, also as a message if it was `sent`, and publish `event`; or nothing.

        `sources` are the versions with text in the answer. If one of them was deleted in the
        meantime, the text is left out.

        Raises, if the answer was sent as a message:
            NotFoundError: CONVERSATION_UNKNOWN, it was deleted meanwhile.
            FailedPreconditionError: CONVERSATION_FULL.
            ConflictError: REQUEST_OVERTAKEN.
        """

    async def find(self, tenant: str, answer_id: UUID, held: Held) -> Answer | None:
        """Find an answer, without text of deleted documents.

        None if the tenant has none, and if it uses a document that `held` may not see.
        """

    async def rate(
        self, tenant: str, principal: str, answer_id: UUID, held: Held, feedback: Feedback
    ) -> bool:
        """Store feedback; False if `find` finds no answer, or one of another principal.

        If text of the answer was removed, the reason is not stored.
        """
