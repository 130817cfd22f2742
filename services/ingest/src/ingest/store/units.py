"""Transactions of the use cases: an effect of an event, or one with an outbox of its own."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from chassis.base.postgres import Database, Transaction
from chassis.events.delivery import Delivery
from chassis.events.envelope import derived_id
from chassis.events.inbox import Effect
from chassis.events.outbox import Outbox
from ingest.store.deletions import PostgresDeletions
from ingest.store.documents import PostgresDocuments
from ingest.store.uploads import PostgresTenants, PostgresUploads
from ingest.traces import segments
from ingest.usecases.facts import Fact
from ingest.usecases.ports import Once, Units, Work


class PostgresWork:
    """The rows of one tenant in one transaction; facts are kept in `told` until its end."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self.told: list[Fact] = []
        self.documents = PostgresDocuments(tx, tenant)
        self.uploads = PostgresUploads(tx, tenant)
        self.deletions = PostgresDeletions(tx, tenant)
        self.tenants = PostgresTenants(tx, tenant)

    def tell(self, *facts: Fact) -> None:
        self.told.extend(facts)


def units(database: Database, outbox: Outbox) -> Units:
    """Transactions that no incoming event would repeat: their facts go through the outbox."""

    @asynccontextmanager
    async def open_unit(tenant: str) -> AsyncIterator[Work]:
        async with database.transaction(tenant) as tx:
            work = PostgresWork(tx, tenant)
            yield work
            for fact in work.told:
                event_id = derived_id(*fact.identity)
                await outbox.add(tx, fact.event, event_id=event_id, document=fact.document)
        if work.told:
            outbox.wake()

    return open_unit


def once(delivery: Delivery) -> Once:
    """The transaction of an event's effect: its facts are stored with the inbox row."""

    @asynccontextmanager
    async def open_effect(document: str) -> AsyncIterator[Work]:
        async with delivery.once(document=document) as effect:
            work = PostgresWork(effect.tx, delivery.envelope.tenant)
            yield work
            _emit(effect, work.told)

    return open_effect


def _emit(effect: Effect, told: Iterable[Fact]) -> None:
    for facts in segments(told):
        for fact in facts:
            event_id = derived_id(*fact.identity)
            effect.emit(fact.event, document=fact.document, event_id=event_id)
