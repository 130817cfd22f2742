"""Superseded versions keep their bytes and text as far as their collection says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingest.collections import collection_of
from ingest.domain import Entry, State, Version
from ingest.usecases.ports import Objects, Sweeper
from ingest.usecases.work import Begin, Work

DOCUMENTS_AT_ONCE: Final = 1_000


async def retire_older(
    work: Work, entry: Entry, number: int
) -> tuple[Sequence[Version], Sequence[Version]]:
    """Retires the versions before version `number`, which goes live; the document is locked.

    Returns all of them, and those whose data is removed: the caller removes their objects after
    the commit. What a crash leaves of these is removed by the sweep, because no version needs it.
    """
    older = await work.documents.list_retired(entry, number)
    dropped = await _drop(work, entry.name, older) if older else ()
    return older, dropped


async def remove_objects(objects: Objects, dropped: Sequence[Version]) -> None:
    """Removes the objects of versions whose rows say that they have none."""
    for version in dropped:
        if version.stored.key:
            await objects.delete(version.stored.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropVersions:
    """Removes the data of kept versions that a lower `version_retention` no longer covers."""

    begin: Begin
    sweeper: Sweeper
    objects: Objects

    async def run(self) -> int:
        """Returns the number of versions whose data was removed.

        Raises:
            UnavailableError, OverloadedError, ConflictError: the rest waits for the next round.
        """
        return sum([await self._run_tenant(one) for one in await self.sweeper.list_tenants()])

    async def _run_tenant(self, tenant: str) -> int:
        dropped, before = 0, -1
        while dropped > before:
            before = dropped
            async with self.begin(tenant) as work:
                documents = await work.documents.list_overkept(DOCUMENTS_AT_ONCE)
            dropped += sum([await self._run_document(tenant, name) for name in documents])
        return dropped

    async def _run_document(self, tenant: str, name: str) -> int:
        async with self.begin(tenant) as work:
            entry = await work.documents.lock(name)
            if entry is None:
                return 0
            # Versions from the live one on are not its business.
            older = await work.documents.list_retired(entry, entry.live_version)
            dropped = await _drop(work, name, older)
        await remove_objects(self.objects, dropped)
        return len(dropped)


async def _drop(work: Work, name: str, older: Sequence[Version]) -> Sequence[Version]:
    """Keeps the newest that did not fail, as many as the collection says; returns the others."""
    settings = await work.collections.find_settings(collection_of(name))
    retention = settings.version_retention if settings else 0
    good = [one.number for one in older if one.state is not State.FAILED]
    kept = good[max(0, len(good) - retention) :]
    dropped = [one for one in older if one.number not in kept]
    await work.documents.retire(name, kept=kept, dropped=[one.number for one in dropped])
    return dropped
