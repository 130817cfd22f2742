"""Stores events in the transaction that causes them and publishes them after it has committed.

An event is published from memory as soon as its transaction has committed; its row is deleted a
little later, together with others. Rows that were not published in time (a process died, the broker
was unavailable) are published from the table, by any process of the service.

Work events are released evenly: at most `RELEASED_MAX` events of each kind are in the stream. The
others wait in the table. Tenants take turns there in proportion to their weights, so no tenant
waits behind the import of another. Interactive events, for whose effect someone waits, form a lane
of their own: they leave first, and `INTERACTIVE_MORE` places in the stream are only theirs. After
each round in which they went ahead, at least one event of the other lane leaves.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from chassis.base.errors import ServiceError
from chassis.base.postgres import Database, Transaction
from chassis.events import topology
from chassis.events.bus import Bus
from chassis.events.envelope import Outgoing
from chassis.events.turns import Turns

log = logging.getLogger(__name__)

RELEASED_MAX = 48
INTERACTIVE_MORE = 16
WINDOW = 64
RELAY_BATCH = 128
POLL_S = 2.0
BACKLOG_POLL_S = 0.05
REMOVE_AFTER_S = 0.2
# Newer rows are still in the memory of the process that wrote them.
STALE_S = 2.0
MEMORY_MAX_EVENTS = 2_048
MEMORY_MAX_BYTES = 16 << 20
# Delay for each further event of the same document, so that other work comes in between.
PLACE_STEP_S = 0.05
EQUAL: Final[Mapping[str, float]] = MappingProxyType({})

_STORE = """
INSERT INTO outbox (tenant_id, document, event, subject, headers, payload, interactive, place)
SELECT %(tenant)s, given.document, given.event, given.subject, given.headers, given.payload,
    given.interactive, clock_timestamp() + make_interval(secs => given.delay_s)
FROM unnest(%(documents)b::text[], %(events)b::text[], %(subjects)b::text[], %(headers)b::jsonb[],
    %(payloads)b::bytea[], %(interactive)b::boolean[], %(delays_s)b::float8[])
    WITH ORDINALITY
    AS given(document, event, subject, headers, payload, interactive, delay_s, number)
ORDER BY given.number RETURNING outbox_id
"""

_STALE = """
SELECT event, interactive
FROM unnest(%(events)s::text[]) AS event, unnest(ARRAY[true, false]) AS interactive
WHERE EXISTS (
    SELECT FROM outbox o WHERE o.event = event.event AND o.interactive = interactive.interactive
        AND created_at < clock_timestamp() - make_interval(secs => %(age_s)s)
        AND NOT outbox_id = ANY(%(in_memory)s))
"""

# Finds the tenants on the index, then takes the events with the lowest starts, see `Turns`.
_RELEASE = """
WITH RECURSIVE tenants AS (
    (SELECT tenant_id FROM outbox WHERE event = %(event)s AND interactive = %(interactive)s
     ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM outbox
            WHERE event = %(event)s AND interactive = %(interactive)s
                AND tenant_id > tenants.tenant_id
            ORDER BY tenant_id LIMIT 1)
    FROM tenants WHERE tenants.tenant_id IS NOT NULL
), turns AS (
    SELECT mine.outbox_id, mine.place,
        coalesce(given.start, %(level)s::float8) + (row_number() OVER
            (PARTITION BY tenants.tenant_id ORDER BY mine.place) - 1) / coalesce(given.weight, 1)
            AS start
    FROM tenants
    LEFT JOIN unnest(%(tenants)s::text[], %(starts)s::float8[], %(weights)s::float8[])
        AS given(tenant_id, start, weight) ON given.tenant_id = tenants.tenant_id,
    LATERAL (
        SELECT outbox_id, place FROM outbox
        WHERE event = %(event)s AND interactive = %(interactive)s
            AND tenant_id = tenants.tenant_id AND NOT outbox_id = ANY(%(in_memory)s)
        ORDER BY place LIMIT %(limit)s
    ) AS mine
)
SELECT outbox_id, tenant_id, start, subject, headers, payload
FROM (SELECT outbox_id, start, place FROM turns ORDER BY start, place LIMIT %(limit)s) AS chosen
JOIN outbox USING (outbox_id)
ORDER BY chosen.start, chosen.place FOR UPDATE OF outbox SKIP LOCKED
"""


class _Queue(NamedTuple):
    """The events of one kind in one lane, which wait for their turn."""

    event: str
    interactive: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """An event of a tenant and the id of its row."""

    outbox_id: int
    tenant: str
    event: Outgoing


class Outbox:
    """The outbox of one service; several processes of it can run at the same time.

    `weights` are the shares of tenants in the release of work events, 1 for all others.
    """

    def __init__(
        self,
        database: Database,
        bus: Bus,
        service: str,
        weights: Mapping[str, float] = EQUAL,
    ) -> None:
        self._database = database
        self._bus = bus
        self._kinds = {
            event.full_name: topology.is_work(event)
            for event in topology.events()
            if topology.publisher(event) == service
        }
        # Events that were not published yet, by tenant.
        self._queues: dict[str, deque[Stored]] = {}
        # Sizes of these, and of published events whose row is not deleted yet.
        self._in_memory: dict[int, int] = {}
        self._memory_bytes = 0
        self._published: list[int] = []
        # Estimates, replaced by the broker's count when they reach the limit.
        self._released: Counter[str] = Counter()
        self._backlog: set[_Queue] = set()
        # Kinds of which interactive events went ahead since another one left.
        self._overtaken: set[str] = set()
        self._turns = {
            _Queue(kind, interactive): Turns(weights)
            for kind in self._kinds
            for interactive in (True, False)
        }
        self._queued, self._removable = asyncio.Event(), asyncio.Event()
        self._relay_woken = asyncio.Event()

    async def store(
        self, tx: Transaction, tenant: str, events: Sequence[Outgoing]
    ) -> Sequence[Stored]:
        """Stores events of a tenant; pass the result to `publish` after `tx` has committed."""
        if not events:
            return ()
        documents = [event.document for event in events]
        kinds = [event.kind for event in events]
        cursor = await tx.execute(
            _STORE,
            {
                "tenant": tenant,
                "documents": documents,
                "events": kinds,
                "subjects": [event.subject for event in events],
                "headers": [Jsonb(dict(event.headers)) for event in events],
                "payloads": [event.payload for event in events],
                "interactive": [event.interactive for event in events],
                "delays_s": _delays_s(list(zip(kinds, documents, strict=True))),
            },
        )
        rows = await cursor.fetchall()
        return [
            Stored(row["outbox_id"], tenant, one) for row, one in zip(rows, events, strict=True)
        ]

    def publish(self, stored: Sequence[Stored]) -> None:
        """Queues committed events for publishing; returns at once and never fails."""
        for one in stored:
            if self._has_capacity(one.event):
                self._in_memory[one.outbox_id] = one.event.size_bytes
                self._memory_bytes += one.event.size_bytes
                self._queues.setdefault(one.tenant, deque()).append(one)
                self._queued.set()
            else:
                self._backlog.add(_queue_of(one.event))
                self._relay_woken.set()

    def _has_capacity(self, event: Outgoing) -> bool:
        if _queue_of(event) in self._backlog or len(self._in_memory) >= MEMORY_MAX_EVENTS:
            return False
        if self._memory_bytes + event.size_bytes > MEMORY_MAX_BYTES:
            return False
        if self._kinds.get(event.kind):
            if self._released[event.kind] >= _released_max(interactive=event.interactive):
                return False
            self._released[event.kind] += 1
            if event.interactive:
                self._overtaken.add(event.kind)
        return True

    async def relay(self) -> None:
        """Publishes stored events, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_queued())
            group.create_task(self._remove_published())
            group.create_task(self._release_waiting())

    async def _publish_queued(self) -> None:
        while True:
            await self._queued.wait()
            self._queued.clear()
            while window := self._take_window():
                outcomes = await self._bus.send([one.event for one in window])
                for one, error in zip(window, outcomes, strict=True):
                    if error is None:
                        self._published.append(one.outbox_id)
                        self._removable.set()
                    else:
                        # Its row stays and is published from the table.
                        self._forget(one.outbox_id)
                        self._backlog.add(_queue_of(one.event))
                        self._relay_woken.set()

    def _take_window(self) -> Sequence[Stored]:
        """The next events to publish; tenants take turns, each keeps its order."""
        window: list[Stored] = []
        while self._queues and len(window) < WINDOW:
            tenant = next(iter(self._queues))
            queue = self._queues.pop(tenant)
            window.append(queue.popleft())
            if queue:
                self._queues[tenant] = queue
        return window

    async def _remove_published(self) -> None:
        while True:
            await self._removable.wait()
            await asyncio.sleep(REMOVE_AFTER_S)
            done = list(self._published)
            try:
                async with self._database.sweep(synchronous=False) as tx:
                    await tx.execute("DELETE FROM outbox WHERE outbox_id = ANY(%s)", [done])
            except ServiceError as error:
                log.warning("outbox.waiting", extra={"reason": error.reason})
                continue
            del self._published[: len(done)]
            if not self._published:
                self._removable.clear()
            for outbox_id in done:
                self._forget(outbox_id)

    def _forget(self, outbox_id: int) -> None:
        self._memory_bytes -= self._in_memory.pop(outbox_id)

    async def _release_waiting(self) -> None:
        while True:
            try:
                self._backlog |= await self._find_stale()
                while self._backlog:
                    for queue in sorted(self._backlog, key=lambda one: not one.interactive):
                        await self._release(queue)
                    if self._backlog:
                        await asyncio.sleep(BACKLOG_POLL_S)
            except ServiceError as error:
                log.warning("outbox.waiting", extra={"reason": error.reason})
                await asyncio.sleep(POLL_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._relay_woken.wait()
            self._relay_woken.clear()

    async def _find_stale(self) -> set[_Queue]:
        """Queues that have rows older than `STALE_S`."""
        wanted = {"events": list(self._kinds), "age_s": STALE_S, "in_memory": list(self._in_memory)}
        async with self._database.sweep() as tx:
            cursor = await tx.execute(_STALE, wanted)
            return {_Queue(row["event"], row["interactive"]) for row in await cursor.fetchall()}

    async def _release(self, queue: _Queue) -> None:
        """Publishes some events of a queue from the table; tenants take turns."""
        limit = await self._count_releasable(queue)
        if not limit:
            return
        turns = self._turns[queue]
        async with self._database.sweep(synchronous=False) as tx:
            # Events that `publish` gets from now on set the backlog again.
            self._backlog.discard(queue)
            wanted = {"limit": limit, "in_memory": list(self._in_memory)}
            cursor = await tx.execute(
                _RELEASE, {**queue._asdict(), **turns.columns()._asdict(), **wanted}
            )
            rows = await cursor.fetchall()
            if len(rows) == limit:
                self._backlog.add(queue)
            await self._bus.publish_all([_to_outgoing(row) for row in rows])
            self._count_released(queue, len(rows))
            left = [(row["tenant_id"], row["start"]) for row in rows]
            turns.leave(left, emptied=len(rows) < limit)
            done = [row["outbox_id"] for row in rows]
            await tx.execute("DELETE FROM outbox WHERE outbox_id = ANY(%s)", [done])

    def _count_released(self, queue: _Queue, count: int) -> None:
        self._released[queue.event] += count
        if not queue.interactive:
            self._overtaken.discard(queue.event)
        elif count:
            self._overtaken.add(queue.event)

    async def _count_releasable(self, queue: _Queue) -> int:
        """Number of events of a queue that may be released now."""
        kind, interactive = queue
        if not self._bus.is_connected:
            return 0
        if not self._kinds[kind]:
            return RELAY_BATCH
        self._released[kind] = await self._bus.count_unfinished(kind)
        least = 1 if not interactive and kind in self._overtaken else 0
        return max(least, _released_max(interactive=interactive) - self._released[kind])


def _released_max(*, interactive: bool) -> int:
    return RELEASED_MAX + (INTERACTIVE_MORE if interactive else 0)


def _queue_of(event: Outgoing) -> _Queue:
    return _Queue(event.kind, event.interactive)


def _delays_s(about: Sequence[tuple[str, str]]) -> list[float]:
    """Delays for later events of the same kind and document, so that others come in between."""
    seen: Counter[tuple[str, str]] = Counter()
    delays = []
    for one in about:
        delays.append(seen[one] * PLACE_STEP_S)
        seen[one] += 1
    return delays


def _to_outgoing(row: dict[str, Any]) -> Outgoing:
    return Outgoing(subject=row["subject"], headers=row["headers"], payload=bytes(row["payload"]))
