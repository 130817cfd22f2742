"""The process as its service sees it: gRPC server, events, background loops and probes."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc

from chassis.base.probes import Readiness
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.router import EventBroker, EventRouter
from chassis.events.settlement import Settlement
from chassis.process.authority import Authority
from chassis.process.ops import Stage

Loop = Callable[[], Coroutine[Any, Any, None]]
Probe = Callable[[], Awaitable[str]]


async def _no_stages() -> Sequence[Stage]:
    return ()


def _no_progress() -> int:
    return 0


@dataclass(slots=True, kw_only=True)
class Process:
    """A running process; the service adds its gRPC services, subscribers, loops and probes.

    `stack` closes resources after the server and the subscribers have stopped. `authority` provides
    public keys and revocations; only auth replaces it. `progress` returns a number that increases
    while the process works on what keeps it from being ready.
    """

    name: str
    bus: Bus
    server: grpc.aio.Server
    dead_letters: DeadLetters
    authority: Authority
    stack: AsyncExitStack
    stages: Callable[[], Awaitable[Sequence[Stage]]] = _no_stages
    events: EventBroker | None = None
    progress: Callable[[], int] = _no_progress
    loops: list[Loop] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    readiness: Readiness = field(default_factory=Readiness)

    def consume(self, router: EventRouter, **injected: object) -> None:
        """Runs the subscribers of `router`; handlers receive `injected` by name as `Context()`."""
        self.events = EventBroker(
            self.bus, self.name, router.subscriptions, self.dead_letters, injected
        )

    @property
    def settlements(self) -> Sequence[Settlement[Any]]:
        """One settlement per durable of this process."""
        return self.events.settlements if self.events else ()

    def add_loop(self, loop: Loop) -> None:
        """Runs a background loop while the process accepts traffic; the loop must not end."""
        self.loops.append(loop)

    def add_probe(self, probe: Probe) -> None:
        """Adds a readiness probe; it returns the problem, or an empty text."""
        self.probes.append(probe)


Build = Callable[[Process], Awaitable[None]]
