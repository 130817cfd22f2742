"""Background loops of every process: revocations, readiness and gauges."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from grpc_health.v1.health_pb2 import HealthCheckResponse
from nats.aio.msg import Msg

from aquifer.auth.v1.auth_events_pb2 import ApiKeyRevoked, TenantResumed, TenantSuspended
from chassis.base import metrics
from chassis.base.errors import ConflictError, OverloadedError, UnavailableError
from chassis.events.bus import Bus
from chassis.events.topology import subject
from chassis.identity.revocations import Revocations
from chassis.identity.tokens import Verifier
from chassis.process.ops import Stage
from chassis.process.process import Process
from chassis.rpc.health import Health

log = logging.getLogger(__name__)

READINESS_S = 0.5
STARTING_S = 0.05
# Problems that contain a count change all the time.
LOG_EVERY_S = 5.0
BACKLOG_S = 5.0

E = TypeVar("E", bound=Message)


async def subscribe_to_revocations(bus: Bus, revocations: Revocations) -> None:
    """Subscribes to the revocations that auth publishes; polling finds those that are missed."""

    def on_revoked(event: ApiKeyRevoked, _: str) -> None:
        revocations.on_key_revoked(event.key_id)

    def on_suspended(event: TenantSuspended, tenant: str) -> None:
        revocations.on_tenant_suspended(tenant, event.sequence)

    def on_resumed(event: TenantResumed, tenant: str) -> None:
        revocations.on_tenant_resumed(tenant, event.sequence)

    await _subscribe(bus, ApiKeyRevoked, on_revoked)
    await _subscribe(bus, TenantSuspended, on_suspended)
    await _subscribe(bus, TenantResumed, on_resumed)


async def _subscribe(bus: Bus, kind: type[E], on_event: Callable[[E, str], None]) -> None:
    """Calls `on_event` with each event of a type and its tenant."""

    async def on_message(message: Msg) -> None:
        try:
            event = kind.FromString(message.data)
        except DecodeError:
            log.exception("revocation.undecodable")
        else:
            on_event(event, message.subject.rsplit(".", 1)[-1])

    await bus.subscribe(subject(kind, "*"), on_message)


async def load_keys(verifier: Verifier) -> None:
    while not verifier.is_loaded:
        try:
            await verifier.load()
        except UnavailableError as error:
            log.warning("keys.waiting", extra={"reason": error.reason})


async def watch_readiness(
    process: Process, verifier: Verifier, revocations: Revocations, health: Health
) -> None:
    """Reports to the health service whether this process can do its work.

    Checks every half second, and more often until the first success, because others wait for it.
    """
    pause_s = STARTING_S
    said, say_from = process.readiness.reasons, 0.0
    while True:
        wrong = tuple([reason async for reason in _find_problems(process, verifier, revocations)])
        if wrong != said and (not wrong or not said or time.monotonic() >= say_from):
            log.info("service.readiness", extra={"ready": not wrong, "not_ready": wrong})
            said, say_from = wrong, time.monotonic() + LOG_EVERY_S
        process.readiness.set(wrong)
        health.explain(wrong, process.progress())
        state = HealthCheckResponse.NOT_SERVING if wrong else HealthCheckResponse.SERVING
        await health.set_all(state)
        pause_s = pause_s if wrong else READINESS_S
        await asyncio.sleep(pause_s)


async def _find_problems(
    process: Process, verifier: Verifier, revocations: Revocations
) -> AsyncIterator[str]:
    """Every problem that keeps the process from being ready."""
    for probe in process.probes:
        if reason := await probe():
            yield reason
    if not process.bus.is_connected:
        yield "bus does not answer"
    for settlement in process.settlements:
        # Without a broker it is unknown whether a durable exists.
        if settlement.bound.missing and process.bus.is_connected:
            yield settlement.bound.missing
        if settlement.pause_reason:
            yield f"{settlement.durable.name} waits: {settlement.pause_reason}"
    if not verifier.is_loaded:
        yield "public keys of auth not loaded"
    if not revocations.is_loaded:
        yield "revocations not loaded"


async def export_backlog(process: Process) -> None:
    """Updates the gauges of dead letters and of unfinished work per stage and tenant."""
    while True:
        await asyncio.sleep(BACKLOG_S)
        try:
            if process.settlements:
                metrics.DEAD_LETTERS.set(await process.dead_letters.count())
            _export(await process.stages())
        except (UnavailableError, OverloadedError, ConflictError) as error:
            log.warning("backlog.unknown", extra={"reason": error.reason})


def _export(stages: Sequence[Stage]) -> None:
    metrics.BACKLOG.clear()
    metrics.OLDEST_AGE_SECONDS.clear()
    for stage in stages:
        metrics.BACKLOG.labels(stage.name, stage.tenant).set(stage.documents)
        metrics.OLDEST_AGE_SECONDS.labels(stage.name, stage.tenant).set(stage.oldest_age_s)
