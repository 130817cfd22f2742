"""Fetches the content of uploads by reference to another server.

The upload event waits in the database meanwhile, not in its stream: a slow or dead server delays
no other upload. It is accepted, or gets a result, when the content was read or could not be read.
"""

import asyncio
import contextvars
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.context import Context

from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from chassis.base.errors import ConflictError, OverloadedError, ServiceError, UnavailableError
from chassis.events import topology
from chassis.events.delivery import Delivery
from chassis.events.envelope import Envelope
from chassis.events.failures import AttemptsExhaustedError
from ingest.traces import continue_trace
from ingest.usecases.ports import Sweeper
from ingest.usecases.rows import Fetch
from ingest.usecases.uploads.accept_upload import AcceptUpload
from ingest.usecases.work import Begin

log = logging.getLogger(__name__)

RUNNING_MAX: Final = 64
TENANT_MAX: Final = 4
# Between looks for what other processes have left; own work wakes the loop at once.
POLL_S: Final = 5.0
ATTEMPTS_MAX: Final = 5
WAIT_FIRST_S: Final = 2.0
WAIT_LAST_S: Final = 60.0
GIVE_UP_S: Final = 900.0
LEASE_S: Final = 60.0
# The content was available; something of ours was not.
OWN_WAIT_S: Final = 5.0


@dataclass(slots=True, kw_only=True)
class FetchContent:
    """Fetches due content until cancelled; tenants take turns.

    At most `RUNNING_MAX` fetches run at a time, `TENANT_MAX` of one tenant. A server that does not
    answer is tried again after growing pauses, for `give_up_s` seconds since the event arrived;
    then the upload is refused with REFERENCE_UNAVAILABLE. A running fetch is renewed before
    `lease_s` has passed: after it, another process takes over from one that has died.
    """

    accept: AcceptUpload
    begin: Begin
    sweeper: Sweeper
    give_up_s: float = GIVE_UP_S
    lease_s: float = LEASE_S
    _running: dict["asyncio.Task[None]", str] = field(default_factory=dict)

    async def run(self) -> None:
        """Fetches until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self.accept.due.clear()
                try:
                    await self._start_due(group)
                except (UnavailableError, OverloadedError, ConflictError) as error:
                    log.warning("fetches.waiting", extra={"reason": error.reason})
                await _wait(self.accept.due, POLL_S)

    async def _start_due(self, group: asyncio.TaskGroup) -> None:
        """Starts due fetches, as many as may run."""
        busy = Counter(self._running.values())
        full = [tenant for tenant, count in busy.items() if count >= TENANT_MAX]
        free = RUNNING_MAX - len(self._running)
        if free <= 0:
            return
        for tenant, source, request_id in await self.sweeper.list_due_fetches(
            TENANT_MAX, free, excluding=full
        ):
            if busy[tenant] >= TENANT_MAX:
                continue
            async with self.begin(tenant) as work:
                fetch = await work.fetches.take(source, request_id, self.lease_s)
            if fetch is None:
                continue
            busy[tenant] += 1
            # In its own context: it belongs to the trace of its upload.
            task = group.create_task(self._fetch(fetch), context=contextvars.Context())
            self._running[task] = tenant
            task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._running.pop(task)
        self.accept.due.set()

    async def _fetch(self, fetch: Fetch) -> None:
        """Makes one attempt; whatever comes of it, the fetch is removed or put back."""
        renewing = asyncio.create_task(self._renew(fetch))
        try:
            await self._attempt(fetch)
        except asyncio.CancelledError:
            # The process stops: another one need not wait for the lease.
            await asyncio.shield(self._put_back(fetch, 0.0, attempt=fetch.attempt - 1))
            raise
        finally:
            renewing.cancel()

    async def _renew(self, fetch: Fetch) -> None:
        """Keeps a fetch from being due for other processes, until cancelled."""
        while True:
            await asyncio.sleep(self.lease_s / 3)
            await self._put_back(fetch, self.lease_s, attempt=fetch.attempt)

    async def _attempt(self, fetch: Fetch) -> None:
        try:
            delivery = _deliver(fetch)
            with continue_trace("fetch content", fetch.trace_id):
                await self._answer(fetch, delivery)
        except (UnavailableError, OverloadedError, ConflictError) as error:
            log.warning("fetch.waiting", extra={"reason": error.reason})
            await self._put_back(fetch, OWN_WAIT_S, attempt=0)
        except Exception:
            log.exception("fetch.failed", extra={"attempt": fetch.attempt})
            await self._put_back(fetch, OWN_WAIT_S, attempt=fetch.attempt)

    async def _answer(self, fetch: Fetch, delivery: Delivery[DocumentUploaded]) -> None:
        """Accepts the upload, refuses it, or puts it back because its server is unavailable."""
        try:
            if fetch.attempt > ATTEMPTS_MAX:
                raise AttemptsExhaustedError(ATTEMPTS_MAX)
            await self.accept.run(delivery, fetch.trace_id, fetched=True)
        except UnavailableError as error:
            if error.reason != "REFERENCE_UNAVAILABLE":
                raise
            if fetch.age_s < self.give_up_s:
                wait_s = min(max(fetch.age_s / 2, WAIT_FIRST_S), WAIT_LAST_S)
                await self._put_back(fetch, wait_s, attempt=0)
                return
            await self.accept.answers.refuse(delivery, error)
        except (OverloadedError, ConflictError):
            raise
        except ServiceError as error:
            await self.accept.answers.refuse(delivery, error)
        async with self.begin(fetch.tenant) as work:
            await work.fetches.remove(fetch)

    async def _put_back(self, fetch: Fetch, wait_s: float, *, attempt: int) -> None:
        """Makes a fetch due again; without the database, its lease does that."""
        try:
            async with self.begin(fetch.tenant) as work:
                await work.fetches.put_back(fetch, wait_s, attempt=attempt)
        except (UnavailableError, OverloadedError, ConflictError) as error:
            log.warning("fetch.waiting", extra={"reason": error.reason})


def _deliver(fetch: Fetch) -> Delivery[DocumentUploaded]:
    """The upload event as it was delivered."""
    return Delivery(
        event=DocumentUploaded.FromString(fetch.upload),
        envelope=Envelope(
            event_id=fetch.request_id,
            event_type=DocumentUploaded.DESCRIPTOR.full_name,
            source=fetch.source,
            tenant=fetch.tenant,
            subject=topology.subject(DocumentUploaded, fetch.tenant),
        ),
        consumer=topology.durable_of(DocumentUploaded, "ingest").name,
        attempt=fetch.attempt,
        stored_ns=fetch.stored_ns,
        context=Context(),
    )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
