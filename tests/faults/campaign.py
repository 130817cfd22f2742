"""The campaign: one stack, many runs; each run kills parts under load and checks every store."""

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from aquifer.query.v1.query_service_pb2 import SearchRequest, SearchResponse
from aquifer_cli import endpoints as found
from aquifer_cli.client import Client, open_client
from aquifer_cli.errors import CommandError
from chassis.base.errors import UnavailableError
from stack.part import Part
from stack.up import PROVISIONER, Stack
from tests.faults import evidence as reading
from tests.faults.checker import unsettled, violations
from tests.faults.evidence import Evidence
from tests.faults.journal import Journal
from tests.faults.load import Load

PARTS = ("auth", "ingest", "inference", "query", "nats", "postgres", "vectors")
STORES = ("nats", "vectors")
STORE_EVERY = 7
LOAD_S = (2.0, 3.5)
KILLS = (1, 3)
DOWN_S = (0.0, 1.2)
SETTLE_S = 120.0
# A lost vector store is made again by embedding every passage anew: some 6 ms on two free cores.
REBUILD_S = 0.03
# A campaign has no minute to wait before work is doubted.
HURRIED = {
    "AQUIFER_RECONCILE_S": "1",
    "AQUIFER_STEP_DUE_S": "3",
    "AQUIFER_STEP_DUE_MAX_S": "10",
}


@dataclass(slots=True, kw_only=True)
class Report:
    """What one run did and found."""

    run: int
    kills: list[str] = field(default_factory=list)
    lost_store: str = ""
    counted: bool = False
    accepted: int = 0
    settle_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    def line(self) -> str:
        """For people."""
        verdict = "ok" if not self.violations else f"{len(self.violations)} VIOLATIONS"
        verdict = verdict if self.counted else f"{verdict} (not counted: nothing in flight)"
        store = f", store of {self.lost_store} deleted" if self.lost_store else ""
        return (
            f"run {self.run:>3}: killed {', '.join(self.kills)}{store}; {self.accepted} accepted "
            f"so far; settled in {self.settle_s:.1f} s; {verdict}"
        )


@contextmanager
def running_stack() -> Iterator[Stack]:
    """A fresh stack whose reconciler is in a hurry."""
    before = dict(os.environ)
    os.environ.update(HURRIED)
    folder = Path(tempfile.mkdtemp(prefix="aquifer-faults-"))
    try:
        with Stack(folder / "data") as stack:
            stack.start()
            yield stack
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


class Campaign:
    """Runs against one stack; the journal grows over all of them, the checker looks at all."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack = stack
        self.seed = seed
        self.journal = Journal(stack.data.path.parent / "journal.jsonl")
        self._down: set[str] = set()

    async def run(self, number: int) -> Report:
        """One run: load, kills, healing, checks."""
        dice = random.Random(f"{self.seed}-{number}")
        report = Report(run=number)
        stop = asyncio.Event()
        async with self._kept_running(), open_client(found.find(self.stack.data.path)) as client:
            await self._settled(client)
            load = Load(client, found.find(self.stack.data.path), self.journal, dice, number)
            working = asyncio.ensure_future(load.until(stop))
            report.counted = await self._kill_some(dice, report)
            await asyncio.sleep(dice.uniform(0.3, 1.0))
            stop.set()
            await working
            report.settle_s = await self._settled(client)
            if report.lost_store == "vectors":
                # The loss may be noticed, and be made good, only after everything else is quiet.
                await asyncio.sleep(2.0)
                report.settle_s += 2.0 + await self._settled(client, self._rebuild_s())
            evidence = await self.evidence()
            report.violations = violations(self.journal, evidence)
            report.violations += await self.found_though_deleted(client)
        report.accepted = len(self.journal.accepted())
        return report

    async def _kill_some(self, dice: random.Random, report: Report) -> bool:
        """Kills parts at random moments; true when an operation was in flight at each kill."""
        store = dice.choice(STORES) if report.run % STORE_EVERY == STORE_EVERY - 1 else ""
        victims = [store] if store else []
        while len(victims) < dice.randint(*KILLS):
            victims.append(dice.choice(PARTS))
        pause_s = dice.uniform(*LOAD_S) / len(victims)
        in_flight = []
        for victim in victims:
            await asyncio.sleep(dice.uniform(0.5, 1.5) * pause_s)
            in_flight.append(await self._kill(victim, dice, lose_store=victim == store))
            report.kills.append(victim)
        report.lost_store = store
        return all(in_flight)

    async def _kill(self, name: str, dice: random.Random, *, lose_store: bool) -> bool:
        part = self.stack.parts[name]
        for _ in range(200):
            if self.journal.open_operations:
                break
            await asyncio.sleep(0.005)
        in_flight = bool(self.journal.open_operations)
        self._down.add(name)
        self.journal.killed(name, lost_store=lose_store)
        await asyncio.to_thread(part.kill)
        await asyncio.sleep(dice.uniform(*DOWN_S))
        if lose_store:
            shutil.rmtree(self._store(name))
        self._down.discard(name)
        return in_flight

    def _store(self, name: str) -> Path:
        return self.stack.nats.store if name == "nats" else self.stack.vectors.data

    @asynccontextmanager
    async def _kept_running(self) -> AsyncIterator[None]:
        """Starts again what has ended and is not to stay down, as the supervisor does."""
        stop = asyncio.Event()

        async def keep(part: Part) -> None:
            while not stop.is_set():
                if not part.running and part.name not in self._down:
                    # Killed again while it came up: the next round starts it once more.
                    with suppress(UnavailableError):
                        await asyncio.to_thread(part.start)
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            for part in self.stack.parts.values():
                group.create_task(keep(part))
            try:
                yield
            finally:
                stop.set()

    def _rebuild_s(self) -> float:
        return SETTLE_S + REBUILD_S * len(self.journal.accepted())

    async def _settled(self, client: Client, limit_s: float = SETTLE_S) -> float:
        """Waits until nothing is on its way any more; returns how long that took."""
        started = time.monotonic()
        quiet = 0
        while quiet < 2 and time.monotonic() - started < limit_s:
            quiet = quiet + 1 if await self._is_quiet(client) else 0
            await asyncio.sleep(0.15)
        return time.monotonic() - started

    async def _is_quiet(self, client: Client) -> bool:
        if not all(part.running for part in self.stack.parts.values()):
            return False
        try:
            evidence = await self.evidence(points=False)
            await client.call(
                client.query.Search, SearchRequest(question="is anybody there?"), timeout_s=5
            )
        except (CommandError, psycopg.Error, NatsError, JetStreamError, OSError):
            return False  # what can not be read yet has not healed yet
        return next(unsettled(evidence), None) is None

    async def evidence(self, *, points: bool = True) -> Evidence:
        """Reads the stores as they are now."""
        evidence = Evidence()
        dsn = self.stack.postgres.superuser_dsn.rsplit("/", 1)[0] + "/aquifer"
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            reading.read_tables(connection, evidence)
        user = next(user for user in self.stack.nats.users if user.name == PROVISIONER)
        async with reading.jetstream(self.stack.nats.url, user.name, user.password) as js:
            await reading.read_bus(js, evidence)
        if points:
            evidence.points = await reading.read_points(
                self.stack.vectors.socket_path, [found.find(self.stack.data.path).tenant]
            )
            evidence.objects = reading.read_objects(self.stack.data.path / "objects")
        return evidence

    async def found_though_deleted(self, client: Client) -> list[str]:
        """What a search finds of documents whose delete was acknowledged."""
        answer = await self._searched(client)
        sent_after = {
            row["document"]
            for row in (await self.evidence(points=False)).versions
            if row["state"] == "INDEXED"
        }
        return [
            f"found though deleted: {hit.passage.document}"
            for hit in answer.hits
            if hit.passage.document in self.journal.deleted()
            and hit.passage.document not in sent_after
        ]

    async def _searched(self, client: Client) -> SearchResponse:
        """The widest search; a lost index may be noticed, and be rebuilt, only now."""
        request = SearchRequest(question="Report of the water board", limit=100)
        deadline = time.monotonic() + self._rebuild_s()
        while True:
            try:
                found_now: SearchResponse = await client.call(client.query.Search, request)
            except CommandError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
            else:
                return found_now
