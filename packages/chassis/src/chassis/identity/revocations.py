"""Revoked keys and suspended tenants, which are refused although their tokens are valid.

A process receives revocations from the bus and polls auth every `POLL_EVERY_S`. One of the two is
enough. If neither has worked for `STALE_AFTER_S`, all callers are refused, because a revocation may
have been missed.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import grpc

from aquifer.auth.v1.auth_service_pb2 import ListRevocationsResponse
from chassis.base.errors import ServiceError, UnauthenticatedError, UnavailableError
from chassis.base.paging import PAGE_MAX

log = logging.getLogger(__name__)

POLL_EVERY_S = 2.0
FIRST_POLL_EVERY_S = 0.25
POLL_TIMEOUT_S = 1.5
TICK_EVERY_S = 0.25
# A revocation takes effect within 5 s: minus one tick and a margin for a busy event loop.
STALE_AFTER_S = 4.5
# Longer than the lifetime of any token (`TOKEN_MAX_S` plus leeway), which then has expired.
KEPT_S = 1_000.0


def _is_never_connected() -> bool:
    return False


@dataclass(frozen=True, slots=True, eq=False)
class OpenCall:
    """A call in progress; `end` ends it early when its key or tenant is revoked."""

    key_id: str
    tenant: str
    end: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _TenantState:
    """The last known state of a tenant; `sequence` orders events that arrive in any order."""

    suspended: bool
    sequence: int
    until: float


class Revocations:
    """Revoked keys and suspended tenants, and whether this process still receives new ones.

    Args:
        bus_connected: whether the bus connection that delivers revocations works now.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        bus_connected: Callable[[], bool] = _is_never_connected,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus_connected = bus_connected
        self._clock = clock
        self._keys: dict[str, float] = {}
        self._tenants: dict[str, _TenantState] = {}
        self._open: set[OpenCall] = set()
        self._loaded = False
        self._fresh_at = clock()

    @property
    def is_loaded(self) -> bool:
        """True once auth has answered; before that the process is not ready."""
        return self._loaded

    def on_key_revoked(self, key_id: str) -> None:
        """Refuses a key from now on and ends its open calls; can be repeated."""
        self._keys[key_id] = self._clock() + KEPT_S
        self._end(lambda call: call.key_id == key_id)

    def on_tenant_suspended(self, tenant: str, sequence: int) -> None:
        """Refuses a tenant from now on and ends its open calls, unless a later state is known."""
        if self._note(tenant, sequence, suspended=True):
            self._end(lambda call: call.tenant == tenant)

    def on_tenant_resumed(self, tenant: str, sequence: int) -> None:
        """Accepts a tenant again, unless a later state is known."""
        self._note(tenant, sequence, suspended=False)

    def _note(self, tenant: str, sequence: int, *, suspended: bool) -> bool:
        known = self._tenants.get(tenant)
        if known is not None and sequence < known.sequence:
            return False
        self._tenants[tenant] = _TenantState(
            suspended=suspended, sequence=sequence, until=self._clock() + KEPT_S
        )
        return True

    def reset_sequences(self) -> None:
        """Accepts the next state of each tenant, because auth was restored from a backup."""
        self._tenants = {name: replace(it, sequence=0) for name, it in self._tenants.items()}

    def note_contact(self, at: float | None = None) -> None:
        """Records that the bus or auth could deliver revocations at monotonic second `at`."""
        self._fresh_at = max(self._fresh_at, self._clock() if at is None else at)

    def mark_polled(self, at: float) -> None:
        """Records that all revocations before monotonic second `at` are known."""
        self._loaded = True
        self.note_contact(at)

    def check(self, key_id: str, tenant: str) -> None:
        """Checks that the key and its tenant are not revoked.

        Raises:
            UnauthenticatedError: KEY_REVOKED or TENANT_SUSPENDED.
            UnavailableError: REVOCATIONS_STALE, this process cannot check.
        """
        if key_id in self._keys:
            raise UnauthenticatedError("KEY_REVOKED", "the key of this token was revoked")
        standing = self._tenants.get(tenant)
        if standing is not None and standing.suspended:
            raise UnauthenticatedError("TENANT_SUSPENDED", "the tenant is suspended")
        if not self._loaded or self._is_stale():
            raise UnavailableError(
                "REVOCATIONS_STALE",
                "cannot reach auth or NATS, so revocations cannot be checked; retry",
            )

    def watch(self, call: OpenCall) -> None:
        """Ends the call as soon as `check` would refuse it, until `unwatch`."""
        self._open.add(call)

    def unwatch(self, call: OpenCall) -> None:
        self._open.discard(call)

    def tick(self) -> None:
        """Ends calls if the state is stale, forgets old entries. Call every `TICK_EVERY_S`."""
        if self._is_stale():
            self._end(lambda _: True)
        now = self._clock()
        self._keys = {name: until for name, until in self._keys.items() if until >= now}
        self._tenants = {name: it for name, it in self._tenants.items() if it.until >= now}

    def _is_stale(self) -> bool:
        if self._bus_connected():
            self.note_contact()
        return self._clock() - self._fresh_at > STALE_AFTER_S

    def _end(self, refused: Callable[[OpenCall], bool]) -> None:
        for call in [call for call in self._open if refused(call)]:
            call.end()


Pages = Callable[[int], Awaitable[ListRevocationsResponse]]


async def poll(revocations: Revocations, pages: Pages, after: int, at: float) -> int:
    """Reads every revocation after a sequence; all before monotonic second `at` are known then.

    Returns:
        The sequence for the next poll; 0 if auth was restored from a backup.
    """
    while True:
        page = await pages(after)
        for revocation in page.revocations:
            match revocation.WhichOneof("subject"):
                case "key_id":
                    revocations.on_key_revoked(revocation.key_id)
                case "tenant":
                    revocations.on_tenant_suspended(revocation.tenant, revocation.sequence)
                case "resumed_tenant":
                    revocations.on_tenant_resumed(revocation.resumed_tenant, revocation.sequence)
                case _:
                    log.error("revocation.unknown", extra={"sequence": revocation.sequence})
            after = revocation.sequence
        if len(page.revocations) < PAGE_MAX:
            break
    revocations.mark_polled(at)
    if page.latest_sequence < after:
        revocations.reset_sequences()
        return 0
    return page.latest_sequence


async def follow(
    revocations: Revocations, pages: Pages, *, clock: Callable[[], float] = time.monotonic
) -> None:
    """Keeps `revocations` up to date until cancelled; auth may be unavailable for a while.

    Args:
        revocations: updated by this function.
        pages: reads at most `PAGE_MAX` revocations after a sequence from auth.
        clock: the same clock as in `revocations`.
    """
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_tick(revocations))
        tasks.create_task(_poll(revocations, pages, clock))


async def _tick(revocations: Revocations) -> None:
    while True:
        revocations.tick()
        await asyncio.sleep(TICK_EVERY_S)


async def _poll(revocations: Revocations, pages: Pages, clock: Callable[[], float]) -> None:
    after, away = 0, False
    while True:
        asked_at = clock()
        try:
            async with asyncio.timeout(POLL_TIMEOUT_S):
                after = await poll(revocations, pages, after, asked_at)
        except (ServiceError, grpc.RpcError, TimeoutError) as error:
            if not away:
                log.warning("revocations.unreachable", extra={"error": repr(error)})
            away = True
        else:
            if away:
                log.info("revocations.reachable")
            away = False
        # Until auth has answered the process is not ready, and its start waits for it.
        every_s = POLL_EVERY_S if revocations.is_loaded else FIRST_POLL_EVERY_S
        await asyncio.sleep(max(0.0, asked_at + every_s - clock()))
