"""The standard gRPC health service, per service and for the whole process."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc
from typing_extensions import override

from chassis.base.errors import NotFoundError

WATCH_S = 0.5
# Trailing metadata of a NOT_SERVING response, only for callers on this machine: the reasons, and a
# number that increases while the process works on them.
REASONS_KEY = "aquifer-not-ready"
PROGRESS_KEY = "aquifer-progress"
_REASONS_MAX_CHARS = 500
_LOCAL_PEERS = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")


class Health(health_pb2_grpc.HealthServicer):
    """Health of "" and of each service, NOT_SERVING until it is set.

    The library's class loses a watcher when another leaves, and its watchers delay a drain.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._states: dict[str, int] = dict.fromkeys(
            ("", *services), health_pb2.HealthCheckResponse.NOT_SERVING
        )
        self._draining = False
        self._reasons: Sequence[str] = ()
        self._progress = 0

    def explain(self, reasons: Sequence[str], progress: int) -> None:
        """Sets why the process is not ready, and the progress of its work on that."""
        self._reasons, self._progress = reasons, progress

    async def set(self, service: str, state: int) -> None:
        """Sets the health of a service; ignored while the process drains."""
        if not self._draining:
            self._states[service] = state

    async def set_all(self, state: int) -> None:
        """Sets the health of the process and of all its services."""
        for service in self._states:
            await self.set(service, state)

    async def enter_graceful_shutdown(self) -> None:
        """Answers NOT_SERVING from now on; watchers receive it, then their streams end."""
        self._states = dict.fromkeys(self._states, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._draining = True

    @override
    async def Check(self, request: Any, context: Any) -> Any:
        if request.service not in self._states:
            raise NotFoundError("SERVICE_UNKNOWN", "this process does not have the service")
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
