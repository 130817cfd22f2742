"""Reading documents: one, a page of many, or changes as they happen."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from chassis.base.labels import held_labels, may_see
from ingest.domain import View, check_name
from ingest.usecases.deletion.delete_document import unknown_document_error
from ingest.usecases.documents.duplicates import show_same_content
from ingest.usecases.documents.progress import Progress, ProgressEstimates
from ingest.usecases.documents.read_newest import ReadNewest
from ingest.usecases.documents.watchers import Watchers
from ingest.usecases.rows import PageQuery
from ingest.usecases.work import Begin


@dataclass(frozen=True, slots=True, kw_only=True)
class GetDocument:
    begin: Begin

    async def run(self, tenant: str, name: str) -> View:
        """The document and its newest version, and other documents with its bytes.

        Raises:
            InvalidInputError: DOCUMENT_NAME.
            NotFoundError: DOCUMENT_UNKNOWN.
        """
        check_name(name)
        async with self.begin(tenant) as work:
            view = await work.documents.find_newest(name)
            if view is None:
                raise unknown_document_error()
            [shown] = await show_same_content(work.duplicates, [view])
        return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDocuments:
    begin: Begin

    async def run(self, tenant: str, query: PageQuery) -> Sequence[View]:
        """At most `query.limit` documents in the order of their names."""
        async with self.begin(tenant) as work:
            return await work.documents.list_page(query)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListVersions:
    begin: Begin

    async def run(self, tenant: str, name: str, *, before: int, limit: int) -> Sequence[View]:
        """At most `limit` versions of a document before a number (0: all), the newest first.

        Raises:
            InvalidInputError: DOCUMENT_NAME.
            NotFoundError: DOCUMENT_UNKNOWN.
        """
        check_name(name)
        async with self.begin(tenant) as work:
            found = await work.documents.list_history(name, before, limit)
        if not found and not before:
            raise unknown_document_error()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchDocument:
    read: ReadNewest
    watchers: Watchers
    estimates: ProgressEstimates

    async def run(
        self, tenant: str, name: str, *, progress: bool = False
    ) -> AsyncGenerator[tuple[View, Progress | None], None]:
        """The document now and after each change, until its newest version is finished.

        With `progress`, also whenever that has changed by more than a tenth.

        Raises:
            InvalidInputError: DOCUMENT_NAME.
            NotFoundError: DOCUMENT_UNKNOWN.
            OverloadedError: WATCHERS_FULL.
        """
        check_name(name)
        async with self.watchers.join(tenant, document=name, progress=progress) as watcher:
            held = held_labels()
            seen = await self.read.run(tenant, name)
            if seen is None or not may_see(seen.entry.labels.names, held):
                raise unknown_document_error()
            yield seen, None
            told: Progress | None = None
            while not seen.version.is_finished:
                for view in await watcher.take() or ():
                    if not may_see(view.entry.labels.names, held):
                        raise unknown_document_error()
                    if view.mark != seen.mark and not _is_older(view, seen):
                        seen = view
                        yield seen, None
                now = self.estimates.find(tenant, seen.version.accepted_at) if progress else None
                if now is not None and not seen.version.is_finished and now.is_news_after(told):
                    told = now
                    yield seen, told


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchDocuments:
    watchers: Watchers
    estimates: ProgressEstimates

    async def run(
        self, tenant: str, collection: str, *, progress: bool = False
    ) -> AsyncGenerator[Sequence[View] | Progress | None, None]:
        """Changed documents of a collection, or of the whole tenant if it is empty.

        Yields None first, and again whenever changes may have been missed. After None the client
        has to list the documents; later changes follow. With `progress`, also that of the last
        document of the tenant.

        Raises:
            OverloadedError: WATCHERS_FULL.
        """
        async with self.watchers.join(tenant, collection=collection, progress=progress) as watcher:
            yield None
            held, told = held_labels(), None
            while True:
                views = await watcher.take()
                seen = [one for one in views or () if may_see(one.entry.labels.names, held)]
                if views is None or seen:
                    yield None if views is None else seen
                if progress and (now := self.estimates.find_last(tenant)).is_news_after(told):
                    told = now
                    yield told


def _is_older(view: View, other: View) -> bool:
    """Whether `view` was read before `other`, judged by number and time of the versions."""
    ours, theirs = view.version, other.version
    return (ours.number, ours.updated_at) < (theirs.number, theirs.updated_at)
