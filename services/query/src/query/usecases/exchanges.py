"""The interface of stored exchanges, questions with their answers: to export and to remove."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from chassis.base.labels import Held
from query.answer import Answer, Rating


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records: stored from `start` on and before `end`; None: no limit.

    `principal` is who asked, None for everybody of the tenant; `rating` None for every answer.
    """

    tenant: str
    held: Held
    principal: str | None
    start: datetime | None = None
    end: datetime | None = None
    rating: Rating | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The position of a record among all: when it was stored, and its answer."""

    time: datetime
    answer_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An answer as the reader may see it, and where and when it was stored.

    `withheld`: its text is missing. `message` is its conversation and number, None outside of one.
    """

    answer: Answer
    stored_at: datetime
    withheld: bool
    message: tuple[UUID, int] | None = None

    @property
    def place(self) -> Place:
        """Its position."""
        return Place(time=self.stored_at, answer_id=self.answer.answer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """How many were removed; `last` is where the next batch begins, None after the last."""

    count: int
    last: Place | None


class Exchanges(Protocol):
    """Stored exchanges; raises as `Ledger` does."""

    async def list_page(self, wanted: Wanted, after: Place | None, limit: int) -> Sequence[Record]:
        """At most `limit` records after a position, in the order of their storing."""

    async def list_tenants(self) -> Sequence[str]:
        """The tenants that have any."""

    async def remove_conversations(self, tenant: str, before: datetime, limit: int) -> int:
        """Remove conversations without a message since a time, with their answers.

        At most `limit`; returns their number. Those in use and those that another process removes
        at this moment are left.
        """

    async def remove_answers(
        self, tenant: str, before: datetime, after: Place | None, limit: int
    ) -> Removed:
        """Remove those of the next `limit` old answers that are in no conversation.

        `after` is the `last` of the batch before, None for the first.
        """
