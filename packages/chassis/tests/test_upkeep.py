"""What auth broadcasts reaches a process over the real broker."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from google.protobuf.message import Message

from aquifer.auth.v1.auth_events_pb2 import ApiKeyRevoked, TenantResumed, TenantSuspended
from chassis.base.errors import UnauthenticatedError
from chassis.events.bus import Bus
from chassis.events.envelope import outgoing
from chassis.events.topology import subject
from chassis.identity.revocations import Revocations
from chassis.process.upkeep import hear_revocations
from testkit.servers import TestBus


async def say(auth: Bus, event: Message, event_id: str) -> None:
    await auth.publish_all([outgoing(event, event_id=event_id)])


def refused(known: Revocations, key: str, tenant: str) -> str:
    with suppress(UnauthenticatedError):
        known.check(key, tenant)
        return ""
    return "refused"


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_process_hears_of_keys_suspensions_and_resumptions(bus: TestBus) -> None:
    known = Revocations(bus_connected=lambda: True)
    known.polled(time.monotonic())
    async with bus.connect("query") as query, bus.connect("auth") as auth:
        await hear_revocations(query, known)
        await query.client.flush()
        # Nothing in it can be read: it is logged, and the next is heard.
        await auth.client.publish(subject(TenantSuspended, "acme"), b"\xff")
        await say(auth, ApiKeyRevoked(tenant="acme", key_id="k1"), "a")
        await say(auth, TenantSuspended(tenant="acme", sequence=2), "b")
        await until(lambda: bool(refused(known, "k1", "globex") and refused(known, "k2", "acme")))
        await say(auth, TenantResumed(tenant="acme", sequence=3), "c")
        await until(lambda: not refused(known, "k2", "acme"))
        await say(auth, TenantSuspended(tenant="globex", sequence=4), "d")
        await say(auth, TenantSuspended(tenant="acme", sequence=1), "e")
        await until(lambda: bool(refused(known, "k2", "globex")))
        assert not refused(known, "k2", "acme")
