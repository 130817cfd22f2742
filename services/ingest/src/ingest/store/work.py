"""Units of work of ingest: its tables in one transaction, and the events that go with it."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import Message
from opentelemetry.context import Context
from typing_extensions import override

from chassis.events.delivery import Delivery
from chassis.events.work import GuardedTransactions, TransactionWork
from ingest.store.checks import PostgresChecks
from ingest.store.collection_deletions import PostgresCollectionDeletions
from ingest.store.collections import PostgresCollections
from ingest.store.deletions import PostgresDeletions
from ingest.store.documents import PostgresDocuments
from ingest.store.duplicates import PostgresDuplicates
from ingest.store.fetches import PostgresFetches
from ingest.store.labels import PostgresLabels
from ingest.store.sessions import PostgresSessions
from ingest.store.texts import PostgresTexts
from ingest.store.uploads import PostgresTenants, PostgresUploads
from ingest.traces import start_linked_trace
from ingest.usecases.work import Begin, Work

# Batches per trace: a long document continues in a linked trace after this many.
TRACE_EVENTS_MAX = 200


class PostgresWork(Work):
    """See `Work`."""

    def __init__(self, unit: TransactionWork) -> None:
        self._unit = unit
        self._emitted: Counter[str] = Counter()
        self._linked: dict[str, Context] = {}
        self._documents = PostgresDocuments(unit.tx, unit.tenant)
        self._labels = PostgresLabels(unit.tx, unit.tenant)
        self._checks = PostgresChecks(unit.tx, unit.tenant)
        self._texts = PostgresTexts(unit.tx, unit.tenant)
        self._duplicates = PostgresDuplicates(unit.tx, unit.tenant)
        self._uploads = PostgresUploads(unit.tx, unit.tenant)
        self._fetches = PostgresFetches(unit.tx, unit.tenant)
        self._sessions = PostgresSessions(unit.tx, unit.tenant)
        self._deletions = PostgresDeletions(unit.tx, unit.tenant)
        self._tenants = PostgresTenants(unit.tx, unit.tenant)
        self._collections = PostgresCollections(unit.tx, unit.tenant)
        self._collection_deletions = PostgresCollectionDeletions(unit.tx, unit.tenant)

    @property
    @override
    def documents(self) -> PostgresDocuments:
        return self._documents

    @property
    @override
    def labels(self) -> PostgresLabels:
        return self._labels

    @property
    @override
    def checks(self) -> PostgresChecks:
        return self._checks

    @property
    @override
    def texts(self) -> PostgresTexts:
        return self._texts

    @property
    @override
    def duplicates(self) -> PostgresDuplicates:
        return self._duplicates

    @property
    @override
    def uploads(self) -> PostgresUploads:
        return self._uploads

    @property
    @override
    def fetches(self) -> PostgresFetches:
        return self._fetches

    @property
    @override
    def sessions(self) -> PostgresSessions:
        return self._sessions

    @property
    @override
    def deletions(self) -> PostgresDeletions:
        return self._deletions

    @property
    @override
    def tenants(self) -> PostgresTenants:
        return self._tenants

    @property
    @override
    def collections(self) -> PostgresCollections:
        return self._collections

    @property
    @override
    def collection_deletions(self) -> PostgresCollectionDeletions:
        return self._collection_deletions

    @property
    @override
    def fresh(self) -> Sequence[Delivery[Any]]:
        return self._unit.fresh

    @override
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
        count = self._emitted[about] = self._emitted[about] + 1
        if about and count > 1 and count % TRACE_EVENTS_MAX == 1:
            before = context or (cause.context if cause else None)
            self._linked[about] = start_linked_trace("continue document", before)
        context = self._linked.get(about, context)
        self._unit.emit(
            event, about=about, key=key, cause=cause, context=context, interactive=interactive
        )


def make_begin(transactions: GuardedTransactions) -> Begin:
    """Makes the function by which use cases begin a unit of work."""

    @asynccontextmanager
    async def begin(
        tenant: str, deliveries: Sequence[Delivery[Any]] = (), /
    ) -> AsyncIterator[Work]:
        async with transactions.begin(tenant, deliveries) as unit:
            yield PostgresWork(unit)

    return begin
