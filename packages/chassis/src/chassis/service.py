"""The life of a process: open, take traffic, stop taking it, close, in that order."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import grpc
import uvloop
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckResponse
from nats.aio.msg import Msg

from aquifer.auth.v1.auth_events_pb2 import ApiKeyRevoked, TenantSuspended
from aquifer.ops.v1.dead_letter_service_pb2_grpc import add_DeadLetterServiceServicer_to_server
from aquifer.ops.v1.status_service_pb2_grpc import add_StatusServiceServicer_to_server
from chassis import logs, metrics, ops, telemetry
from chassis.authority import Authority, remote_authority
from chassis.bus import Bus, open_bus
from chassis.consume import Consumer, Handler, OnDead
from chassis.dead_letters import DeadLetters
from chassis.errors import ConflictError, OverloadedError, UnavailableError
from chassis.events import E
from chassis.identity import Verifier
from chassis.inbox import Inbox
from chassis.ops import Stage
from chassis.postgres import Database
from chassis.revocations import Revocations, follow
from chassis.rpc import Access, create_server, server_interceptors
from chassis.settings import ServiceSettings
from chassis.topology import consumes, durable_of, subject

log = logging.getLogger(__name__)

READINESS_S = 0.5
STAGES_S = 5.0
DRAIN_NOTICE_S = 0.3

Loop = Callable[[], Coroutine[Any, Any, None]]
Probe = Callable[[], Awaitable[str]]


async def _no_stages() -> Sequence[Stage]:
    return ()


@dataclass(slots=True, kw_only=True)
class Process:
    """The doors traffic enters by; a service attaches its edges, loops and probes to them.

    `stack` holds what the doors need: it unwinds only after both doors are closed. `authority` is
    where tokens' keys and revocations come from; only auth, which is it, sets another.
    """

    name: str
    bus: Bus
    server: grpc.aio.Server
    dead_letters: DeadLetters
    authority: Authority
    stack: AsyncExitStack
    stages: Callable[[], Awaitable[Sequence[Stage]]] = _no_stages
    consumers: list[Consumer[Any]] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    not_ready: tuple[str, ...] = ("starting",)

    def consume(
        self,
        event: type[E],
        handler: Handler[E],
        *,
        database: Database | None = None,
        on_dead: OnDead[E] | None = None,
        concurrency: int = 8,
    ) -> None:
        """Runs `handler` on each `event`, `concurrency` side by side, with exactly one effect.

        `database` keeps the inbox; a service without one publishes under derived ids only.
        """
        durable = durable_of(event, self.name)
        self.consumers.append(
            Consumer(
                self.bus,
                durable,
                event,
                handler,
                self.dead_letters,
                inbox=Inbox(database, durable.name) if database else None,
                on_dead=on_dead,
                concurrency=concurrency,
            )
        )

    def run(self, loop: Loop) -> None:
        """Keeps a background loop running while the process takes traffic; its end is a bug."""
        self.loops.append(loop)

    def ready_when(self, probe: Probe) -> None:
        """Adds a condition of readiness: `probe` says what is wrong, or nothing."""
        self.probes.append(probe)


Build = Callable[[Process], Awaitable[None]]


def run(name: str, settings: ServiceSettings, build: Build, access: Access) -> int:
    """Runs a service until SIGTERM or SIGINT; returns the exit code of its process."""
    logs.start(name)
    return uvloop.run(serve(name, settings, build, access))


async def serve(name: str, settings: ServiceSettings, build: Build, access: Access) -> int:
    """Opens, takes traffic until told to stop, drains within `drain_s`, closes.

    0: stopped as asked. 1: the bus connection was lost for good.
    """
    stop, lost = asyncio.Event(), asyncio.Event()

    def on_lost() -> None:
        lost.set()
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with AsyncExitStack() as stack:
        spans = telemetry.start(
            name,
            settings.otlp_endpoint,
            settings.trace_sample_ratio,
            version=version(f"aquifer-{name}"),
        )
        stack.callback(spans.shutdown)
        if settings.metrics_listen:
            stack.callback(metrics.serve(settings.metrics_listen).close)
        bus = await stack.enter_async_context(
            open_bus(
                settings.nats_url,
                settings.nats_user,
                settings.nats_password.get_secret_value(),
                name=name,
                lost=on_lost,
            )
        )
        await _traffic(name, settings, build, access, bus, stack, stop)
    return 1 if lost.is_set() else 0


async def _traffic(
    name: str,
    settings: ServiceSettings,
    build: Build,
    access: Access,
    bus: Bus,
    stack: AsyncExitStack,
    stop: asyncio.Event,
) -> None:
    revocations = Revocations(bus_connected=lambda: bus.connected)
    authority = await stack.enter_async_context(
        remote_authority(settings.auth_address, settings.service_key.get_secret_value())
    )
    process_access = {**access, **ops.STATUS_ACCESS}
    if consumes(name):
        process_access |= ops.DEAD_LETTER_ACCESS

    async def keys() -> str:
        return await process.authority.keys()

    verifier = Verifier(keys)
    server, health = await create_server(
        server_interceptors(name, verifier, revocations, process_access), process_access
    )
    process = Process(
        name=name,
        bus=bus,
        server=server,
        dead_letters=DeadLetters(bus, name),
        authority=authority,
        stack=stack,
    )
    await build(process)
    _serve_operators(process)
    server.add_insecure_port(settings.listen)
    await server.start()
    log.info("service.started", extra={"listen": settings.listen})

    async def set_serving(serving: bool) -> None:  # noqa: FBT001
        state = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        for service in ("", *sorted({method.rpartition("/")[0] for method in process_access})):
            await health.set(service, state)

    loops: list[Loop] = [
        *(consumer.run for consumer in process.consumers),
        *process.loops,
        lambda: _hear_revocations(bus, revocations),
        lambda: follow(revocations, process.authority.revocations),
        lambda: _load_keys(verifier),
        lambda: _watch_readiness(process, verifier, revocations, set_serving),
        lambda: _export_stages(process),
    ]
    async with asyncio.TaskGroup() as traffic:
        tasks = [traffic.create_task(loop()) for loop in loops]
        await stop.wait()
        log.info("service.draining")
        process.not_ready = ("draining",)
        await health.enter_graceful_shutdown()
        # Calls on their way when health changed still find the door open.
        await asyncio.sleep(DRAIN_NOTICE_S)
        await _close_doors(process, settings.drain_s)
        for task in tasks:
            task.cancel()
    log.info("service.stopped")


async def _close_doors(process: Process, drain_s: float) -> None:
    """Finishes what is in flight; what is not done in time is handed back or cut off."""
    await asyncio.gather(
        process.server.stop(drain_s), *(c.stop(drain_s) for c in process.consumers)
    )


def _serve_operators(process: Process) -> None:
    add_StatusServiceServicer_to_server(
        ops.StatusRpc(
            process.name,
            version(f"aquifer-{process.name}"),
            process.consumers,
            lambda: process.not_ready,
            process.stages,
        ),
        process.server,
    )
    if consumes(process.name):
        add_DeadLetterServiceServicer_to_server(
            ops.DeadLetterRpc(process.dead_letters, process.consumers), process.server
        )


async def _hear_revocations(bus: Bus, revocations: Revocations) -> None:
    """Every process hears what auth broadcasts; what it misses, polling brings."""

    async def on_revoked(message: Msg) -> None:
        try:
            revocations.on_key_revoked(ApiKeyRevoked.FromString(message.data).key_id)
        except DecodeError:
            log.exception("revocation.undecodable")

    async def on_suspended(message: Msg) -> None:
        revocations.on_tenant_suspended(message.subject.rsplit(".", 1)[-1])

    await bus.hear(subject(ApiKeyRevoked, "*"), on_revoked)
    await bus.hear(subject(TenantSuspended, "*"), on_suspended)


async def _load_keys(verifier: Verifier) -> None:
    while not verifier.loaded:
        try:
            await verifier.load()
        except UnavailableError as error:
            log.warning("keys.waiting", extra={"reason": error.reason})


async def _watch_readiness(
    process: Process,
    verifier: Verifier,
    revocations: Revocations,
    set_serving: Callable[[bool], Awaitable[None]],
) -> None:
    """Tells health, every half second, whether this process can do its work right now."""
    while True:
        wrong = [reason for probe in process.probes if (reason := await probe())]
        wrong += [c.puller.missing for c in process.consumers if c.puller.missing]
        wrong += [
            f"{c.durable.name} waits: {c.pause_reason}" for c in process.consumers if c.pause_reason
        ]
        if not process.bus.connected:
            wrong.append("bus not connected")
        if not verifier.loaded:
            wrong.append("keys of auth not loaded")
        if not revocations.loaded:
            wrong.append("revocations not loaded")
        if tuple(wrong) != process.not_ready:
            log.info("service.readiness", extra={"ready": not wrong, "not_ready": wrong})
        process.not_ready = tuple(wrong)
        await set_serving(not wrong)
        await asyncio.sleep(READINESS_S)


async def _export_stages(process: Process) -> None:
    """Keeps the gauges of unfinished work by stage and tenant."""
    while True:
        await asyncio.sleep(STAGES_S)
        try:
            stages = await process.stages()
        except (UnavailableError, OverloadedError, ConflictError) as error:
            log.warning("stages.unknown", extra={"reason": error.reason})
            continue
        metrics.BACKLOG.clear()
        metrics.OLDEST_AGE_SECONDS.clear()
        for stage in stages:
            metrics.BACKLOG.labels(stage.name, stage.tenant).set(stage.documents)
            metrics.OLDEST_AGE_SECONDS.labels(stage.name, stage.tenant).set(stage.oldest_age_s)
