"""The service's use cases on a real database and a real vector process, driven event by event."""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from google.protobuf.message import Message
from opentelemetry.context import Context
from psycopg.rows import DictRow
from typing_extensions import override

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import (
    Chunk,
    ChunksPrepared,
    DescriptionChanged,
    DocumentDeletionRequested,
    DocumentFailed,
)
from aquifer.ingest.v1.document_pb2 import Description
from chassis.base.errors import ServiceError
from chassis.base.postgres import Database, Transaction
from chassis.events.bound import BoundClient
from chassis.events.bus import Bus
from chassis.events.delivery import Batch, Delivery
from chassis.events.envelope import Envelope, Outgoing
from chassis.events.outbox import Outbox, Stored
from chassis.events.router import Subscription
from chassis.events.topology import durable_of, event_class
from chassis.events.work import GuardedTransactions
from query.answer import Inquiry
from query.domain import Question
from query.labels import NO_LABELS, Labels
from query.profile import Profile
from query.retrieval.vector_store import Point, TenantScope
from query.store.answers import PostgresAnswers
from query.store.conversations import PostgresConversations
from query.store.exchanges import PostgresExchanges
from query.store.facets import PostgresFacets
from query.store.history import PostgresHistory
from query.store.ledger import PostgresLedger
from query.store.prompts import PostgresPrompts
from query.store.records import PostgresProfiles, PostgresStoreRecords
from query.store.work import make_begin
from query.subscribers import UseCases, events
from query.tenant_removal import make_removal
from query.usecases.ask import Ask
from query.usecases.compare_points import RestorePoints
from query.usecases.complete_question import CompleteQuestion, Rewriter
from query.usecases.documents import (
    DescribeVersions,
    GiveUpVersion,
    HideDocument,
    PurgeDocument,
    RemovePoints,
)
from query.usecases.find_passages import FindPassages
from query.usecases.guardrails import Guardrails
from query.usecases.index_chunks import IndexChunks, RejectChunks
from query.usecases.indexes import Indexes, Opening
from query.usecases.keep_history import KeepHistory
from query.usecases.label_documents import LabelDocuments
from query.usecases.rebuild_vectors import RebuildVectors
from query.usecases.reconcile_points import ReconcilePoints
from query.usecases.send_message import SendMessage
from query.usecases.token_budget import Counted, TokenCounter
from query.usecases.update_points import UpdatePoints
from query.vectors.engine_client import EngineVectors
from services.query.tests.shared_words import SharedWords

TENANT = "acme"
DOCUMENT = "collections/manuals/documents/pump"
NOW = datetime(2026, 7, 29, 23, 59, tzinfo=UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"


class NoRewriter(Rewriter):
    """Is never asked, because no model is set."""

    @override
    async def rewrite(self, model: str, earlier: Sequence[str], question: str) -> str:
        raise AssertionError


class InterruptedVectors(EngineVectors):
    """The real store; a test may do something between an upsert and what follows it."""

    def __init__(self, store: EngineVectors, profile: Profile) -> None:
        self._stub = store._stub
        self._profile = profile.name
        self._dimensions = profile.dimensions
        self.before_upsert: Callable[[], Any] | None = None
        self.after_upsert: Callable[[], Any] | None = None

    @override
    async def upsert(self, scope: TenantScope, points: Sequence[Point]) -> None:
        if self.before_upsert:
            await self.before_upsert()
        await super().upsert(scope, points)
        if self.after_upsert:
            await self.after_upsert()


class InterruptedOpening(Opening):
    """Stores of the real process for any profile, and embedders that hash words."""

    def __init__(self, vectors: EngineVectors, embedder: Any) -> None:
        self._vectors = vectors
        self._embedder = embedder

    @override
    def open_vectors(self, profile: Profile) -> InterruptedVectors:
        return InterruptedVectors(self._vectors, profile)

    @override
    def open_embedder(self, profile: Profile) -> Any:
        return self._embedder.under(profile)


class CountedDeadLetters:
    """Stands for the broker's stream, which these tests do without."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []

    async def discard_document(self, tenant: str, document: str) -> int:
        before = len(self.kept)
        self.kept = [one for one in self.kept if one != (tenant, document)]
        return before - len(self.kept)

    async def discard_tenant(self, tenant: str) -> int:
        before = len(self.kept)
        self.kept = [one for one in self.kept if one[0] != tenant]
        return before - len(self.kept)


stored_here: ContextVar[list[int]] = ContextVar("stored_here")


class WatchedOutbox(Outbox):
    """The real outbox; knows which rows each delivery of a test has stored."""

    @override
    async def store(
        self, tx: Transaction, tenant: str, events: Sequence[Outgoing]
    ) -> Sequence[Stored]:
        stored = await super().store(tx, tenant, events)
        stored_here.get([]).extend(one.outbox_id for one in stored)
        return stored


class LetterCounter(TokenCounter):
    """A token is a letter; a test says how many the model reads, at first that it does not tell."""

    def __init__(self) -> None:
        self.context_tokens = 0
        self.counted: list[Sequence[str]] = []

    @override
    async def count(self, model: str, texts: Sequence[str]) -> Counted | None:
        self.counted.append(texts)
        return Counted(list(map(len, texts)), self.context_tokens) if self.context_tokens else None


@dataclass
class World:
    """The use cases of query on real stores, without RPC and events, and methods to call them."""

    database: Database
    everything: psycopg.Connection[DictRow]
    opening: InterruptedOpening
    generator: Any
    profile: Profile
    dead_letters: CountedDeadLetters = field(default_factory=CountedDeadLetters)
    event_ids: Any = field(default_factory=lambda: (f"event-{n}" for n in itertools.count()))

    def __post_init__(self) -> None:
        self.ledger = PostgresLedger(self.database)
        self.records = PostgresStoreRecords(self.database)
        connecting: Any = asyncio.get_running_loop().create_future()
        # Never connected and never relayed: what is published stays in the table.
        outbox = WatchedOutbox(self.database, Bus(BoundClient(), connecting), "query")
        transactions = GuardedTransactions(self.database, outbox)
        self.begin = make_begin(transactions)
        self.answers = PostgresAnswers(transactions)
        self.exchanges = PostgresExchanges(self.database)
        self.facets = PostgresFacets(self.database)
        self.profiles = PostgresProfiles(self.database, self.profile)
        self.indexes = self.new_indexes()
        self.live = self.indexes.open(self.profile)
        self.vectors: Any = self.live.vectors
        self.embedder: Any = self.live.embedder
        self.serving = self.live.serving
        self.find = FindPassages(self.indexes, self.ledger, SharedWords())
        self.prompts = PostgresPrompts(transactions)
        self.tokens = LetterCounter()
        self.ask = Ask(
            find=self.find,
            generator=self.generator,
            answers=self.answers,
            prompts=self.prompts,
            guardrails=Guardrails(),
            tokens=self.tokens,
            new_id=uuid.uuid4,
            clock=lambda: NOW,
        )
        self.conversations = PostgresConversations(transactions)
        self.send = SendMessage(
            self.conversations,
            self.answers,
            self.ask,
            CompleteQuestion(rewriter=NoRewriter()),
        )
        self.hide = HideDocument(self.begin)
        self.update = UpdatePoints(self.begin, self.ledger, self.indexes)
        self.label = LabelDocuments(self.begin, self.update)
        self.remove_points = RemovePoints(self.ledger, self.indexes)
        self.rebuild = self.rebuilder()
        self.history = PostgresHistory(self.database)
        self.removal = make_removal(transactions, self.indexes, self.dead_letters)
        self.app = UseCases(
            index=IndexChunks(self.begin, self.ledger, self.indexes),
            reject=RejectChunks(self.begin),
            describe=DescribeVersions(self.begin),
            give_up=GiveUpVersion(self.begin),
            purge=PurgeDocument(self.begin, self.indexes, self.dead_letters),
            tenant_removal=self.removal,
        )

    def new_indexes(self) -> Indexes:
        """Those of a process that has just started."""
        return Indexes(profiles=self.profiles, records=self.records, opening=self.opening)

    def rebuilder(self, **changes: Any) -> RebuildVectors:
        settings: dict[str, Any] = {
            "index": self.live,
            "indexes": self.indexes,
            "restore": RestorePoints(index=self.live, begin=self.begin, ledger=self.ledger),
            "ledger": self.ledger,
            "records": self.records,
            "repair_s": 0.0,
            "clock": time.monotonic,
        }
        return RebuildVectors(**settings | changes)

    async def keep_history(self, days: int) -> None:
        """One round of the loop that removes versions which are too old."""
        window = timedelta(days=days)
        await KeepHistory(begin=self.begin, history=self.history, window=window).run()

    async def begin_history(self) -> None:
        """Keeps every version that is superseded from now on, for a day."""
        await self.keep_history(1)
        # The service waits for transactions that began before; here are none.
        self.everything.execute("UPDATE history SET since = clock_timestamp()")

    def now(self) -> datetime:
        """The time of the database."""
        row = self.everything.execute("SELECT clock_timestamp() AS now").fetchone()
        assert row is not None
        now: datetime = row["now"]
        return now

    def reconciler(self, settled_s: float = 0.0) -> ReconcilePoints:
        return ReconcilePoints(
            begin=self.begin, ledger=self.ledger, indexes=self.indexes, settled_s=settled_s
        )

    def embedded(
        self,
        *texts: str,
        document: str = DOCUMENT,
        version: int = 1,
        batch: int = 0,
        batch_count: int = 1,
        chunk_count: int | None = None,
        first: int = 0,
        title: str = "Pump manual",
        metadata: dict[str, str] | None = None,
        tenant: str = TENANT,
        attempt: int = 0,
        revision: int = 0,
        labels: Labels = NO_LABELS,
        created_at: datetime | None = None,
    ) -> ChunksEmbedded:
        """The event of one batch; `first` is the ordinal of its first chunk."""
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{tenant}/{document}/{version}")
        chunks = [
            Chunk(
                chunk_id=str(uuid.uuid5(name, str(first + place))),
                ordinal=first + place,
                text=text,
                start=100 * place,
                end=100 * place + len(text),
                page=place + 1,
            )
            for place, text in enumerate(texts)
        ]
        return ChunksEmbedded(
            tenant=tenant,
            prepared=ChunksPrepared(
                tenant=tenant,
                document=document,
                version=version,
                batch=batch,
                batch_count=batch_count,
                chunk_count=len(texts) if chunk_count is None else chunk_count,
                attempt=attempt,
                description=Description(
                    title=title,
                    metadata=metadata or {},
                    revision=revision,
                    create_time=created_at,
                ),
                trace_id=TRACE,
                chunks=chunks,
                labels=labels.names,
                labels_order=labels.order,
            ),
            profile=self.profile.name,
            dimensions=self.profile.dimensions,
            vectors=self.embedder.rows(texts).astype("<f4").tobytes(),
        )

    async def deliver(self, *events: Any, ids: Sequence[str] = ()) -> list[Message]:
        """Handles events of one kind and tenant as one batch; returns what is newly published."""
        return [_published(row) for row in await self.stored_by(*events, ids=ids)]

    async def stored_by(self, *events: Any, ids: Sequence[str] = ()) -> list[DictRow]:
        """The same as rows of the outbox; `ids` are the events' own, new ones without."""
        batch = self._batch(events, ids)
        async with self._watched() as rows:
            await _subscription(events[0]).handler(batch, self.app)
        return rows

    async def make_dead_letter(self, event: Any, error: ServiceError) -> list[Message]:
        """Gives an event up as the chassis would; returns what is newly published."""
        on_dead = _subscription(event).on_dead
        assert on_dead is not None
        async with self._watched() as rows:
            await on_dead(self._batch([event], ()), error, self.app)
        return [_published(row) for row in rows]

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[list[DictRow]]:
        """Fills the list, at the end, with the rows that this task has committed meanwhile."""
        rows: list[DictRow] = []
        outer = stored_here.set([])
        try:
            yield rows
            rows += self.everything.execute(
                "SELECT * FROM outbox WHERE outbox_id = ANY(%s) ORDER BY outbox_id",
                [stored_here.get()],
            ).fetchall()
        finally:
            stored_here.reset(outer)

    def _batch(self, events: Sequence[Any], ids: Sequence[str]) -> Batch[Any]:
        names = ids or [next(self.event_ids) for _ in events]
        [tenant] = {event.tenant for event in events}
        return Batch(tenant, [self._delivery(*one) for one in zip(events, names, strict=True)])

    def _delivery(self, event: Any, event_id: str) -> Delivery[Any]:
        kind = event.DESCRIPTOR.full_name
        envelope = Envelope(
            event_id=event_id,
            event_type=kind,
            source="/aquifer/test",
            tenant=event.tenant,
            subject=f"{kind}.{event.tenant}",
        )
        return Delivery(
            event=event,
            envelope=envelope,
            consumer=durable_of(type(event), "query").name,
            attempt=1,
            stored_ns=time.time_ns(),
            context=Context(),
        )

    async def fail(
        self, version: int, document: str = DOCUMENT, *, tenant: str = TENANT
    ) -> list[Message]:
        event = DocumentFailed(tenant=tenant, document=document, version=version, reason="X")
        return await self.deliver(event)

    async def describe(
        self, *titles: str, version: int = 1, first: int = 1, tenant: str = TENANT
    ) -> list[Message]:
        """Titles under ascending revisions; the metadata says the same."""
        events = [
            DescriptionChanged(
                tenant=tenant,
                document=DOCUMENT,
                version=version,
                description=Description(title=title, metadata={"title": title}, revision=revision),
            )
            for revision, title in enumerate(titles, first)
        ]
        return await self.deliver(*events)

    async def purge(
        self,
        version: int,
        document: str = DOCUMENT,
        *,
        tenant: str = TENANT,
        attempt: int = 0,
        ids: Sequence[str] = (),
    ) -> list[Message]:
        event = DocumentDeletionRequested(
            tenant=tenant, document=document, version=version, attempt=attempt
        )
        return await self.deliver(event, ids=ids)

    async def search(
        self, text: str, *, tenant: str = TENANT, limit: int = 10, **options: Any
    ) -> list[str]:
        """Texts found, best first."""
        question = Question(tenant=tenant, text=text, limit=limit, **{"held": None} | options)
        return [hit.passage.text for hit in (await self.find.run(question)).hits]

    def inquiry(self, question: str, **changes: Any) -> Inquiry:
        settings: dict[str, Any] = {
            "tenant": TENANT,
            "held": None,
            "principal": "user:ada",
            "question": question,
        }
        return Inquiry(max_output_tokens=100, **settings | changes)

    async def points(self, tenant: str = TENANT) -> dict[str, int]:
        """Version of every point of a tenant, by id."""
        page = await self.vectors.scroll(TenantScope(tenant))
        assert page.next_id is None
        return {entry.point_id: entry.version for entry in page.entries}

    def rows(self, table: str) -> list[DictRow]:
        return self.everything.execute(f"SELECT * FROM {table}").fetchall()  # type: ignore[arg-type]


def _subscription(event: Message) -> Subscription:
    [found] = [one for one in events.subscriptions if one.event is type(event)]
    return found


def _published(row: DictRow) -> Message:
    kind = event_class(row["event"])
    assert kind is not None
    message: Message = kind.FromString(row["payload"])
    return message


@pytest.fixture
async def world(
    database: Database,
    everything: psycopg.Connection[DictRow],
    vectors: EngineVectors,
    embedder: Any,
    generator: Any,
) -> World:
    profile = Profile(name=vectors._profile, dimensions=vectors._dimensions)
    opening = InterruptedOpening(vectors, embedder)
    world = World(database, everything, opening, generator, profile)
    await world.rebuilder().run()
    await world.indexes.follow()
    return world
