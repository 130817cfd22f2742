"""The unit of work: what a call or a batch of events changes and publishes, all or nothing.

A service with a database uses `Transactions`, or `GuardedTransactions`. A service without one,
which only publishes events, uses `Publications`. All have the same `begin` and `emit`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from opentelemetry.context import Context
from typing_extensions import override

from chassis.base.postgres import Database, Transaction
from chassis.events import inbox
from chassis.events.bus import Bus
from chassis.events.delivery import Delivery
from chassis.events.envelope import Outgoing, derive_id, encode_event
from chassis.events.outbox import Outbox, Stored


@dataclass(slots=True, eq=False)
class Work:
    """One unit of work of one tenant.

    `fresh` are the deliveries to act on; the others were handled before.
    """

    tenant: str
    fresh: Sequence[Delivery[Any]]
    outgoing: list[Outgoing] = field(default_factory=list)

    def emit(
        self,
        event: Message,
        *,
        about: str = "",
        key: Sequence[object] = (),
        cause: Delivery[Any] | None = None,
        context: Context | None = None,
        interactive: bool = False,
    ) -> None:
        """Publishes `event` at the end of the unit of work.

        Args:
            event: an event of this service and tenant.
            about: resource name of the document it is about, if any.
            key: determines the event's id; events with equal keys are the same event. Without a
                key, the id follows from `cause` and the kind of event.
            cause: the delivery that caused it; the event continues its trace.
            context: its trace, if that is neither the trace of the cause nor the current one.
            interactive: whether someone waits for its effect; see `Outbox`.

        Raises:
            InvalidInputError: EVENT_TOO_LARGE.
        """
        if not key and cause is None:
            raise TypeError("an event needs a key or a cause, so that a repeat has the same id")
        if cause is not None:
            context = context or cause.context
            key = key or (cause.envelope.event_id, cause.consumer, event.DESCRIPTOR.name)
        self.outgoing.append(
            encode_event(
                event,
                event_id=derive_id(*key),
                document=about,
                context=context,
                interactive=interactive,
            )
        )


@dataclass(slots=True, eq=False)
class TransactionWork(Work):
    """A unit of work with a database transaction bound to the tenant."""

    tx: Transaction = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Transactions:
    """Units of work on a database: changes, inbox rows and outgoing events commit together."""

    database: Database
    outbox: Outbox

    @asynccontextmanager
    async def begin(
        self, tenant: str, deliveries: Sequence[Delivery[Any]] = ()
    ) -> AsyncIterator[TransactionWork]:
        """Begins a unit of work; its events are published soon after it has committed.

        `deliveries` are the events that it handles, none for a call. Each takes effect at most
        once, however often it is delivered.
        """
        stored: list[Stored] = []
        async with (
            self.database.transaction(tenant) as tx,
            self._record(tx, tenant, deliveries, stored) as work,
        ):
            yield work
        self.outbox.publish(stored)

    @asynccontextmanager
    async def _record(
        self,
        tx: Transaction,
        tenant: str,
        deliveries: Sequence[Delivery[Any]],
        stored: list[Stored],
    ) -> AsyncIterator[TransactionWork]:
        """Fills `stored` at the end with the events to publish after the commit."""
        fresh = await inbox.record(tx, tenant, deliveries) if deliveries else ()
        work = TransactionWork(tenant, fresh, tx=tx)
        yield work
        stored += await self.outbox.store(tx, tenant, work.outgoing)


@dataclass(frozen=True, slots=True)
class GuardedTransactions(Transactions):
    """Those of a service that removes deleted tenants: none begins for a deleted tenant."""

    @override
    @asynccontextmanager
    async def begin(
        self, tenant: str, deliveries: Sequence[Delivery[Any]] = ()
    ) -> AsyncIterator[TransactionWork]:
        """As `Transactions.begin`.

        Raises:
            TenantDeletedError: nothing of a deleted tenant is read or changed.
        """
        stored: list[Stored] = []
        async with (
            self.database.enter(tenant) as tx,
            self._record(tx, tenant, deliveries, stored) as work,
        ):
            yield work
        self.outbox.publish(stored)

    @asynccontextmanager
    async def begin_removal(self, tenant: str) -> AsyncIterator[TransactionWork]:
        """Begins a unit of work that removes a tenant, alone; its events are published as well."""
        stored: list[Stored] = []
        async with (
            self.database.remove(tenant) as tx,
            self._record(tx, tenant, (), stored) as work,
        ):
            yield work
        self.outbox.publish(stored)


class Publications:
    """Units of work without a database: a repeat publishes the same events again.

    Units that end while others are being published share the next window.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: list[tuple[Sequence[Outgoing], asyncio.Future[None]]] = []
        self._publishing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def begin(
        self, tenant: str, deliveries: Sequence[Delivery[Any]] = ()
    ) -> AsyncIterator[Work]:
        """Begins a unit of work; it ends after the broker has acknowledged every event.

        Raises:
            UnavailableError, OverloadedError: as `Bus.publish_all`, at the end.
        """
        work = Work(tenant, deliveries)
        yield work
        published = asyncio.get_running_loop().create_future()
        self._waiting.append((work.outgoing, published))
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish_waiting())
        await published

    async def _publish_waiting(self) -> None:
        while self._waiting:
            units, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await self._bus.publish_all([event for events, _ in units for event in events])
            except Exception as failed:  # noqa: BLE001  (each unit raises it)
                error = failed
            for _, published in units:
                if published.done():
                    continue  # its handler was cancelled
                if error is None:
                    published.set_result(None)
                else:
                    published.set_exception(error)
