"""The service's use cases on a real database and a real vector process, driven event by event."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from google.protobuf.message import Message
from nats.aio.client import Client
from psycopg.rows import DictRow
from typing_extensions import override

from aquifer.inference.v1.embedding_events_pb2 import ChunksEmbedded
from aquifer.ingest.v1.document_events_pb2 import (
    Chunk,
    ChunksPrepared,
    DocumentDeletionRequested,
    DocumentFailed,
)
from chassis.base.errors import ServiceError
from chassis.base.postgres import Database
from chassis.events.bus import Bus
from chassis.events.delivery import Delivery
from chassis.events.envelope import Envelope
from chassis.events.inbox import Inbox
from chassis.events.outbox import Outbox
from chassis.events.topology import event_class
from query.domain import Inquiry, Profile, Question
from query.store.answers import PostgresAnswers
from query.store.ledger import PostgresLedger
from query.store.records import PostgresStoreRecords
from query.store.rows import PostgresRows
from query.subscribers import Reactions, subscribe
from query.usecases.ask import Ask
from query.usecases.documents import (
    GiveUpVersion,
    HideDocument,
    PurgeDocument,
    RemoveDoomedPoints,
)
from query.usecases.find_passages import FindPassages, Serving
from query.usecases.index_batch import IndexBatch, RejectBatch
from query.usecases.rebuild_vectors import RebuildVectors
from query.vectors.engine_client import EngineVectors
from query.vectors.port import Point, TenantScope

TENANT = "acme"
DOCUMENT = "collections/manuals/documents/pump"
TRACE = "0af7651916cd43dd8448eb211c80319c"


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


class CountedDeadLetters:
    """Stands for the broker's stream, which these tests do without."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []

    async def discard_document(self, tenant: str, document: str) -> int:
        before = len(self.kept)
        self.kept = [one for one in self.kept if one != (tenant, document)]
        return before - len(self.kept)


class Doors:
    """Collects the subscribers a `Process` would run."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}
        self.on_dead: dict[str, Any] = {}

    def consume(self, event: type[Message], handler: Any, *, on_dead: Any = None, **_: Any) -> None:
        self.handlers[event.DESCRIPTOR.name] = handler
        self.on_dead[event.DESCRIPTOR.name] = on_dead


@dataclass
class World:
    """One query process without its doors, and hands to drive it."""

    database: Database
    everything: psycopg.Connection[DictRow]
    vectors: InterruptedVectors
    embedder: Any
    generator: Any
    profile: Profile
    dead_letters: CountedDeadLetters = field(default_factory=CountedDeadLetters)
    serving: Serving = field(default_factory=Serving)
    event_ids: Any = field(default_factory=lambda: (f"event-{n}" for n in itertools.count()))

    def __post_init__(self) -> None:
        self.ledger = PostgresLedger(self.database)
        self.records = PostgresStoreRecords(self.database)
        connecting: Any = asyncio.get_running_loop().create_future()
        self.outbox = Outbox(self.database, Bus(Client(), connecting))
        self.answers = PostgresAnswers(self.database, self.outbox)
        self.find = FindPassages(
            self.embedder, self.vectors, self.ledger, self.serving, self.profile.name
        )
        self.ask = Ask(self.find, self.generator, self.answers, uuid.uuid4)
        self.hide = HideDocument(self.ledger)
        self.remove_doomed = RemoveDoomedPoints(self.ledger, self.vectors)
        self.rebuild = self.rebuilder()
        self.doors = Doors()
        subscribe(
            self.doors,  # type: ignore[arg-type]
            self.database,
            PostgresRows,
            Reactions(
                index=IndexBatch(self.profile, self.ledger, self.vectors),
                reject=RejectBatch(),
                give_up=GiveUpVersion(),
                purge=PurgeDocument(self.ledger, self.vectors, self.dead_letters),
            ),
        )

    def rebuilder(self, **changes: Any) -> RebuildVectors:
        settings: dict[str, Any] = {
            "profile": self.profile,
            "ledger": self.ledger,
            "records": self.records,
            "vectors": self.vectors,
            "embedder": self.embedder,
            "serving": self.serving,
            "mend_s": 0.0,
            "clock": time.monotonic,
        }
        return RebuildVectors(**settings | changes)

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
        tenant: str = TENANT,
        attempt: int = 0,
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
                title=title,
                trace_id=TRACE,
                chunks=chunks,
            ),
            profile=self.profile.name,
            dimensions=self.profile.dimensions,
            vectors=self.embedder.rows(texts).astype("<f4").tobytes(),
        )

    async def deliver(self, event: Any, *, event_id: str = "") -> list[Message]:
        """Handles an event as the chassis would; returns what it publishes."""
        delivery = await self.delivered(event, event_id=event_id)
        return [_published(outgoing) for outgoing in delivery.outgoing]

    async def delivered(self, event: Any, *, event_id: str = "") -> Delivery:
        """The same, with everything that is known of what it publishes."""
        delivery = self._delivery(event, event_id or next(self.event_ids))
        await self.doors.handlers[event.DESCRIPTOR.name](event, delivery)
        return delivery

    async def bury(self, event: Any, error: ServiceError) -> list[Message]:
        """Gives an event up as the chassis would; returns what it publishes."""
        delivery = self._delivery(event, next(self.event_ids))
        await self.doors.on_dead[event.DESCRIPTOR.name](event, delivery, error)
        return [_published(outgoing) for outgoing in delivery.outgoing]

    def _delivery(self, event: Any, event_id: str) -> Delivery:
        name = event.DESCRIPTOR.name
        envelope = Envelope(
            event_id=event_id,
            event_type=event.DESCRIPTOR.full_name,
            source="/aquifer/test",
            tenant=event.tenant,
            subject=f"{event.DESCRIPTOR.full_name}.{event.tenant}",
        )
        consumer = f"query-{name}"
        inbox = Inbox(self.database, consumer)
        return Delivery(envelope, consumer=consumer, inbox=inbox, attempt=1)

    async def fail(self, version: int, document: str = DOCUMENT) -> list[Message]:
        event = DocumentFailed(tenant=TENANT, document=document, version=version, reason="X")
        return await self.deliver(event)

    async def purge(
        self, version: int, document: str = DOCUMENT, *, attempt: int = 0, event_id: str = ""
    ) -> list[Message]:
        event = DocumentDeletionRequested(
            tenant=TENANT, document=document, version=version, attempt=attempt
        )
        return await self.deliver(event, event_id=event_id)

    async def search(
        self, text: str, *, tenant: str = TENANT, limit: int = 10, **options: Any
    ) -> list[str]:
        """Texts found, best first."""
        question = Question(tenant=tenant, text=text, limit=limit, **options)
        return [hit.passage.text for hit in await self.find(question)]

    def inquiry(self, question: str, **changes: Any) -> Inquiry:
        settings: dict[str, Any] = {"tenant": TENANT, "principal": "user:ada", "question": question}
        return Inquiry(max_output_tokens=100, **settings | changes)

    async def points(self, tenant: str = TENANT) -> dict[str, int]:
        """Version of every point of a tenant, by id."""
        page = await self.vectors.scroll(TenantScope(tenant))
        assert page.next_id is None
        return {entry.point_id: entry.version for entry in page.entries}

    def rows(self, table: str) -> list[DictRow]:
        return self.everything.execute(f"SELECT * FROM {table}").fetchall()  # type: ignore[arg-type]


def _published(outgoing: Any) -> Message:
    kind = event_class(outgoing.subject.rsplit(".", 1)[0])
    assert kind is not None
    message: Message = kind.FromString(outgoing.payload)
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
    store = InterruptedVectors(vectors, profile)
    world = World(database, everything, store, embedder, generator, profile)
    await world.rebuilder()()
    return world
