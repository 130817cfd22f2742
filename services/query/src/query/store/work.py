"""Units of work of query: its tables in one transaction, and the events that go with it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import Message
from typing_extensions import override

from chassis.events.delivery import Delivery
from chassis.events.work import GuardedTransactions, TransactionWork
from query.store.rows import PostgresRows
from query.usecases.ports import Begin, Work


class PostgresWork(Work):
    """See `Work`."""

    def __init__(self, unit: TransactionWork) -> None:
        self._unit = unit
        self._rows = PostgresRows(unit.tx, unit.tenant)

    @property
    @override
    def rows(self) -> PostgresRows:
        return self._rows

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
    ) -> None:
        self._unit.emit(event, about=about, key=key, cause=cause)


def make_begin(transactions: GuardedTransactions) -> Begin:
    """Makes the function by which use cases begin a unit of work."""

    @asynccontextmanager
    async def begin(
        tenant: str, deliveries: Sequence[Delivery[Any]] = (), /
    ) -> AsyncIterator[Work]:
        async with transactions.begin(tenant, deliveries) as unit:
            yield PostgresWork(unit)

    return begin
