"""Gives points what their document says of itself: who may find it, and how it is described."""

from dataclasses import dataclass
from typing import Final

from query.filters.facts import list_facts
from query.retrieval.vector_store import TenantScope
from query.usecases.indexes import Indexes
from query.usecases.ports import Begin, Ledger

OUTDATED_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class UpdatePoints:
    """Gives the points of documents their labels and descriptions, in every index in use.

    The points only narrow a search: what it shows is decided by the rows in Postgres. The lock of
    the document is held while its points are written, so a later change waits and is written after
    this one. An index whose build begins later gets what is valid then.
    """

    begin: Begin
    ledger: Ledger
    indexes: Indexes

    async def run(self) -> int:
        """Goes on until nothing is left; returns the number of documents."""
        updated = 0
        while left := await self.ledger.list_outdated(OUTDATED_BATCH):
            for tenant, document in left:
                await self.update(tenant, document)
            updated += len(left)
        return updated

    async def update(self, tenant: str, document: str) -> None:
        indexes = await self.indexes.list_in_use()
        async with self.begin(tenant) as work:
            shared = await work.rows.share_attributes(document)
            facts = {
                version: list_facts(
                    document,
                    one.title,
                    one.metadata,
                    one.created_at,
                    live_at=one.live_at,
                    superseded_at=one.superseded_at,
                )
                for version, one in shared.descriptions.items()
            }
            for index in indexes:
                await index.vectors.describe(TenantScope(tenant), document, shared.labels, facts)
            await work.rows.finish_update(document)
