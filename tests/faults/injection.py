"""The faults of a run: parts are killed or stopped, a store is deleted, the broker is full."""

import asyncio
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chassis.base.errors import UnavailableError
from chassis.events import topology
from stack.up import Stack
from tests.faults.journal import Facts, Journal
from tests.faults.replicas import service_of
from tests.faults.space import disk_is_full, has_recovered, streams_are_full

STORES = ("nats", "vectors")
STORE_EVERY = 7
KILLS = (1, 3)
DOWN_S = (0.0, 1.2)
STOPS = (0, 2)
# A process that wakes up after the ack wait holds deliveries that were given to somebody else.
STOP_S = (0.3, 5.0)
LONG_STOP_S = (topology.ACK_WAIT_S + 1.0, topology.ACK_WAIT_S + 4.0)
LONG_STOPS = 0.2
FULL_EVERY = 7
FULL_S = (2.0, 6.0)
LOAD_S = (2.0, 3.5)
# How long a fault waits for the moment at which its victim has unfinished work.
MOMENT_S = 1.0
GROUP = 2


@dataclass(slots=True)
class Plan:
    """The faults of one run, decided beforehand from its seed."""

    kills: list[str]
    stops: list[tuple[str, float]]
    lost_store: str = ""
    full: tuple[str, float] | None = None

    @classmethod
    def draw(cls, dice: random.Random, run: int, parts: list[str]) -> "Plan":
        """Some kills and stops of any parts; at times a store is deleted or the broker full."""
        store = dice.choice(STORES) if run % STORE_EVERY == STORE_EVERY - 1 else ""
        kills = [store] if store else []
        kills += [dice.choice(parts) for _ in range(dice.randint(*KILLS) - len(kills))]
        stops = [
            (part, dice.uniform(*(LONG_STOP_S if dice.random() < LONG_STOPS else STOP_S)))
            for part in dice.sample(parts, dice.randint(*STOPS))
        ]
        full = None
        if run % FULL_EVERY == FULL_EVERY // 2:
            full = ("disk" if run // FULL_EVERY % 2 == 0 else "streams", dice.uniform(*FULL_S))
        return cls(kills=kills, stops=stops, lost_store=store, full=full)


@dataclass(slots=True)
class Injector:
    """Does to the parts of a stack what a plan says; `down` are those that must not be started."""

    stack: Stack
    journal: Journal
    down: set[str] = field(default_factory=set)

    async def inflict(self, plan: Plan, dice: random.Random) -> list[Facts]:
        """Kills one after the other, stops beside them; returns when every part may run again."""
        pause_s = dice.uniform(*LOAD_S) / max(1, len(plan.kills))
        async with asyncio.TaskGroup() as group:
            stops = [
                group.create_task(self._stop(part, stop_s, dice.uniform(0.0, LOAD_S[0])))
                for part, stop_s in plan.stops
            ]
            full = group.create_task(self._fill(*plan.full)) if plan.full else None
            noted = []
            for number, victim in enumerate(plan.kills):
                await asyncio.sleep(dice.uniform(0.5, 1.5) * pause_s)
                lost = number == 0 and bool(plan.lost_store)
                noted.append(await self._kill(victim, dice.uniform(*DOWN_S), lose_store=lost))
        beside = [*stops, full] if full else stops
        return noted + [fault.result() for fault in beside]

    async def _kill(self, name: str, down_s: float, *, lose_store: bool) -> Facts:
        pending = await self._moment(name)
        self.down.add(name)
        noted = self.journal.note_fault("kill", name, pending=pending, lost_store=lose_store)
        await asyncio.to_thread(self.stack.parts[name].kill)
        await asyncio.sleep(down_s)
        if lose_store:
            shutil.rmtree(self._store(name))
            self.journal.lose_store(name)
        self.down.discard(name)
        return noted

    async def _stop(self, name: str, stop_s: float, after_s: float) -> Facts:
        """A zombie: its connections stay open, its deliveries and locks are held, time goes on."""
        part = self.stack.parts[name]
        await asyncio.sleep(after_s)
        while not part.running:  # killed, and started again within a bounded time
            await asyncio.sleep(0.05)
        pending = await self._moment(name)
        noted = self.journal.note_fault("stop", name, pending=pending, seconds=round(stop_s, 2))
        part.freeze()
        try:
            await asyncio.sleep(stop_s)
        finally:
            part.thaw()
        return noted

    async def _fill(self, what: str, full_s: float) -> Facts:
        """The broker keeps nothing for some seconds; then it stores messages again.

        A stream that failed to write stays out of service until the broker is started again, also
        when there is space: somebody who watches its health has to do that.
        """
        nats = self.stack.nats
        pending = await self._moment(nats.name)
        noted = self.journal.note_fault(
            "full", nats.name, pending=pending, what=what, seconds=round(full_s, 2)
        )
        if what == "streams":
            async with streams_are_full(nats):
                await asyncio.sleep(full_s)
            return noted
        with disk_is_full(nats):
            await asyncio.sleep(full_s)
        noted["recovered"] = await asyncio.to_thread(has_recovered, nats)
        if not noted["recovered"]:
            await asyncio.to_thread(nats.stop)
        return noted

    async def _moment(self, name: str) -> Mapping[str, int] | None:
        """Waits until an operation is open and the part has a group of events in work."""
        deadline = asyncio.get_running_loop().time() + MOMENT_S
        while True:
            pending = await asyncio.to_thread(self._pending)
            grouped = has_group(name, pending) or not _durables(name)
            ready = grouped and self.journal.open_operations
            if ready or asyncio.get_running_loop().time() > deadline:
                return pending
            await asyncio.sleep(0.01)

    def _pending(self) -> Mapping[str, int] | None:
        """Deliveries of each durable that await acknowledgement, as the broker itself says."""
        try:
            state = self.stack.nats.monitoring("/jsz?consumers=true")
        except UnavailableError:
            return None
        return {
            consumer["name"]: consumer["num_ack_pending"]
            for account in state.get("account_details", ())
            for stream in account.get("stream_detail", ())
            for consumer in stream.get("consumer_detail") or ()
        }

    def _store(self, name: str) -> Path:
        return self.stack.nats.store if name == "nats" else self.stack.vectors.data


def has_group(part: str, pending: Mapping[str, int] | None) -> bool:
    """Whether a durable that the part works for had several deliveries awaiting acknowledgement."""
    return any((pending or {}).get(name, 0) >= GROUP for name in _durables(part))


def _durables(part: str) -> list[str]:
    """Broker and database work for every durable, the vector process for those of query."""
    service = {"vectors": "query"}.get(part, service_of(part))
    return [
        durable.name
        for durable in topology.durables()
        if service in (durable.service, "nats", "postgres")
    ]
