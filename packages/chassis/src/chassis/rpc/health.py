"""Standard gRPC health, per service and for the whole process."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc
from typing_extensions import override

from chassis.base.errors import NotFoundError

WATCH_S = 0.5
# Trailing metadata of a check that answers NOT_SERVING, for callers on this machine alone: why,
# and a number that rises while the process works on it.
REASONS_KEY = "aquifer-not-ready"
PROGRESS_KEY = "aquifer-progress"
_REASONS_MAX_CHARS = 500
_LOCAL_PEERS = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")


class Health(health_pb2_grpc.HealthServicer):
    """Standard health: NOT_SERVING, for "" and for each service, until it is told otherwise.

    The library's own forgets one watcher when another leaves, and its watchers hold up a drain.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._states: dict[str, int] = dict.fromkeys(
            ("", *services), health_pb2.HealthCheckResponse.NOT_SERVING
        )
        self._draining = False
        self._reasons: Sequence[str] = ()
        self._progress = 0

    def explain(self, reasons: Sequence[str], progress: int) -> None:
        """What the process lacks, and how far it is with what it does about it."""
        self._reasons, self._progress = reasons, progress

    async def set(self, service: str, state: int) -> None:
        """Change the answer for a service; ignored once the process drains."""
        if not self._draining:
            self._states[service] = state

    async def set_all(self, state: int) -> None:
        """Change the answer for the process and every service of it."""
        for service in self._states:
            await self.set(service, state)

    async def enter_graceful_shutdown(self) -> None:
        """Answer NOT_SERVING from now on, and end the watchers after they heard it."""
        self._states = dict.fromkeys(self._states, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._draining = True

    @override
    async def Check(self, request: Any, context: Any) -> Any:
        if request.service not in self._states:
            raise NotFoundError("SERVICE_UNKNOWN", "no such service here")
        if self._reasons and context.peer().startswith(_LOCAL_PEERS):
            reasons = "; ".join(self._reasons)[:_REASONS_MAX_CHARS]
            context.set_trailing_metadata(
                (
                    (REASONS_KEY, reasons.encode("ascii", "replace").decode()),
                    (PROGRESS_KEY, str(self._progress)),
                )
            )
        return health_pb2.HealthCheckResponse(status=self._states[request.service])

    @override
    async def Watch(self, request: Any, context: Any) -> Any:
        last, draining = None, False
        while not draining:
            draining = self._draining
            unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            state = self._states.get(request.service, unknown)
            if state != last:
                yield health_pb2.HealthCheckResponse(status=state)
            last = state
            await asyncio.sleep(WATCH_S)
