"""Runs a process: open, accept traffic, drain, close, in this order."""

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version

import uvloop

from aquifer.ops.v1.dead_letter_service_pb2_grpc import add_DeadLetterServiceServicer_to_server
from aquifer.ops.v1.status_service_pb2_grpc import add_StatusServiceServicer_to_server
from chassis.base import logs, probes, telemetry
from chassis.base.settings import ServiceSettings
from chassis.events.bus import open_bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.topology import has_durables
from chassis.identity.revocations import Revocations, follow
from chassis.identity.tokens import Verifier
from chassis.process import ops, upkeep
from chassis.process.authority import remote_authority
from chassis.process.garbage import exempt_loaded_objects
from chassis.process.process import Build, Loop, Process
from chassis.rpc.health import Health
from chassis.rpc.server import Access, create_server, server_interceptors

log = logging.getLogger(__name__)

DRAIN_NOTICE_S = 0.3


def run(name: str, settings: ServiceSettings, build: Build, access: Access) -> int:
    """Runs a service until SIGTERM or SIGINT; returns the exit code of its process."""
    logs.start(name)
    return uvloop.run(serve(name, settings, build, access))


async def serve(name: str, settings: ServiceSettings, build: Build, access: Access) -> int:
    """Opens, accepts traffic until a stop signal, drains within `drain_s`, closes.

    Returns 0: stopped by a signal, 1: the bus connection was lost permanently.
    """
    stop, lost = asyncio.Event(), asyncio.Event()

    def on_lost() -> None:
        lost.set()
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with AsyncExitStack() as stack:
        service = await _open(name, settings, access, stack, on_lost)
        await build(service.process)
        _serve_operators(service.process)
        service.process.server.add_insecure_port(settings.listen)
        await service.process.server.start()
        exempt_loaded_objects()
        log.info("service.started", extra={"listen": settings.listen})
        await _take_traffic(service, settings.drain_s, stop)
    log.info("service.stopped")
    return 1 if lost.is_set() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """A process with its health, token verifier and revocations."""

    process: Process
    health: Health
    verifier: Verifier
    revocations: Revocations


async def _open(
    name: str,
    settings: ServiceSettings,
    access: Access,
    stack: AsyncExitStack,
    on_lost: Callable[[], None],
) -> _Service:
    """Opens what every process needs; `stack` closes it in reverse order."""
    spans = telemetry.start(
        name,
        settings.otlp_endpoint,
        settings.trace_sample_ratio,
        version=version(f"aquifer-{name}"),
    )
    stack.callback(spans.shutdown)
    readiness = probes.Readiness()
    if settings.metrics_listen:
        loop = asyncio.get_running_loop()
        stack.callback(probes.serve(settings.metrics_listen, readiness, loop).close)
    password = settings.nats_password.get_secret_value()
    bus = await stack.enter_async_context(
        open_bus(settings.nats_url, settings.nats_user, password, name=name, lost=on_lost)
    )
    authority = await stack.enter_async_context(
        remote_authority(settings.auth_address, settings.service_key.get_secret_value())
    )

    async def keys() -> str:
        return await process.authority.keys()

    verifier, revocations = Verifier(keys), Revocations(bus_connected=lambda: bus.is_connected)
    whole_access = {**access, **ops.access(consumes=has_durables(name))}
    server, health = await create_server(
        server_interceptors(name, verifier, revocations, whole_access), whole_access
    )
    process = Process(
        name=name,
        bus=bus,
        server=server,
        dead_letters=DeadLetters(bus, name),
        authority=authority,
        stack=stack,
        readiness=readiness,
    )
    return _Service(process=process, health=health, verifier=verifier, revocations=revocations)


async def _take_traffic(service: _Service, drain_s: float, stop: asyncio.Event) -> None:
    """Works until `stop` is set, then drains calls and events before anything is closed."""
    process, revocations = service.process, service.revocations
    loops: list[Loop] = [
        *([process.events.run] if process.events else []),
        *process.loops,
        lambda: upkeep.subscribe_to_revocations(process.bus, revocations),
        lambda: follow(revocations, process.authority.revocations),
        lambda: upkeep.load_keys(service.verifier),
        lambda: upkeep.watch_readiness(process, service.verifier, revocations, service.health),
        lambda: upkeep.export_backlog(process),
    ]
    async with asyncio.TaskGroup() as traffic:
        tasks = [traffic.create_task(loop()) for loop in loops]
        await stop.wait()
        log.info("service.draining")
        process.readiness.drain()
        await service.health.enter_graceful_shutdown()
        # Calls sent before clients saw the change of health are still accepted.
        await asyncio.sleep(DRAIN_NOTICE_S)
        await asyncio.gather(
            process.server.stop(drain_s),
            *([process.events.drain(drain_s)] if process.events else []),
        )
        for task in tasks:
            task.cancel()


def _serve_operators(process: Process) -> None:
    status = ops.StatusRpc(
        process.name,
        version(f"aquifer-{process.name}"),
        process.settlements,
        process.dead_letters,
        lambda: process.readiness.reasons,
        process.stages,
    )
    add_StatusServiceServicer_to_server(status, process.server)
    if has_durables(process.name):
        letters = ops.DeadLetterRpc(process.dead_letters, process.settlements)
        add_DeadLetterServiceServicer_to_server(letters, process.server)
