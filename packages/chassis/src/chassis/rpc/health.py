"""Standard gRPC health, per service and for the whole process."""

import asyncio
from collections.abc import Iterable
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc
from typing_extensions import override

from chassis.base.errors import NotFoundError

WATCH_S = 0.5


class Health(health_pb2_grpc.HealthServicer):
    """Standard health: NOT_SERVING, for "" and for each service, until it is told otherwise.

    The library's own forgets one watcher when another leaves, and its watchers hold up a drain.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._states: dict[str, int] = dict.fromkeys(
            ("", *services), health_pb2.HealthCheckResponse.NOT_SERVING
        )
        self._draining = False

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
