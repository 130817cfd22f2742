"""A process as its service sees it: the doors traffic enters by, and what is attached to them."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc

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
    """The doors traffic enters by; a service attaches its edges, loops and probes to them.

    `stack` holds what the doors need: it unwinds only after both doors are closed. `authority` is
    where tokens' keys and revocations come from; only auth, which is it, sets another. `progress`
    is a number that rises while the process works on what keeps it from being ready.
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
    not_ready: tuple[str, ...] = ("starting",)

    def consume(self, router: EventRouter, **injected: object) -> None:
        """Handles what `router` subscribes to; `injected` are the handlers' `Context()` by name."""
        self.events = EventBroker(
            self.bus, self.name, router.subscriptions, self.dead_letters, injected
        )

    @property
    def settlements(self) -> Sequence[Settlement[Any]]:
        """One for each durable of this process."""
        return self.events.settlements if self.events else ()

    def add_loop(self, loop: Loop) -> None:
        """Keeps a background loop running while the process takes traffic; its end is a bug."""
        self.loops.append(loop)

    def add_probe(self, probe: Probe) -> None:
        """Adds a condition of readiness: `probe` says what is wrong, or nothing."""
        self.probes.append(probe)


Build = Callable[[Process], Awaitable[None]]
