"""Interfaces of a unit of work: one transaction of one tenant, and its events."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from google.protobuf.message import Message
from opentelemetry.context import Context

from chassis.events.delivery import Delivery
from ingest.usecases.deletion.deletions import CollectionDeletions, Deletions
from ingest.usecases.documents.duplicates import Duplicates
from ingest.usecases.tables import (
    Checks,
    Collections,
    DocumentLabels,
    Documents,
    Fetches,
    Sessions,
    Tenants,
    Texts,
    Uploads,
)

Trace = Context | None
"""Trace context of an event; None: the current one."""


class Emitter(Protocol):
    """Publishes events of one tenant at the end of a unit of work."""

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
        """Store an event, or keep it in memory; it is published at the end.

        If it is `interactive`, someone waits for its effect: it goes ahead of others.
        """


class Work(Emitter, Protocol):
    """A unit of work: one transaction of one tenant, and the events published after it commits."""

    @property
    def documents(self) -> Documents: ...
    @property
    def labels(self) -> DocumentLabels: ...
    @property
    def checks(self) -> Checks: ...
    @property
    def texts(self) -> Texts: ...
    @property
    def duplicates(self) -> Duplicates: ...
    @property
    def uploads(self) -> Uploads: ...
    @property
    def fetches(self) -> Fetches: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def deletions(self) -> Deletions: ...
    @property
    def tenants(self) -> Tenants: ...
    @property
    def collections(self) -> Collections: ...
    @property
    def collection_deletions(self) -> CollectionDeletions: ...
    @property
    def fresh(self) -> Sequence[Delivery[Any]]:
        """The deliveries to act on; the others were handled before."""


class Begin(Protocol):
    """Begins a unit of work."""

    def __call__(
        self, tenant: str, deliveries: Sequence[Delivery[Any]] = (), /
    ) -> AbstractAsyncContextManager[Work]:
        """Begin a unit of work; each delivery takes effect at most once, however often it comes.

        Raises:
            UnavailableError: DATABASE_UNAVAILABLE.
            OverloadedError: DATABASE_FULL.
            ConflictError: DATABASE_CONFLICT.
            TenantDeletedError: nothing of the tenant is stored again.
        """


class BeginPublication(Protocol):
    """Begins a unit of work without a database, for events of a tenant that has no rows."""

    def __call__(self, tenant: str, /) -> AbstractAsyncContextManager[Emitter]:
        """Begin; it ends when the bus has the events.

        Raises, at the end:
            UnavailableError: BUS_UNAVAILABLE.
            OverloadedError: STREAM_FULL.
        """
