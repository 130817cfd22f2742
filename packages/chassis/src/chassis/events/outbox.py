"""Events of transactions that no incoming message would repeat: stored with them, relayed after."""

import asyncio
import logging
from contextlib import suppress

from google.protobuf.message import Message
from psycopg.types.json import Jsonb

from chassis.base.errors import ServiceError
from chassis.base.postgres import Database, Transaction
from chassis.events.bus import Bus
from chassis.events.envelope import Outgoing, outgoing

log = logging.getLogger(__name__)

RELAY_BATCH = 128
RELAY_POLL_S = 1.0
# Events that come within this time leave in one transaction.
GATHER_S = 0.01


class Outbox:
    """The outbox of one service and its relay; any number of relays may run side by side."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._woken = asyncio.Event()

    async def add(
        self, tx: Transaction, event: Message, *, event_id: str, document: str = ""
    ) -> None:
        """Stores an event; it is published soon after `tx` commits, under `event_id`."""
        ready = outgoing(event, event_id=event_id, document=document)
        await tx.execute(
            "INSERT INTO outbox (tenant_id, document, subject, headers, payload)"
            " VALUES (%s, %s, %s, %s, %s)",
            [
                ready.subject.rsplit(".", 1)[-1],
                document,
                ready.subject,
                Jsonb(dict(ready.headers)),
                ready.payload,
            ],
        )

    def wake(self) -> None:
        """Tells the relay that a transaction with events has committed."""
        self._woken.set()

    async def relay(self) -> None:
        """Publishes stored events, oldest first, until cancelled."""
        while True:
            self._woken.clear()
            try:
                moved = await self._move()
            except ServiceError as error:
                log.warning("outbox.waiting", extra={"reason": error.reason})
                await asyncio.sleep(RELAY_POLL_S)
                continue
            if moved < RELAY_BATCH:
                await self._sleep()

    async def _sleep(self) -> None:
        """Until woken, or until it is time to look for events of other processes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RELAY_POLL_S):
                await self._woken.wait()
        await asyncio.sleep(GATHER_S)

    async def _move(self) -> int:
        """Publishes one batch and removes it; a crash in between only repeats what is dropped."""
        if not self._bus.connected:
            return 0
        async with self._database.sweep() as tx:
            cursor = await tx.execute(
                "SELECT outbox_id, subject, headers, payload FROM outbox ORDER BY outbox_id"
                " LIMIT %s FOR UPDATE SKIP LOCKED",
                [RELAY_BATCH],
            )
            rows = await cursor.fetchall()
            if not rows:
                return 0
            await self._bus.publish_all(
                [
                    Outgoing(
                        subject=row["subject"],
                        headers=row["headers"],
                        payload=bytes(row["payload"]),
                    )
                    for row in rows
                ]
            )
            await tx.execute(
                "DELETE FROM outbox WHERE outbox_id = ANY(%s)", [[row["outbox_id"] for row in rows]]
            )
            return len(rows)


async def forget_document(tx: Transaction, tenant: str, document: str) -> int:
    """Removes a document's events that are not published yet; returns their number."""
    cursor = await tx.execute(
        "DELETE FROM outbox WHERE tenant_id = %s AND document = %s", [tenant, document]
    )
    return cursor.rowcount
