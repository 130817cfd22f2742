"""What auth broadcasts reaches a process over the real broker."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, cast

from google.protobuf.message import Message

from aquifer.auth.v1.auth_events_pb2 import ApiKeyRevoked, TenantResumed, TenantSuspended
from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from chassis.base.errors import UnauthenticatedError
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Batch
from chassis.events.envelope import encode_event
from chassis.events.router import EventRouter
from chassis.events.topology import subject
from chassis.identity.revocations import Revocations
from chassis.identity.tokens import Verifier
from chassis.process.process import Process
from chassis.process.upkeep import _find_problems as wrong
from chassis.process.upkeep import subscribe_to_revocations
from testkit.servers import TestBus


async def publish(auth: Bus, event: Message, event_id: str) -> None:
    await auth.publish_all([encode_event(event, event_id=event_id)])


def find_refusal(known: Revocations, key: str, tenant: str) -> str:
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
    known.mark_polled(time.monotonic())
    async with bus.connect("query") as query, bus.connect("auth") as auth:
        await subscribe_to_revocations(query, known)
        await query.client.flush()
        # Nothing in it can be read: it is logged, and the next is heard.
        await auth.client.publish(subject(TenantSuspended, "acme"), b"\xff")
        await publish(auth, ApiKeyRevoked(tenant="acme", key_id="k1"), "a")
        await publish(auth, TenantSuspended(tenant="acme", sequence=2), "b")
        await until(
            lambda: bool(find_refusal(known, "k1", "globex") and find_refusal(known, "k2", "acme"))
        )
        await publish(auth, TenantResumed(tenant="acme", sequence=3), "c")
        await until(lambda: not find_refusal(known, "k2", "acme"))
        await publish(auth, TenantSuspended(tenant="globex", sequence=4), "d")
        await publish(auth, TenantSuspended(tenant="acme", sequence=1), "e")
        await until(lambda: bool(find_refusal(known, "k2", "globex")))
        assert not find_refusal(known, "k2", "acme")


async def test_a_broker_that_is_away_is_not_reported_as_missing_durables(
    bus: TestBus,
) -> None:
    async def handler(batch: Batch[ChunksEmbedded]) -> None:
        raise AssertionError

    verifier, known = Verifier(no_keys), Revocations()
    async with AsyncExitStack() as stack, bus.connect("query") as query:
        process = Process(
            name="query",
            bus=query,
            server=cast(Any, None),
            dead_letters=DeadLetters(query, "query"),
            authority=cast(Any, None),
            stack=stack,
        )
        router = EventRouter()
        router.on(ChunksEmbedded)(handler)
        process.consume(router)
        [settlement] = process.settlements
        durable = f"durable {settlement.durable.name} not found"
        settlement.bound.missing = durable
        there = [reason async for reason in wrong(process, verifier, known)]
        await query.client.close()
        away = [reason async for reason in wrong(process, verifier, known)]
    rest = ["public keys of auth not loaded", "revocations not loaded"]
    assert there == [durable, *rest]
    assert away == ["bus does not answer", *rest]


async def no_keys() -> str:
    return "{}"
