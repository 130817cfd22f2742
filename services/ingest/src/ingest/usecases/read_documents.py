"""Documents as their owner sees them: one, a page of many, or one as it changes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from ingest.domain import View, check_name
from ingest.usecases.delete_document import unknown
from ingest.usecases.ports import Begin, PageQuery, Sleep

WATCH_FIRST_S: Final = 0.2
WATCH_LAST_S: Final = 1.0
_WATCH_GROWTH: Final = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class GetDocument:
    begin: Begin

    async def __call__(self, tenant: str, name: str) -> View:
        """The document through its newest version.

        Raises:
            InvalidInputError: DOCUMENT_NAME.
            NotFoundError: DOCUMENT_UNKNOWN.
        """
        check_name(name)
        async with self.begin(tenant) as work:
            view = await work.documents.newest(name)
        if view is None:
            raise unknown()
        return view


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDocuments:
    begin: Begin

    async def __call__(self, tenant: str, query: PageQuery) -> Sequence[View]:
        """At most `query.limit` documents in the order of their names."""
        async with self.begin(tenant) as work:
            return await work.documents.page(query)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchDocument:
    """Looks again and again, ever less often: a look costs one read by key."""

    get: GetDocument
    sleep: Sleep

    async def __call__(self, tenant: str, name: str) -> AsyncIterator[View]:
        """The document now and after each change, until its newest version is finished.

        Raises:
            InvalidInputError: DOCUMENT_NAME.
            NotFoundError: DOCUMENT_UNKNOWN.
        """
        seen: object = None
        wait_s = WATCH_FIRST_S
        while True:
            view = await self.get(tenant, name)
            if view.mark != seen:
                yield view
                wait_s = WATCH_FIRST_S
            if view.version.finished:
                return
            seen = view.mark
            await self.sleep(wait_s)
            wait_s = min(wait_s * _WATCH_GROWTH, WATCH_LAST_S)
