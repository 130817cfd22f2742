"""A process as its service sees it: the doors traffic enters by, and what is attached to them."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc

from chassis.base.postgres import Database
from chassis.events.bus import Bus
from chassis.events.consume import Consumer, Handler, OnDead
from chassis.events.dead_letters import DeadLetters
from chassis.events.envelope import E
from chassis.events.inbox import Inbox
from chassis.events.topology import durable_of
from chassis.process.authority import Authority
from chassis.process.ops import Stage

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
