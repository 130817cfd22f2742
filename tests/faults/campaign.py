"""The campaign: one stack, many runs; each run kills parts under load and checks every store."""

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psycopg
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from aquifer.ingest.v1.collection_pb2 import Collection, Step
from aquifer.ingest.v1.document_pb2 import DocumentState
from aquifer.ingest.v1.ingest_service_pb2 import CreateCollectionRequest, GetDocumentRequest
from aquifer.query.v1.query_service_pb2 import SearchRequest, SearchResponse
from aquifer_cli import endpoints as found
from aquifer_cli.client import Client, open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import CommandError
from chassis.base.errors import UnavailableError
from stack.part import Part
from stack.ports import LOOPBACK
from stack.up import Stack
from tests.faults import evidence as reading
from tests.faults.checker import KEPT_MAX, unsettled, violations
from tests.faults.conversation_campaign import ConversationCampaign
from tests.faults.conversation_checker import count_conversations
from tests.faults.evidence import Evidence
from tests.faults.injection import Injector, Plan
from tests.faults.journal import Journal
from tests.faults.load import COLLECTION, Load
from tests.faults.order import count_decided
from tests.faults.outsider import SECRET, make_key, open_outsider
from tests.faults.passing_tenant import PassingTenant, wait_until_gone
from tests.faults.profile_change import change_profile
from tests.faults.replicas import running_replicas
from tests.faults.report import Report
from tests.faults.upkeep import (
    discard_unreadable,
    draw_live,
    find_differences,
    lose_passages,
    lose_points,
    publish_unreadable,
    repair_losses,
)
from tests.faults.web import Pages, running_web_server

# Traces may be lost.
NEVER_KILLED = {"traces"}
SETTLE_S = 120.0
WARM_UP = "warm-up"
# A lost vector store is rebuilt by embedding every passage again: some 6 ms on two free cores.
REBUILD_S = 0.03
# So often the live embedding profile changes.
PROFILE_EVERY = 5
UNFINISHED = "no profile in time"
# Work that waits for a lost wake-up continues with the next event: only a document alone shows it.
# One of them has a label, so that each run leaves a document that one key must never see.
ALONE = ("alone", "alone", SECRET)
ALONE_S = 20.0
# So often data is lost that operators have to repair.
UPKEEP_EVERY = 3
# So often a tenant is created, filled and deleted.
TENANT_EVERY = 4
# Shorter times than the defaults, so that a run need not wait for them.
SETTINGS = {
    "AQUIFER_RECONCILE_S": "1",
    "AQUIFER_STEP_DUE_S": "3",
    "AQUIFER_HISTORY_DAYS": "1",
    "AQUIFER_STEP_DUE_MAX_S": "10",
    "AQUIFER_REFERENCE_PRIVATE_HOSTS": LOOPBACK,
    # What some runs flip to and back.
    "AQUIFER_MORE_EMBEDDERS": "null",
}


@contextmanager
def running_campaign(seed: int) -> Iterator["Campaign"]:
    """A campaign on a fresh stack of two replicas whose reconciler is in a hurry."""
    before = dict(os.environ)
    os.environ.update(SETTINGS)
    folder = Path(tempfile.mkdtemp(prefix="aquifer-faults-"))
    try:
        with running_web_server(seed) as pages, Stack(folder / "data") as stack:
            os.environ["AQUIFER_REFERENCE_ORIGINS"] = pages.origin
            stack.start()
            with running_replicas(stack) as second:
                yield Campaign(stack, (found.find(stack.data.path), second), seed, pages)
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


class Campaign:
    """Runs against one stack; the journal grows over all of them, the checker looks at all.

    Args:
        stack: with every replica among its parts.
        endpoints: of each replica.
        seed: decides every run.
        pages: of a web server that upload events may refer to.
    """

    def __init__(
        self, stack: Stack, endpoints: Sequence[Endpoints], seed: int, pages: Pages
    ) -> None:
        self.stack = stack
        self.endpoints = endpoints
        self.seed = seed
        self.pages = pages
        self.journal = Journal(stack.data.path.parent / "journal.jsonl")
        self.injector = Injector(stack, self.journal)
        path = stack.data.path.parent / "conversations.jsonl"
        self.conversations = ConversationCampaign(endpoints, seed, path)
        self._ordered: list[str] = []
        self._outsider_key = ""

    async def run(self, number: int) -> Report:
        """One run: load, faults, healing, checks."""
        dice = random.Random(f"{self.seed}-{number}")
        parts = sorted(self.stack.parts.keys() - NEVER_KILLED)
        plan = Plan.draw(dice, number, parts)
        report = Report(run=number, lost_store=plan.lost_store)
        stop = asyncio.Event()
        async with self._kept_running(), self._clients() as clients:
            await self._settle(clients)
            await self._set_up(clients[0])
            load = Load(clients, self.journal, dice, number, self.pages, self._ordered)
            tenant = self._passing_tenant(clients, number)
            async with (
                open_outsider(clients[number % len(clients)], self._outsider_key) as outsider,
                self.conversations.open(number) as conversing,
                asyncio.TaskGroup() as group,
            ):
                group.create_task(load.until(stop))
                group.create_task(conversing.until(stop))
                group.create_task(outsider.search_until(stop))
                changing = group.create_task(self._change_profile(clients, number))
                if tenant:
                    group.create_task(tenant.live(stop))
                report.faults = await self.injector.inflict(plan, random.Random(dice.random()))
                await asyncio.sleep(dice.uniform(0.3, 1.0))
                stop.set()
            report.flipped_to = changing.result()
            report.outsider_answers = outsider.answers
            report.settle_s = await self._settle(clients)
            if report.lost_store == "vectors":
                # The loss may be noticed, and be made good, only after everything else is quiet.
                await asyncio.sleep(2.0)
                report.settle_s += 2.0 + await self._settle(clients, self._rebuild_s())
            stalled = [await self._stalled(load, clients[0], kind) for kind in ALONE]
            await load.delete_collection_alone()
            await self._settle(clients)
            report.violations = [*outsider.violations, *filter(None, stalled)]
            if report.flipped_to == UNFINISHED:
                report.violations.append("stuck: the change of the embedding profile")
            if tenant:
                report.deleted_tenant = tenant.name
                report.violations += await tenant.finish(SETTLE_S)
                report.violations += await wait_until_gone(self.stack, tenant.name)
            if number % UPKEEP_EVERY == UPKEEP_EVERY - 1:
                report.violations += await self._keep_up(clients, dice)
            report.violations += await find_differences(dice.choice(clients))
            evidence = await self.evidence()
            report.violations += violations(self.journal, evidence)
            report.decided = count_decided(self.journal, evidence)
            for client in clients:
                report.violations += await self.found_though_deleted(client, evidence)
            report.violations += await self.conversations.find_violations(number, self.dsn)
        report.accepted = len(self.journal.accepted())
        report.conversations, report.messages, report.repeats = count_conversations(
            self.conversations.journal
        )
        return report

    async def _keep_up(self, clients: Sequence[Client], dice: random.Random) -> list[str]:
        """Loses data of stores and publishes unreadable events; operators make that good."""
        client, tenant = dice.choice(clients), self.endpoints[0].tenant
        unreadable = await publish_unreadable(self.stack.nats, tenant)
        with psycopg.connect(self.dsn, connect_timeout=5) as connection:
            lost = draw_live(connection, dice)
            lose_passages(connection, lost[::2])
            live, *_ = reading.read_profiles(connection)
        await lose_points(self.stack.vectors.socket_path, live, lost[1::2])
        found = await repair_losses(client, len(lost))
        await self._settle(clients)
        return found + await discard_unreadable(client, unreadable)

    def _passing_tenant(self, clients: Sequence[Client], number: int) -> PassingTenant | None:
        if number % TENANT_EVERY != TENANT_EVERY - 1:
            return None
        dice = random.Random(f"{self.seed}-{number}-tenant")
        return PassingTenant(dice.choice(clients), f"passing-{number}", dice)

    async def _set_up(self, client: Client) -> None:
        """Versions of the campaign's documents are kept, so that one can roll back; once."""
        if self._outsider_key:
            return
        given = Collection(
            name=f"collections/{COLLECTION}",
            version_retention=KEPT_MAX,
            steps=[Step.STEP_NEAR_DUPLICATES],
        )
        try:
            await client.call(
                client.ingest.CreateCollection, CreateCollectionRequest(collection=given)
            )
        except CommandError as error:
            if error.reason != "COLLECTION_EXISTS":
                raise
        await self.conversations.set_up(client)
        self._outsider_key = await make_key(client)

    async def _change_profile(self, clients: Sequence[Client], number: int) -> str:
        """In some runs: builds a profile beside the live one and flips to it.

        The one that was live before is dropped at the next time.
        """
        if number % PROFILE_EVERY != PROFILE_EVERY - 1:
            return ""
        try:
            async with asyncio.timeout(self._rebuild_s()):
                return await change_profile(clients[number % len(clients)])
        except TimeoutError:
            return UNFINISHED

    async def _stalled(self, load: Load, client: Client, kind: str) -> str:
        """Uploads a document alone, then updates it; says so if it is not searchable in time."""
        # The load is over, but what was killed last may still be starting.
        until = time.monotonic() + SETTLE_S
        while not (document := await load.upload_alone(kind)):
            if time.monotonic() > until:
                return "refuses every upload though nothing is down"
        request = GetDocumentRequest(name=document)
        deadline = time.monotonic() + ALONE_S
        while time.monotonic() < deadline:
            with suppress(CommandError):  # the replica that is asked may still be starting
                answer = await client.call(client.ingest.GetDocument, request)
                if answer.state == DocumentState.DOCUMENT_STATE_INDEXED:
                    await load.update_alone(document)
                    return ""
            await asyncio.sleep(0.05)
        waits = "; ".join(unsettled(await self._pending())) or "nothing waits anywhere"
        return f"stalled though nothing else went on: {document}: {waits}"

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[Sequence[Client]]:
        async with AsyncExitStack() as held:
            yield [await held.enter_async_context(open_client(each)) for each in self.endpoints]

    @asynccontextmanager
    async def _kept_running(self) -> AsyncIterator[None]:
        """Starts again what has ended and is not to stay down, as the supervisor does."""
        stop = asyncio.Event()

        async def keep(part: Part) -> None:
            while not stop.is_set():
                if not part.running and part.name not in self.injector.down:
                    try:
                        await asyncio.to_thread(part.start)
                    except UnavailableError:
                        # Killed or stopped while it came up, so it may lack what is done after
                        # that: the next round starts it once more.
                        await asyncio.to_thread(part.kill)
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

    async def _settle(self, clients: Sequence[Client], limit_s: float = SETTLE_S) -> float:
        """Waits until nothing is on its way any more; returns how long that took."""
        started = time.monotonic()
        quiet = 0
        while quiet < 2 and time.monotonic() - started < limit_s:
            quiet = quiet + 1 if await self._is_quiet(clients) else 0
            await asyncio.sleep(0.15)
        return time.monotonic() - started

    async def _is_quiet(self, clients: Sequence[Client]) -> bool:
        if not all(part.running for part in self.stack.parts.values()):
            return False
        try:
            if next(unsettled(await self._pending()), None):
                return False
            for client in clients:
                await client.call(client.query.Search, SearchRequest(question=WARM_UP), timeout_s=5)
        except (CommandError, psycopg.Error, NatsError, JetStreamError, OSError):
            return False  # what can not be read yet has not healed yet
        return True

    async def evidence(self) -> Evidence:
        """Reads the stores as they are now."""
        evidence = Evidence()
        with psycopg.connect(self.dsn, connect_timeout=5) as connection:
            reading.read_tables(connection, evidence)
        async with reading.jetstream(self.stack.nats) as js:
            await reading.read_bus(js, evidence)
        stores = [
            await reading.read_points(
                self.stack.vectors.socket_path, profile, [self.endpoints[0].tenant]
            )
            for profile in evidence.profiles
        ]
        evidence.points, *beside = stores
        evidence.points_beside = beside[0] if beside else None
        evidence.live_points = await reading.read_points(
            self.stack.vectors.socket_path,
            evidence.profiles[0],
            [self.endpoints[0].tenant],
            live_only=True,
        )
        evidence.objects = reading.read_objects(self.stack.data.path / "objects")
        return evidence

    async def _pending(self) -> Evidence:
        """Only what is still on its way."""
        evidence = Evidence()
        with psycopg.connect(self.dsn, connect_timeout=5) as connection:
            reading.read_pending(connection, evidence)
        async with reading.jetstream(self.stack.nats) as js:
            await reading.read_durables(js, evidence)
        return evidence

    @property
    def dsn(self) -> str:
        """The database as its superuser sees it."""
        return self.stack.postgres.superuser_dsn.rsplit("/", 1)[0] + "/aquifer"

    async def found_though_deleted(self, client: Client, evidence: Evidence) -> list[str]:
        """What a search finds of documents whose delete was acknowledged."""
        answer = await self._search(client)
        sent_after = {row["document"] for row in evidence.versions if row["state"] == "INDEXED"}
        return [
            f"found though deleted: {hit.passage.document}"
            for hit in answer.hits
            if hit.passage.document in self.journal.deleted()
            and hit.passage.document not in sent_after
        ]

    async def _search(self, client: Client) -> SearchResponse:
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
