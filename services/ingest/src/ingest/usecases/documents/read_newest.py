"""Reads documents for many callers with few queries."""

import asyncio
import contextvars
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ingest.domain import View
from ingest.usecases.work import Begin

READ_MAX: Final = 500


@dataclass(slots=True, eq=False)
class _Group:
    """Names that are read together, by one query."""

    names: set[str] = field(default_factory=set)
    reading: "asyncio.Task[Mapping[str, View]] | None" = None


@dataclass(slots=True, kw_only=True)
class ReadNewest:
    """Reads the newest version of a document.

    One query runs at a time; what is asked for meanwhile shares the next one of its tenant, up to
    `READ_MAX` documents. So any number of callers uses one connection of the pool.
    """

    begin: Begin
    _next: dict[str, _Group] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, tenant: str, name: str) -> View | None:
        """The document as it was at some time after this call; None if there is none."""
        group = self._next.get(tenant)
        if group is None or len(group.names) >= READ_MAX:
            group = self._next[tenant] = _Group()
        group.names.add(name)
        if group.reading is None:
            # In its own context, because the callers have different traces.
            group.reading = asyncio.get_running_loop().create_task(
                self._read(tenant, group), context=contextvars.Context()
            )
        views = await asyncio.shield(group.reading)
        return views.get(name)

    async def _read(self, tenant: str, group: _Group) -> Mapping[str, View]:
        async with self._turn:
            if self._next.get(tenant) is group:
                del self._next[tenant]
            async with self.begin(tenant) as work:
                views = await work.documents.list_newest(sorted(group.names))
        return {view.entry.name: view for view in views}
