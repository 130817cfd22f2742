"""A real PostgreSQL, real files and the real parser, driven event by event."""

import asyncio
import base64
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest
from google.protobuf.message import Message
from opentelemetry.context import Context
from psycopg.rows import DictRow, dict_row
from typing_extensions import override

from aquifer.auth.v1.auth_events_pb2 import TenantCreated
from aquifer.ingest.v1.document_events_pb2 import VersionAccepted
from aquifer.ingest.v1.upload_events_pb2 import (
    DocumentDescribed,
    DocumentRemoved,
    DocumentUploaded,
)
from aquifer.query.v1.passage_events_pb2 import ChunksRejected, PassagesPurged, VersionSearchable
from chassis.base.errors import ServiceError, UnavailableError
from chassis.base.postgres import Database, open_database
from chassis.events.bound import BoundClient
from chassis.events.bus import Bus
from chassis.events.delivery import Batch, Delivery
from chassis.events.envelope import Envelope, Outgoing
from chassis.events.outbox import Outbox
from chassis.events.topology import durable_of, event_class, own_facts
from chassis.events.work import GuardedTransactions, Work
from chassis.process.tenant_removal import TenantRemoval
from ingest.chunking import ChunkSettings
from ingest.cutting import CutSmallText, ParseAndCut
from ingest.domain import Draft, Origin, Version, View
from ingest.labels import Labels
from ingest.objects.local import LocalObjects
from ingest.parsing.jail.jailed import ParserLimits
from ingest.parsing.parser import Parser
from ingest.passwords import AesPasswords
from ingest.references.reader import open_references
from ingest.settings import Settings
from ingest.store.inventory import PostgresInventory
from ingest.store.sweeper import PostgresSweeper
from ingest.store.work import make_begin
from ingest.subscribers import events
from ingest.tenant_removal import make_removal
from ingest.usecases.ports import SHOWN_MAX, Changed, CutText, Objects, References, Shown
from ingest.usecases.work import Begin
from ingest.wiring import Adapters, Wired, wire
from services.ingest.tests.s3_server import serve_s3
from testkit.servers import TestDatabase

TENANT = "acme"
NAME = "collections/reports/documents/q3"
SOURCE = "/upstream"
FACTS = {event.full_name for event in own_facts("ingest")}
TRACE = "0af7651916cd43dd8448eb211c80319c"
HANDLERS = {one.event: one.handler for one in events.subscriptions}
ON_DEAD = {one.event: one.on_dead for one in events.subscriptions if one.on_dead}


@pytest.fixture(scope="session")
def migrated(postgres: TestDatabase) -> TestDatabase:
    postgres.migrate("ingest")
    return postgres


TABLES = (
    *(
        "tenants",
        "collections",
        "collection_deletions",
        "documents",
        "versions",
        "uploads",
        "fetches",
        "upload_sessions",
        "upload_parts",
        "contents",
        "chunks",
        "signatures",
        "signature_bands",
    ),
    *("inbox", "outbox", "deleted_tenants"),
)


@pytest.fixture(scope="module")
def all_rows(migrated: TestDatabase) -> Iterator[psycopg.Connection[DictRow]]:
    """A connection no policy binds; for one file, because others restart the server."""
    with psycopg.connect(
        migrated.superuser_dsn,
        autocommit=True,
        row_factory=dict_row,
        options="-c search_path=ingest",
    ) as connection:
        yield connection


@pytest.fixture
def everything(all_rows: psycopg.Connection[DictRow]) -> psycopg.Connection[DictRow]:
    """The same, with every table empty. Not truncated: that costs ten times as much."""
    all_rows.execute("; ".join(f"DELETE FROM {table}" for table in TABLES))
    return all_rows


@pytest.fixture
async def database(
    migrated: TestDatabase, everything: psycopg.Connection[DictRow]
) -> AsyncIterator[Database]:
    async with open_database(migrated.dsn("ingest"), "ingest", 8) as database:
        yield database


@dataclass
class Siblings:
    """What ingest asks of others: hides into a list, discards what it holds, counts events.

    `handled` says of each kind of event up to where its consumer has come.
    """

    hidden: list[tuple[str, int]] = field(default_factory=list)
    labelled: dict[str, Labels] = field(default_factory=dict)
    query_is_away: bool = False
    bus_is_away: bool = False
    letters: int = 0
    last: dict[str, int] = field(default_factory=dict)
    handled: dict[str, int] = field(default_factory=dict)
    changed: Changed | None = None
    shown: dict[str, Shown] = field(default_factory=dict)
    published: list[Outgoing] = field(default_factory=list)

    async def find(self, tenant: str, documents: Sequence[str]) -> Mapping[str, Shown]:
        return {name: self.shown[name] for name in documents if name in self.shown}

    async def list_page(self, tenant: str, collection: str, after: str) -> Sequence[Shown]:
        within = f"collections/{collection}/" if collection else ""
        names = [name for name in sorted(self.shown) if name > after and name.startswith(within)]
        return [self.shown[name] for name in names[:SHOWN_MAX]] if tenant == TENANT else []

    async def open(self, changed: Changed) -> bool:
        self.changed = None if self.bus_is_away else changed
        return not self.bus_is_away

    async def close(self) -> None:
        self.changed = None

    def receive(self, sent: Sequence[Outgoing]) -> None:
        """As if the bus brought these events back."""
        for event in sent:
            if self.changed and event.headers["ce-type"] in FACTS:
                tenant = event.subject.rpartition(".")[2]
                self.changed(tenant, unquote(event.headers["ce-subject"]))

    async def hide(self, tenant: str, document: str, version: int) -> None:
        if self.query_is_away:
            raise UnavailableError("QUERY_UNAVAILABLE", "away")
        self.hidden.append((document, version))

    async def hide_all(self, tenant: str, versions: Sequence[tuple[str, int]]) -> None:
        for document, version in versions:
            await self.hide(tenant, document, version)

    async def label_all(self, tenant: str, labelled: Sequence[tuple[str, Labels]]) -> None:
        if self.query_is_away:
            raise UnavailableError("QUERY_UNAVAILABLE", "away")
        for document, labels in labelled:
            known = self.labelled.get(document)
            if known is None or known.order < labels.order:
                self.labelled[document] = labels

    async def discard_document(self, tenant: str, document: str) -> int:
        if self.bus_is_away:
            raise UnavailableError("BUS_UNAVAILABLE", "away")
        letters, self.letters = self.letters, 0
        return letters

    async def discard_tenant(self, tenant: str) -> int:
        return await self.discard_document(tenant, "")

    @asynccontextmanager
    async def publish(self, tenant: str, /) -> AsyncIterator[Work]:
        work = Work(tenant, ())
        yield work
        if self.bus_is_away:
            raise UnavailableError("BUS_UNAVAILABLE", "away")
        self.published += work.outgoing

    async def last_sequence(self, event: type[Message]) -> int:
        if self.bus_is_away:
            raise UnavailableError("BUS_UNAVAILABLE", "away")
        return self.last.get(event.DESCRIPTOR.name, 0)

    async def is_handled(self, event: type[Message], service: str, sequence: int) -> bool:
        return self.handled.get(event.DESCRIPTOR.name, 0) >= sequence


@dataclass
class Rig:
    """Ingest without its transports: what they would deliver is handed in, what leaves is kept."""

    wired: Wired
    settings: Settings
    database: Database
    rows: psycopg.Connection[DictRow]
    objects: Objects
    objects_dir: Path
    drops: Path
    siblings: Siblings
    sweeper: PostgresSweeper
    begin: Begin
    tenant_removal: TenantRemoval
    clock: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns()))

    async def upload(
        self,
        content: bytes = b"Water finds its way.",
        *,
        name: str = NAME,
        request_id: str = "",
        tenant: str = TENANT,
        **header: Any,
    ) -> View:
        draft = Draft(
            tenant=tenant,
            name=name,
            metadata=header.pop("metadata", {}),
            origin=Origin(request_id=request_id),
            trace_id=TRACE,
            **header,
        )
        return await self.wired.rpc.accept.run(draft, content)

    async def deliver(
        self,
        *events: Message,
        event_id: str = "",
        attempt: int = 1,
        source: str = SOURCE,
        stored_ns: int = 0,
    ) -> list[Outgoing]:
        """Handles events of one kind and tenant as their consumer would; what they emit."""
        batch = self.batch(
            *events, event_id=event_id, attempt=attempt, source=source, stored_ns=stored_ns
        )
        before = self.last_outgoing()
        await HANDLERS[type(events[0])](batch, self.wired.use_cases)
        sent = self.outgoing(before)
        self.siblings.receive(sent)
        return sent

    def batch(
        self,
        *events: Message,
        event_id: str = "",
        attempt: int = 1,
        source: str = SOURCE,
        stored_ns: int = 0,
    ) -> Batch[Any]:
        kind = type(events[0])
        tenant = events[0].tenant  # type: ignore[attr-defined]
        return Batch(
            tenant,
            [
                Delivery(
                    event=event,
                    envelope=Envelope(
                        event_id=event_id or str(uuid.uuid4()),
                        event_type=kind.DESCRIPTOR.full_name,
                        source=source,
                        tenant=tenant,
                        subject=f"{kind.DESCRIPTOR.full_name}.{tenant}",
                    ),
                    consumer=durable_of(kind, "ingest").name,
                    attempt=attempt,
                    stored_ns=stored_ns or next(self.clock),
                    context=Context(),
                )
                for event in events
            ],
        )

    async def give_up(self, event: Message, error: ServiceError, **about: Any) -> list[Outgoing]:
        """What an event that becomes a dead letter emits."""
        before = self.last_outgoing()
        await ON_DEAD[type(event)](self.batch(event, **about), error, self.wired.use_cases)
        return self.outgoing(before)

    def last_outgoing(self) -> int:
        row = self.rows.execute("SELECT coalesce(max(outbox_id), 0) AS last FROM outbox").fetchone()
        return int(row["last"]) if row else 0

    def outgoing(self, after: int = 0) -> list[Outgoing]:
        """Events stored with the transactions since then, oldest first."""
        stored = self.rows.execute(
            "SELECT subject, headers, payload, document FROM outbox WHERE outbox_id > %s"
            " ORDER BY outbox_id",
            [after],
        )
        return [Outgoing(**{**row, "payload": bytes(row["payload"])}) for row in stored]

    async def event(
        self,
        content: bytes = b"Water finds its way.",
        *,
        event_id: str = "e1",
        name: str = NAME,
        attempt: int = 1,
        source: str = SOURCE,
        stored_ns: int = 0,
        **fields: Any,
    ) -> list[Outgoing]:
        """An upload event of an upstream system."""
        body = {} if "reference" in fields else {"content": content}
        event = DocumentUploaded(tenant=TENANT, document=name, **body, **fields)
        return await self.deliver(
            event, event_id=event_id, attempt=attempt, source=source, stored_ns=stored_ns
        )

    async def removal(
        self, *, event_id: str = "r1", name: str = NAME, attempt: int = 6, **fields: Any
    ) -> list[Outgoing]:
        """A removal event of an upstream system, published now and delivered for the last time."""
        delivered = {"stored_ns": fields.pop("stored_ns", 0) or time.time_ns()}
        event = DocumentRemoved(tenant=TENANT, document=name, **fields)
        return await self.deliver(event, event_id=event_id, attempt=attempt, **delivered)

    async def description(
        self, *, event_id: str = "d1", name: str = NAME, attempt: int = 6, **fields: Any
    ) -> list[Outgoing]:
        """A description event of an upstream system, as for `removal`."""
        delivered = {"stored_ns": fields.pop("stored_ns", 0) or time.time_ns()}
        event = DocumentDescribed(tenant=TENANT, document=name, **fields)
        return await self.deliver(event, event_id=event_id, attempt=attempt, **delivered)

    async def prepare(self, version: int = 1, *, name: str = NAME, **fields: Any) -> list[Outgoing]:
        """The order to prepare the version arrives."""
        event = VersionAccepted(tenant=TENANT, document=name, version=version)
        return await self.deliver(event, **fields)

    async def searchable(
        self, version: int = 1, *, name: str = NAME, **fields: Any
    ) -> list[Outgoing]:
        """Query says that it shows the version."""
        event = VersionSearchable(tenant=TENANT, document=name, version=version)
        return await self.deliver(event, **fields)

    async def reject(self, version: int = 1, *, name: str = NAME) -> list[Outgoing]:
        """Query says that it cannot index the version."""
        event = ChunksRejected(tenant=TENANT, document=name, version=version, reason="TOO_BAD")
        return await self.deliver(event)

    async def report_purged(
        self, version: int = 1, *, name: str = NAME, **fields: Any
    ) -> list[Outgoing]:
        """Query says that it holds nothing of the version and older ones any more."""
        counts = {"passages": 2, "points": 2, "dead_letters": 0}
        event = PassagesPurged(tenant=TENANT, document=name, version=version, **counts)
        return await self.deliver(event, **fields)

    async def index_version(
        self, content: bytes = b"Water finds its way.", *, name: str = NAME
    ) -> int:
        """A version all the way; its number."""
        view = await self.upload(content, name=name)
        await self.prepare(view.version.number, name=name)
        await self.searchable(view.version.number, name=name)
        return view.version.number

    async def delete(self, name: str = NAME) -> View:
        return await self.wired.rpc.delete.run(TENANT, name)

    async def get(self, name: str = NAME, tenant: str = TENANT) -> View:
        return await self.wired.rpc.get.run(tenant, name)

    async def known(self, version: int = 1) -> Version:
        async with self.begin(TENANT) as work:
            found = await work.documents.find_version(NAME, version)
        assert found is not None
        return found

    def version(self, number: int = 1, *, name: str = NAME) -> DictRow:
        row = self.rows.execute(
            "SELECT * FROM versions WHERE tenant_id = %s AND document = %s AND version = %s",
            [TENANT, name, number],
        ).fetchone()
        assert row is not None
        return row

    def content(self, number: int = 1, *, name: str = NAME) -> bytes:
        row = self.rows.execute(
            "SELECT content FROM contents WHERE tenant_id = %s AND document = %s AND version = %s",
            [TENANT, name, number],
        ).fetchone()
        assert row is not None
        return bytes(row["content"])

    def state(self, number: int = 1) -> str:
        return str(self.version(number)["state"])

    def count(self, table: str) -> int:
        row = self.rows.execute(f"SELECT count(*) AS n FROM {table}").fetchone()
        return int(row["n"]) if row else 0

    def outbox(self) -> list[Message]:
        """Events on their way out, oldest first."""
        return messages(self.outgoing())

    def clear_outbox(self) -> None:
        """As the relay would."""
        self.rows.execute("DELETE FROM outbox")

    def age_versions(self, *, seconds: float = 3_600) -> None:
        """As if that much time had passed for every version."""
        self.rows.execute(
            "UPDATE versions SET step_due_at = step_due_at - make_interval(secs => %(s)s),"
            " description_due_at = description_due_at - make_interval(secs => %(s)s),"
            " updated_at = updated_at - make_interval(secs => %(s)s)",
            {"s": seconds},
        )
        self.wired.rpc.accept.fresh._kept.clear()


def read(subject: str, payload: bytes) -> Message:
    kind = event_class(subject.rsplit(".", 1)[0])
    assert kind is not None
    return kind.FromString(payload)


def messages(sent: Sequence[Outgoing]) -> list[Any]:
    return [read(event.subject, event.payload) for event in sent]


def ids(sent: Sequence[Outgoing]) -> list[str]:
    return [event.headers["ce-id"] for event in sent]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """The variables of an S3 server."""
    with serve_s3() as variables:
        yield variables


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An S3 server that the variables of this process lead to."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return s3_server


@asynccontextmanager
async def nowhere() -> AsyncIterator[Bus]:
    """A bus that is not connected: the outbox only stores."""
    unconnected = asyncio.create_task(asyncio.sleep(0))
    await unconnected
    yield Bus(BoundClient(), unconnected)


def settings_for(folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "nats_url": "nats://127.0.0.1:1",
            "nats_user": "ingest",
            "nats_password": "test-ingest",
            "auth_address": "127.0.0.1:1",
            "query_address": "127.0.0.1:1",
            "postgres_dsn": "",
            "objects_url": str(folder / "objects"),
            "drops_dir": folder / "drops",
            "upload_max_bytes": 1 << 20,
            "backlog_max": 1_000,
            "password_key": base64.b64encode(bytes(32)).decode(),
        }
    )


class CutNothing(CutText):
    """Every upload takes the long way, as a large one does."""

    @override
    def __call__(self, draft: Draft, content: bytes, /) -> None:
        return None


CHUNKS = ChunkSettings(target_chars=100, max_chars=120)


@asynccontextmanager
async def open_rig(
    database: Database,
    rows: psycopg.Connection[DictRow],
    folder: Path,
    cut_text: CutText | None = None,
    references: References | None = None,
    objects: Objects | None = None,
    **changes: object,
) -> AsyncIterator[Rig]:
    """A rig of which everything is empty, but for its tenant; `changes` are those of settings."""
    settings = settings_for(folder).model_copy(update=changes)
    objects_dir = folder / "objects"
    objects_dir.mkdir()
    assert settings.drops_dir is not None
    settings.drops_dir.mkdir()
    siblings, sweeper = Siblings(), PostgresSweeper(database)
    objects = objects or LocalObjects(objects_dir)
    # Not entered: plain text needs no child process.
    parser = Parser(ParserLimits())
    async with nowhere() as bus:
        transactions = GuardedTransactions(database, Outbox(database, bus, "ingest"))
        begin = make_begin(transactions)
        removal = make_removal(transactions, objects, siblings)
        adapters = Adapters(
            begin=begin,
            sweeper=sweeper,
            objects=objects,
            references=references or open_references(settings.drops_dir, "", ""),
            cut_text=cut_text or CutNothing(),
            parse=ParseAndCut(parser, CHUNKS),
            passwords=AesPasswords(settings.password_key.get_secret_value()),
            hide=siblings.hide,
            hide_all=siblings.hide_all,
            label_all=siblings.label_all,
            queue=siblings,
            inventory=PostgresInventory(database),
            search=siblings,
            changes=siblings,
            dead_letters=siblings,
            publish=siblings.publish,
            tenant_removal=removal,
        )
        rig = Rig(
            wired=wire(adapters, settings),
            settings=settings,
            database=database,
            rows=rows,
            objects=objects,
            objects_dir=objects_dir,
            drops=settings.drops_dir,
            siblings=siblings,
            sweeper=sweeper,
            begin=begin,
            tenant_removal=removal,
        )
        await rig.deliver(TenantCreated(tenant=TENANT))
        serving = asyncio.create_task(rig.wired.watchers.run())
        yield rig
        serving.cancel()
        await asyncio.wait([serving])


@pytest.fixture
async def rig(
    database: Database, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> AsyncIterator[Rig]:
    async with open_rig(database, everything, tmp_path) as rig:
        yield rig


@pytest.fixture
async def quick(
    database: Database, everything: psycopg.Connection[DictRow], tmp_path: Path
) -> AsyncIterator[Rig]:
    """A rig that cuts small plain text when it is accepted."""
    async with open_rig(database, everything, tmp_path, CutSmallText(CHUNKS)) as rig:
        yield rig
