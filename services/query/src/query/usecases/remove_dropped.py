"""Removes the stores and the vectors of dropped profiles."""

import logging
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from query.profile import Profile
from query.usecases.indexes import Indexes
from query.usecases.ports import Begin, Ledger
from query.usecases.records import Rebuilding, StoreRecords

log = logging.getLogger(__name__)

PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveDropped:
    """Removes what is left of profiles that are no longer in use.

    It holds the right to rebuild the store of the profile, so no process makes it again meanwhile.
    The record goes last; without it the profile can be built again. A repeat continues.
    """

    begin: Begin
    ledger: Ledger
    records: StoreRecords
    indexes: Indexes

    async def run(self) -> None:
        """Removes every dropped profile; one that another process removes or fills is left."""
        for name in await self.records.list_dropped():
            async with self.records.begin_rebuild(name) as right:
                if right is not None:
                    await self._remove(name, right)

    async def _remove(self, name: str, right: Rebuilding) -> None:
        # A store is removed by its name.
        await self.indexes.open(Profile(name=name, dimensions=1)).vectors.drop()
        for tenant in await self.ledger.list_tenants():
            await self._remove_vectors(tenant, name, right)
        await right.remove_record()
        log.warning("profile.removed", extra={"profile": name})

    async def _remove_vectors(self, tenant: str, name: str, right: Rebuilding) -> None:
        after: UUID | None = None
        while True:
            await right.keep()
            async with self.begin(tenant) as work:
                live = (await work.rows.lock_profiles()).live.name
                after = await work.rows.remove_vectors(name, live, after=after, limit=PAGE)
            if after is None:
                return
