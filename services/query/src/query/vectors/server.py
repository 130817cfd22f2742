"""The vector process: lock the folder, open the stores, serve, drain, close."""

import asyncio
import logging
import signal
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final
from uuid import uuid4

from grpc_health.v1.health_pb2 import HealthCheckResponse
from pydantic import Field

from aquifer.query.vectors.v1 import vector_service_pb2 as pb
from aquifer.query.vectors.v1.vector_service_pb2_grpc import add_VectorServiceServicer_to_server
from chassis.base import probes, telemetry
from chassis.base.errors import ServiceError
from chassis.base.settings import ProcessSettings
from chassis.process.garbage import exempt_loaded_objects
from chassis.rpc.server import PUBLIC, Access, create_server, private_interceptors
from query.retrieval.vector_store import Quantization
from query.vectors.lanes import Lane
from query.vectors.rpc import VectorRpc
from query.vectors.shard_errors import EngineBrokenError
from query.vectors.stores import Stores, lock_folder

log = logging.getLogger(__name__)

NAME: Final = "vectors"
SOCKET_PATH_MAX_BYTES: Final = 107
READERS: Final = 2
HELD_MAX: Final = 64
WAIT_MAX_S: Final = 30.0
FLUSH_EVERY_S: Final = 2.0
# A flush waits for the disk and holds the interpreter lock meanwhile, so it waits for a pause of
# the searches. A log of 20,000 changes takes some ten seconds to repeat at the next start.
PAUSE_S: Final = 0.5
UNFLUSHED_MAX: Final = 20_000
PICK_UP_S: Final = 0.3

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["VectorService"]
# No caller shows a token: only the process's own user can open the socket.
ACCESS: Final[Access] = {
    f"{_SERVICE.full_name}/{method.name}": PUBLIC for method in _SERVICE.methods
}


class SocketInUseError(Exception):
    """Another process uses the socket, or its path cannot be a socket."""


class Settings(ProcessSettings):
    """Settings of the process."""

    vectors_quantization: Quantization = Field(
        Quantization.TURBO4,
        description="codes of the dense vectors of new stores: none, turbo4 or turbo2",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of the process."""

    socket: Path
    data: Path
    dimensions: int


async def serve(options: Options, settings: Settings) -> bool:
    """Serve until SIGTERM or SIGINT; returns False if it ended because the engine is broken.

    Raises:
        DataInUseError: another process serves the folder.
        SocketInUseError: the socket cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    with ExitStack() as stack:
        spans = telemetry.start(
            NAME,
            settings.otlp_endpoint,
            settings.trace_sample_ratio,
            version=version("aquifer-query"),
        )
        stack.callback(spans.shutdown)
        readiness = probes.Readiness()
        if settings.metrics_listen:
            stack.callback(probes.serve(settings.metrics_listen, readiness, loop).close)
        stack.enter_context(lock_folder(options.data))
        claim_socket(options.socket)
        stores = Stores(options.data, uuid4, settings.vectors_quantization)
        stores.load()
        return await _Server(options, settings.drain_s, stores, readiness, stop).run()


def compact(data: Path) -> None:
    """Free the space of removed points, in a folder that no process serves.

    Raises:
        DataInUseError: a process serves the folder.
    """
    with lock_folder(data):
        stores = Stores(data, uuid4)
        stores.load()
        stores.compact()
        stores.close()


class _Server:
    def __init__(
        self,
        options: Options,
        drain_s: float,
        stores: Stores,
        readiness: probes.Readiness,
        stop: asyncio.Event,
    ) -> None:
        self._options = options
        self._drain_s = drain_s
        self._stores = stores
        self._readiness = readiness
        self._stop = stop
        self._broken = False
        self._writer = Lane("write", threads=1, held_max=HELD_MAX, wait_max_s=WAIT_MAX_S)
        self._readers = Lane("read", threads=READERS, held_max=HELD_MAX, wait_max_s=WAIT_MAX_S)

    async def run(self) -> bool:
        server, health = await create_server(private_interceptors(NAME, ACCESS), ACCESS)
        rpc = VectorRpc(
            self._stores,
            writer=self._writer,
            readers=self._readers,
            dimensions=self._options.dimensions,
            on_broken=self._on_broken,
        )
        add_VectorServiceServicer_to_server(rpc, server)
        server.add_insecure_port(f"unix:{self._options.socket}")
        self._options.socket.chmod(0o600)
        await server.start()
        exempt_loaded_objects()
        await health.set_all(HealthCheckResponse.SERVING)
        self._readiness.set(())
        log.info("vectors.serving", extra={"socket": str(self._options.socket)})
        await self._flush_until_stopped()
        log.info("vectors.draining", extra={"broken": self._broken})
        self._readiness.drain()
        await health.enter_graceful_shutdown()
        # `stop` cancels the calls that arrived and were not picked up yet.
        await asyncio.sleep(PICK_UP_S)
        await server.stop(self._drain_s)
        self._close()
        return not self._broken

    def _on_broken(self) -> None:
        self._broken = True
        self._stop.set()

    async def _flush_until_stopped(self) -> None:
        """Flushes periodically, so that the engine's log and the next start stay short."""
        while not self._stop.is_set():
            try:
                async with asyncio.timeout(FLUSH_EVERY_S):
                    await self._stop.wait()
            except TimeoutError:
                await self._flush()

    async def _flush(self) -> None:
        least = 1 if self._readers.idle_s >= PAUSE_S else UNFLUSHED_MAX
        try:
            await self._writer.run(partial(self._stores.flush, least=least))
            await self._writer.run(self._stores.export_points)
        except EngineBrokenError:
            log.exception("store.flush_failed")
            self._on_broken()
        except ServiceError:
            log.exception("store.flush_failed")

    def _close(self) -> None:
        self._writer.close()
        self._readers.close()
        if not self._broken:
            self._stores.close()
        self._options.socket.unlink(missing_ok=True)


def claim_socket(path: Path) -> None:
    """Remove the socket of a dead process.

    Raises:
        SocketInUseError: a running process uses it, or the path is too long for a socket.
    """
    if len(bytes(path)) > SOCKET_PATH_MAX_BYTES:
        raise SocketInUseError(f"longer than {SOCKET_PATH_MAX_BYTES} bytes: {path}")
    if not path.is_socket():
        if path.exists():
            raise SocketInUseError(f"not a socket: {path}")
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:  # it exists, but is too busy to accept
            raise SocketInUseError(f"another process holds {path}") from error
    raise SocketInUseError(f"another process answers on {path}")
