"""Watch calls, woken by changes instead of by polling.

Changes are noticed from the events of all replicas and from the commits of this process. Changes
noticed within `GATHER_S` are read together, with one query per tenant. Everything watched is also
read again every `RELOAD_S`, in case a change was missed. One query runs at a time: the number of
watchers has no part in the number of connections.
"""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from chassis.base.errors import (
    ConflictError,
    OverloadedError,
    UnavailableError,
)
from chassis.base.tenants import TenantDeletedError
from ingest.domain import View
from ingest.usecases.documents.progress import ProgressEstimates
from ingest.usecases.ports import ChangeFeed
from ingest.usecases.work import Begin

log = logging.getLogger(__name__)

# Short enough for users, and a burst of changes costs only a few queries a second.
GATHER_S: Final = 0.05
RELOAD_S: Final = 30.0
PROGRESS_S: Final = 1.0
TICK_S: Final = 1.0
RETRY_READ_S: Final = 1.0
RETRY_WATCH_S: Final = 5.0
READ_MAX: Final = 500
# Changed names of one tenant that wait to be read while the database is unavailable.
CHANGED_MAX: Final = 10_000
# Changed documents kept for a slow client; with more, it has to list the documents again.
PENDING_MAX: Final = 512


@dataclass(slots=True, eq=False)
class Watcher:
    """Waits for changes of one document, or of all documents with a name prefix.

    `views` are changed documents that were not taken yet; `missed` means that some may be missing.
    With `progress` it is woken by each new count of what is unfinished as well.
    """

    prefix: str = ""
    progress: bool = False
    missed: bool = False
    views: dict[str, View] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def is_watching(self, document: str) -> bool:
        """Whether a watcher of many documents watches this one."""
        return document.startswith(self.prefix)

    def put(self, view: View) -> None:
        """Store the newest state of a document until it is taken."""
        if len(self.views) >= PENDING_MAX and view.entry.name not in self.views:
            self.note_missed()
        else:
            self.views[view.entry.name] = view
            self.news.set()

    def note_missed(self) -> None:
        """Record that changes may have been missed, so the client has to list the documents."""
        self.missed = True
        self.views.clear()
        self.news.set()

    async def take(self) -> list[View] | None:
        """Wait for news; returns the changed documents, or None if some may be missing."""
        await self.news.wait()
        self.news.clear()
        missed, self.missed = self.missed, False
        views, self.views = list(self.views.values()), {}
        return None if missed else views


class Watchers:
    """The watchers of this process; `run` serves them.

    Args:
        begin: begins the units of work to read with; one connection at a time is in use.
        feed: changes made by any replica.
        estimates: measured while a watcher wants progress.
        limit: watchers of this process; one tenant may have half of them.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        begin: Begin,
        feed: ChangeFeed,
        estimates: ProgressEstimates,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begin = begin
        self._feed = feed
        self._estimates = estimates
        self._limit = limit
        self._clock = clock
        # By tenant and document; watchers of many documents have an empty name.
        self._watchers: defaultdict[str, defaultdict[str, set[Watcher]]]
        self._watchers = defaultdict(lambda: defaultdict(set))
        self._changed: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._news = asyncio.Event()
        self._feed_lock = asyncio.Lock()
        self._feed_is_open = False

    @asynccontextmanager
    async def join(
        self, tenant: str, *, document: str = "", collection: str = "", progress: bool = False
    ) -> AsyncIterator[Watcher]:
        """Watch one document, a collection or, with neither, the whole tenant.

        Raises:
            OverloadedError: WATCHERS_FULL.
        """
        self._check_limits(tenant)
        prefix = f"collections/{collection}/" if collection else ""
        watcher = Watcher(prefix=prefix, progress=progress)
        self._watchers[tenant][document].add(watcher)
        try:
            await self._open_feed()
            yield watcher
        finally:
            self._leave(tenant, document, watcher)

    def notice(self, tenant: str, document: str, *, finished: bool = False) -> None:
        """Record that a document has changed; does nothing more if it is not watched."""
        if finished:
            self._estimates.note_finished(tenant)
        if any(self._find_watchers(tenant, document)):
            self._changed[tenant][document] = None
            self._news.set()
            if len(self._changed[tenant]) > CHANGED_MAX:
                self._reload_tenant(tenant)

    def notice_all(self) -> None:
        """Read everything that is watched again, because changes may have been missed."""
        for tenant in self._watchers:
            self._reload_tenant(tenant)

    async def run(self) -> None:
        """Read changed documents and pass them to their watchers, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_changes())
            tasks.create_task(self._reload_periodically())
            tasks.create_task(self._measure_periodically())

    def _check_limits(self, tenant: str) -> None:
        counts = {
            name: sum(map(len, watchers.values())) for name, watchers in self._watchers.items()
        }
        if sum(counts.values()) >= self._limit or counts.get(tenant, 0) >= self._limit // 2:
            raise OverloadedError(
                "WATCHERS_FULL",
                "too many watch calls are open; watch many documents with one WatchDocuments call",
                retry_after_s=RETRY_WATCH_S,
                limit=self._limit,
            )

    def _leave(self, tenant: str, document: str, watcher: Watcher) -> None:
        watchers = self._watchers[tenant]
        watchers[document].discard(watcher)
        if not watchers[document]:
            del watchers[document]
        if not watchers:
            del self._watchers[tenant]

    def _reload_tenant(self, tenant: str) -> None:
        watchers = self._watchers[tenant]
        self._changed[tenant] = dict.fromkeys(name for name in watchers if name)
        self._news.set()
        for watcher in watchers.get("", ()):
            watcher.note_missed()

    async def _read_changes(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_S)
            self._news.clear()
            changed, self._changed = self._changed, defaultdict(dict)
            # A few changes of one tenant do not wait behind the many of another.
            for tenant, names in sorted(changed.items(), key=lambda one: len(one[1])):
                left = iter(names)
                while some := list(islice(left, READ_MAX)):
                    await self._read(tenant, some)

    async def _read(self, tenant: str, names: Sequence[str]) -> None:
        try:
            async with self._begin(tenant) as work:
                views = await work.documents.list_newest(names)
        except TenantDeletedError:
            return  # its watchers are ended, because their tokens are revoked
        except (UnavailableError, OverloadedError, ConflictError) as error:
            log.warning("changes.not_read", extra={"reason": error.reason})
            self._changed[tenant].update(dict.fromkeys(names))
            self._news.set()
            await asyncio.sleep(RETRY_READ_S)
            return
        for view in views:
            for watcher in self._find_watchers(tenant, view.entry.name):
                watcher.put(view)

    def _find_watchers(self, tenant: str, document: str) -> Iterator[Watcher]:
        if (watchers := self._watchers.get(tenant)) is not None:
            yield from watchers.get(document, ())
            yield from (one for one in watchers.get("", ()) if one.is_watching(document))

    async def _reload_periodically(self) -> None:
        """Keep the feed open while there are watchers, and read again what it may have missed."""
        due_at = self._next_reload_at()
        while True:
            await asyncio.sleep(TICK_S)
            if not self._watchers:
                await self._close_feed()
            elif await self._open_feed() or self._clock() >= due_at:
                self.notice_all()
                due_at = self._next_reload_at()

    async def _measure_periodically(self) -> None:
        """Count what is unfinished while a watcher wants to know, and wake those that do."""
        while True:
            await asyncio.sleep(PROGRESS_S)
            wanting = [one for one in self._list_watchers() if one.progress]
            if not wanting:
                continue
            try:
                await self._estimates.measure()
            except (UnavailableError, OverloadedError, ConflictError) as error:
                log.warning("progress.not_measured", extra={"reason": error.reason})
                continue
            for watcher in wanting:
                watcher.news.set()

    def _list_watchers(self) -> Iterator[Watcher]:
        for watchers in self._watchers.values():
            for same in watchers.values():
                yield from same

    def _next_reload_at(self) -> float:
        spread = random.uniform(0.75, 1.25)  # noqa: S311  (spreads replicas, keeps no secret)
        return self._clock() + RELOAD_S * spread

    async def _open_feed(self) -> bool:
        """Open the feed; returns whether it was closed before."""
        async with self._feed_lock:
            was_open = self._feed_is_open
            self._feed_is_open = was_open or await self._feed.open(self.notice)
            return self._feed_is_open and not was_open

    async def _close_feed(self) -> None:
        async with self._feed_lock:
            if self._feed_is_open and not self._watchers:
                await self._feed.close()
                self._feed_is_open = False
