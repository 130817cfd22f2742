"""Exactly-once effects: the inbox row commits with the effect, its events are stored beside it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from google.protobuf.message import Message
from psycopg.types.json import Jsonb

from chassis.base.postgres import Database, Transaction
from chassis.events.envelope import Outgoing, derived_id, outgoing

KEPT_BYTES = 4 * 1024
FORGET_BATCH = 5_000


class AlreadyAppliedError(Exception):
    """The effect of this event is committed; its stored events may still have to be published."""

    def __init__(self, stored: Sequence[Outgoing]) -> None:
        super().__init__("already applied")
        self.stored = stored


@dataclass(slots=True)
class Effect:
    """The transaction of one event's effect, and the events it publishes when it commits."""

    tx: Transaction
    event_id: str
    consumer: str
    events: list[Outgoing] = field(default_factory=list)

    def emit(self, event: Message, *, document: str = "", event_id: str = "") -> None:
        """Publishes `event` once this effect is committed, under an id derived from its cause.

        `event_id` replaces that id where the event must keep one across causes, for example a
        result event that is the same fact however often its cause is repeated.
        """
        event_id = event_id or derived_id(self.event_id, self.consumer, len(self.events))
        self.events.append(outgoing(event, event_id=event_id, document=document))


@dataclass(frozen=True, slots=True)
class Inbox:
    """The inbox of one durable consumer."""

    database: Database
    consumer: str

    @asynccontextmanager
    async def once(self, tenant: str, event_id: str, document: str = "") -> AsyncIterator[Effect]:
        """Runs the body in a transaction that commits at most once for an event.

        The body runs for a repeated event too, and is rolled back: it must fail for nothing that
        the first time has changed, and keep what can not be rolled back for after the block.

        Raises:
            AlreadyAppliedError: at the end, when it has committed before.
        """
        async with self.database.transaction(tenant) as tx:
            effect = Effect(tx=tx, event_id=event_id, consumer=self.consumer)
            yield effect
            if not await self._note(effect, tenant, document):
                raise AlreadyAppliedError(await self._stored(tx, tenant, event_id))

    async def _note(self, effect: Effect, tenant: str, document: str) -> bool:
        """Writes the event's row, last and in one statement; False when there is one already."""
        inserted = await effect.tx.execute(
            "INSERT INTO inbox (tenant_id, consumer, event_id, document, outgoing_subjects,"
            " outgoing_headers, outgoing_payloads) VALUES (%s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [
                tenant,
                self.consumer,
                effect.event_id,
                document,
                [event.subject for event in effect.events],
                Jsonb([dict(event.headers) for event in effect.events]),
                [event.payload for event in effect.events],
            ],
        )
        return inserted.rowcount == 1

    async def _stored(self, tx: Transaction, tenant: str, event_id: str) -> list[Outgoing]:
        cursor = await tx.execute(
            "SELECT outgoing_subjects, outgoing_headers, outgoing_payloads FROM inbox"
            " WHERE tenant_id = %s AND consumer = %s AND event_id = %s",
            [tenant, self.consumer, event_id],
        )
        row = await cursor.fetchone()
        if row is None:
            return []
        return [
            Outgoing(subject=subject, headers=headers, payload=bytes(payload))
            for subject, headers, payload in zip(
                row["outgoing_subjects"],
                row["outgoing_headers"],
                row["outgoing_payloads"],
                strict=True,
            )
        ]

    async def published(self, tenant: str, event_id: str, events: Sequence[Outgoing]) -> None:
        """Forgets large stored events once the broker has them: their owner can rebuild them."""
        if sum(len(event.payload) for event in events) <= KEPT_BYTES:
            return
        async with self.database.transaction(tenant) as tx:
            await tx.execute(
                "UPDATE inbox SET outgoing_subjects = '{}', outgoing_headers = '[]',"
                " outgoing_payloads = '{}'"
                " WHERE tenant_id = %s AND consumer = %s AND event_id = %s",
                [tenant, self.consumer, event_id],
            )


async def forget_old(database: Database, age_s: float) -> int:
    """Removes rows of events handled longer ago than that; returns their number.

    No broker delivers an event that long after it was published.
    """
    forgotten, removed = 0, FORGET_BATCH
    while removed == FORGET_BATCH:
        async with database.sweep() as tx:
            cursor = await tx.execute(
                "DELETE FROM inbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM inbox"
                " WHERE handled_at < now() - make_interval(secs => %s) LIMIT %s))",
                [age_s, FORGET_BATCH],
            )
            removed = cursor.rowcount
        forgotten += removed
    return forgotten


async def forget_document(tx: Transaction, tenant: str, document: str) -> int:
    """Removes a document's inbox rows and the events stored on them; returns their number."""
    cursor = await tx.execute(
        "DELETE FROM inbox WHERE tenant_id = %s AND document = %s", [tenant, document]
    )
    return cursor.rowcount
