"""The whole service on a real broker and a real database; the test plays its siblings."""

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from nats.aio.msg import Msg
from psycopg.rows import DictRow
from typing_extensions import override

from aquifer.auth.v1.auth_events_pb2 import TenantCreated, TenantResumed, TenantSuspended
from aquifer.auth.v1.auth_service_pb2 import ListRevocationsResponse
from aquifer.bus.v1.event_pack_pb2 import EventPack, PackedEvent
from aquifer.ingest.v1.document_events_pb2 import (
    ChunksPrepared,
    DescriptionChanged,
    DocumentAccepted,
    DocumentDeleted,
    DocumentDeletionRequested,
    DocumentFailed,
    DocumentIndexed,
)
from aquifer.ingest.v1.document_pb2 import Document
from aquifer.ingest.v1.ingest_service_pb2 import (
    DeleteDocumentRequest,
    UpdateDocumentRequest,
    UploadDocumentRequest,
    UploadHeader,
)
from aquifer.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from aquifer.ingest.v1.upload_events_pb2 import ContentReference, DocumentUploaded
from aquifer.ops.v1.dead_letter_service_pb2 import ReplayDeadLetterRequest
from aquifer.query.v1 import query_service_pb2 as query_pb
from aquifer.query.v1.passage_events_pb2 import (
    PassagesPurged,
    VersionDescribed,
    VersionSearchable,
)
from aquifer.query.v1.query_service_pb2_grpc import (
    QueryServiceServicer,
    add_QueryServiceServicer_to_server,
)
from aquifer.structs import to_json
from chassis.base.errors import InvalidInputError, NotFoundError
from chassis.base.postgres import Database
from chassis.events.bus import Bus
from chassis.events.dead_letters import DeadLetters
from chassis.events.delivery import Batch
from chassis.events.envelope import derive_id, encode_event
from chassis.events.pack import CONTENT_TYPE as PACK_TYPE
from chassis.events.topology import subject
from chassis.identity.tokens import Caller, TokenSource, admit, send_no_credentials
from chassis.process.authority import Authority
from chassis.process.ops import DeadLetterRpc
from chassis.process.process import Process
from chassis.rpc.channel import open_channel
from ingest.app import build
from ingest.settings import Settings
from services.ingest.tests.conftest import NAME, settings_for
from services.ingest.tests.web_server import WebServer, serve
from testkit.consuming import prepare
from testkit.servers import TestBus, TestDatabase

from .doors import Tokens, guarded_server

TENANT = "default"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OPERATOR = Caller(
    tenant=TENANT,
    principal="user:ada",
    key_id="key1",
    scopes=frozenset({"operate"}),
    expires_at=float("inf"),
)
RESULTS = (DocumentAccepted, DocumentDeleted, DocumentFailed, DocumentIndexed)


class HidingQuery(QueryServiceServicer):
    """Commits every tombstone it is asked for."""

    def __init__(self) -> None:
        self.hidden: list[tuple[str, str, int]] = []

    @override
    async def HideDocument(self, request: Any, context: Any) -> query_pb.HideDocumentResponse:
        tenant = dict(context.invocation_metadata())["x-aquifer-tenant"]
        self.hidden.append((tenant, request.document, request.version))
        return query_pb.HideDocumentResponse()


class OneToken(TokenSource):
    """A service token without an auth that would issue it."""

    @override
    async def token(self) -> str:
        return "token"


@dataclass
class Live:
    """Ingest at work, and what it said on the bus."""

    process: Process
    upstream: Bus
    auth: Bus
    query: Bus
    hiding: HidingQuery
    stub: Any
    who: list[tuple[str, str]]
    heard: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    answering: bool = True

    async def publish(self, event: DocumentUploaded, **headers: str) -> str:
        event_id = headers.pop("event_id", "") or str(uuid.uuid4())
        await self.upstream.client.publish(
            subject(DocumentUploaded, event.tenant),
            event.SerializeToString(),
            headers={
                "ce-specversion": "1.0",
                "ce-id": event_id,
                "ce-source": "/tests",
                "ce-type": DocumentUploaded.DESCRIPTOR.full_name,
                **headers,
            },
        )
        return event_id

    async def publish_event(self, bus: Bus, event: Message, event_id: str = "") -> None:
        event_id = event_id or str(uuid.uuid4())
        await bus.publish_all([encode_event(event, event_id=event_id, document=NAME)])

    async def wait_for(self, kind: type[Any], number: int = 1) -> list[Any]:
        """At least that many events of a kind, once they were said."""

        def found() -> list[Any]:
            return [event for _, event in self.heard if isinstance(event, kind)]

        async with asyncio.timeout(60):
            while len(found()) < number:
                await asyncio.sleep(0.02)
        return found()

    async def on_prepared(self, batch: Batch[ChunksPrepared]) -> None:
        """Inference and query in one: what is prepared is searchable."""
        for delivery in batch:
            event = delivery.event
            self.heard.append(({}, event))
            if self.answering:
                said = VersionSearchable(
                    tenant=event.tenant, document=event.document, version=event.version
                )
                await self.publish_event(
                    self.query, said, derive_id(delivery.envelope.event_id, "said")
                )

    async def on_described(self, batch: Batch[DescriptionChanged]) -> None:
        for delivery in batch:
            event = delivery.event
            self.heard.append(({}, event))
            if self.answering:
                said = VersionDescribed(
                    tenant=event.tenant,
                    document=event.document,
                    version=event.version,
                    revision=event.description.revision,
                )
                await self.publish_event(
                    self.query, said, derive_id(delivery.envelope.event_id, "said")
                )

    async def on_deletion_requested(self, batch: Batch[DocumentDeletionRequested]) -> None:
        self.heard.extend(({}, delivery.event) for delivery in batch)

    def listener(self, kind: type[Any]) -> Callable[[Msg], Any]:
        async def listen(message: Msg) -> None:
            self.heard.append((dict(message.headers or {}), kind.FromString(message.data)))

        return listen


@asynccontextmanager
async def serving_query() -> AsyncIterator[tuple[HidingQuery, str]]:
    server, hiding = grpc.aio.server(), HidingQuery()
    add_QueryServiceServicer_to_server(hiding, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield hiding, f"127.0.0.1:{port}"
    await server.stop(1)


def make_authority(channel: grpc.aio.Channel) -> Authority:
    async def keys() -> str:
        return '{"keys": []}'

    async def revocations(after: int) -> ListRevocationsResponse:
        return ListRevocationsResponse()

    return Authority(keys=keys, revocations=revocations, credentials=OneToken(channel, "key"))


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A server that upload events may refer to."""
    with serve() as server:
        yield server


@pytest.fixture
async def live(
    bus: TestBus,
    web: WebServer,
    migrated: TestDatabase,
    database: Database,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Live]:
    """Doubts a step after a minute, or after as many seconds as a test says."""
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        own, inference, query, auth, upstream = [
            await opened(bus.connect(user))
            for user in ("ingest", "inference", "query", "auth", "upstream")
        ]
        hiding, address = await opened(serving_query())
        nobody = await opened(
            open_channel(address, service="auth", credentials=send_no_credentials)
        )
        tokens = Tokens()
        server = await guarded_server(tokens)
        process = Process(
            name="ingest",
            bus=own,
            server=server,
            dead_letters=DeadLetters(own, "ingest"),
            authority=make_authority(nobody),
            stack=stack,
        )
        (tmp_path / "drops").mkdir()
        settings = settings_for(tmp_path).model_dump() | {
            "postgres_dsn": migrated.dsn("ingest"),
            "query_address": address,
            "reconcile_s": 0.2,
            "reference_origins": web.url(""),
            "reference_private_hosts": "127.0.0.1",
            "step_due_s": getattr(request, "param", 60.0),
        }
        await build(process, Settings.model_validate(settings))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 1)
        channel = await opened(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        who = tokens.metadata(tenant=TENANT)
        stub = IngestServiceStub(channel)
        running = Live(process, upstream, auth, query, hiding, stub, who)
        siblings = [
            prepare(inference, running.on_prepared, event=ChunksPrepared, service="inference"),
            prepare(query, running.on_described, event=DescriptionChanged),
            prepare(query, running.on_deletion_requested, event=DocumentDeletionRequested),
        ]
        for kind in RESULTS:
            await upstream.subscribe(subject(kind, TENANT), running.listener(kind))
        assert process.events is not None
        brokers = [process.events, *siblings]
        loops = [*(broker.run for broker in brokers), *process.loops]
        tasks = [asyncio.ensure_future(loop()) for loop in loops]
        yield running
        await asyncio.gather(*(broker.drain(1) for broker in brokers))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.fixture
async def tenant(live: Live) -> Live:
    await live.publish_event(live.auth, TenantCreated(tenant=TENANT))
    return live


def upload(content: bytes = b"Water finds its way.", **fields: Any) -> DocumentUploaded:
    return DocumentUploaded(tenant=TENANT, document=NAME, content=content, **fields)


async def test_an_upload_by_reference_ends_as_indexed_in_the_trace_it_came_with(
    tenant: Live, web: WebServer
):
    content = b"Water finds its way. " * 5_000
    web.put("/a.txt", content)
    reference = ContentReference(
        uri=web.url("/a.txt"),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )
    event = DocumentUploaded(tenant=TENANT, document=NAME, reference=reference)
    event_id = await tenant.publish(event, traceparent=TRACEPARENT)
    [indexed] = await tenant.wait_for(DocumentIndexed)
    [accepted] = await tenant.wait_for(DocumentAccepted)
    assert (accepted.upload_event_id, indexed.upload_event_id) == (event_id, event_id)
    traces = {headers["traceparent"].split("-")[1] for headers, event in tenant.heard if headers}
    assert traces == {TRACEPARENT.split("-")[1]}


async def test_uploads_that_wait_for_a_server_delay_no_other(tenant: Live, web: WebServer):
    web.hang("/slow")
    slow = ContentReference(uri=web.url("/slow"), sha256="0" * 64, size_bytes=1)
    for number in range(100):
        name = f"collections/reports/documents/slow-{number}"
        await tenant.publish(DocumentUploaded(tenant=TENANT, document=name, reference=slow))
    event_id = await tenant.publish(upload())
    [indexed] = await tenant.wait_for(DocumentIndexed)
    assert indexed.upload_event_id == event_id


async def test_an_upload_event_ends_as_indexed_in_the_trace_it_came_with(tenant: Live):
    event_id = await tenant.publish(upload(correlation_id="c"), traceparent=TRACEPARENT)
    [indexed] = await tenant.wait_for(DocumentIndexed)
    [accepted] = await tenant.wait_for(DocumentAccepted)
    assert (accepted.upload_event_id, indexed.upload_event_id) == (event_id, event_id)
    assert (indexed.version, indexed.correlation_id, indexed.unchanged) == (1, "c", False)
    for headers, event in tenant.heard:
        if headers:
            assert headers["traceparent"].split("-")[1] == TRACEPARENT.split("-")[1]
            assert headers["ce-subject"] == NAME
        else:
            assert event.trace_id in TRACEPARENT


async def test_an_upload_event_sent_many_times_has_one_effect_and_one_result(tenant: Live):
    for _ in range(3):
        await asyncio.gather(*(tenant.publish(upload(), event_id="e1") for _ in range(4)))
    await tenant.wait_for(DocumentIndexed)
    await tenant.publish(upload(), event_id="e1")
    await asyncio.sleep(0.5)
    results = {h["ce-id"] for h, e in tenant.heard if isinstance(e, DocumentIndexed)}
    assert len(results) == 1
    assert len(await tenant.wait_for(ChunksPrepared)) == 1


async def test_a_tenant_that_comes_late_is_waited_for(live: Live, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chassis.events.settlement.BACKOFF_FIRST_S", 0.5)
    await live.publish(upload())
    async with asyncio.timeout(20):
        while not any(settlement._failures._tries for settlement in live.process.settlements):
            await asyncio.sleep(0.01)
    await live.publish_event(live.auth, TenantCreated(tenant=TENANT))
    await live.wait_for(DocumentIndexed)


async def test_an_unknown_tenant_is_told_and_kept_as_a_dead_letter(
    live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("chassis.events.settlement.BACKOFF_FIRST_S", 0.01)
    event_id = await live.publish(upload())
    [failed] = await live.wait_for(DocumentFailed)
    assert (failed.reason, failed.version) == ("TENANT_UNKNOWN", 0)
    assert failed.upload_event_id == event_id
    async with asyncio.timeout(30):
        while not (letters := await live.process.dead_letters.list(0, 10)):
            await asyncio.sleep(0.05)
    assert [(letter.reason, letter.event_id) for letter in letters] == [
        ("TENANT_UNKNOWN", event_id)
    ]


async def test_a_resumed_tenant_uploads_again(tenant: Live):
    await tenant.publish_event(tenant.auth, TenantSuspended(tenant=TENANT, sequence=1))
    async with asyncio.timeout(20):
        while not any(isinstance(event, DocumentFailed) for _, event in tenant.heard):
            await tenant.publish(upload())
            await asyncio.sleep(0.1)
    assert (await tenant.wait_for(DocumentFailed))[0].reason == "TENANT_SUSPENDED"
    await tenant.publish_event(tenant.auth, TenantResumed(tenant=TENANT, sequence=2))
    async with asyncio.timeout(20):
        while not any(isinstance(event, DocumentIndexed) for _, event in tenant.heard):
            await tenant.publish(upload())
            await asyncio.sleep(0.1)


async def replay(live: Live) -> str:
    """The event id that an operator is answered who replays the one dead letter there is."""
    async with asyncio.timeout(30):
        while not (letters := await live.process.dead_letters.list(0, 2)):
            await asyncio.sleep(0.05)
    [letter] = letters
    admit(OPERATOR, "")
    rpc = DeadLetterRpc(live.process.dead_letters, live.process.settlements)
    request = ReplayDeadLetterRequest(dead_letter_id=letter.dead_letter_id)
    no_context: Any = None
    return (await rpc.ReplayDeadLetter(request, no_context)).event_id


async def test_a_replayed_upload_event_is_the_one_its_producer_sent(
    live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("chassis.events.settlement.BACKOFF_FIRST_S", 0.01)
    event_id = await live.publish(upload())
    await live.wait_for(DocumentFailed)
    with pytest.raises(NotFoundError, match="unknown tenant"):
        await replay(live)
    await live.publish_event(live.auth, TenantCreated(tenant=TENANT))
    replayed_id = ""
    async with asyncio.timeout(60):
        while not replayed_id:
            with suppress(NotFoundError):
                replayed_id = await replay(live)
    assert replayed_id == event_id
    [indexed] = await live.wait_for(DocumentIndexed)
    assert indexed.upload_event_id == event_id
    assert not await live.process.dead_letters.list(0, 2)
    # The producer, who knows nothing of all that, sends it again.
    await live.publish(upload(), event_id=event_id)
    await asyncio.sleep(0.5)
    results = {h["ce-id"] for h, e in live.heard if isinstance(e, DocumentIndexed)}
    assert len(results) == 1


@pytest.mark.parametrize("structured", [False, True], ids=["binary", "structured"])
async def test_an_upload_event_may_be_json(tenant: Live, *, structured: bool):
    attributes = {
        "specversion": "1.0",
        "id": "e1",
        "source": "/tests",
        "type": DocumentUploaded.DESCRIPTOR.full_name,
    }
    typed = {"year": 2020, "public": True, "tags": ["a"]}
    body: Any = json_format.MessageToDict(upload()) | {"metadata": typed}
    headers = {"Content-Type": "application/json"}
    if structured:
        body = attributes | {"data": body}
        headers = {"Content-Type": "application/cloudevents+json"}
    else:
        headers |= {f"ce-{name}": value for name, value in attributes.items()}
    await tenant.upstream.client.publish(
        subject(DocumentUploaded, TENANT), json.dumps(body).encode(), headers=headers
    )
    [indexed] = await tenant.wait_for(DocumentIndexed)
    assert (indexed.upload_event_id, indexed.document) == ("e1", NAME)
    [prepared] = await tenant.wait_for(ChunksPrepared)
    assert json.dumps(to_json(prepared.description.metadata), sort_keys=True) == json.dumps(
        typed, sort_keys=True
    )


async def test_a_refused_upload_is_told_and_is_no_dead_letter(tenant: Live):
    event_id = await tenant.publish(upload(title="t" * 600))
    [failed] = await tenant.wait_for(DocumentFailed)
    assert (failed.reason, failed.upload_event_id) == ("METADATA_RANGE", event_id)
    await asyncio.sleep(0.2)
    assert not await tenant.process.dead_letters.list(0, 10)


@pytest.mark.parametrize("live", [1.0], indirect=True)
async def test_a_broker_that_loses_its_whole_store_costs_time_and_nothing_else(
    tenant: Live, bus: TestBus
):
    tenant.answering = False
    await tenant.publish(upload())
    await tenant.wait_for(ChunksPrepared)
    await bus.reset()
    tenant.answering = True
    [indexed] = await tenant.wait_for(DocumentIndexed)
    assert indexed.version == 1


@pytest.mark.parametrize("live", [1.0], indirect=True)
async def test_a_description_that_the_broker_loses_is_sent_again_until_it_is_confirmed(
    tenant: Live, bus: TestBus, everything: psycopg.Connection[DictRow]
):
    await tenant.publish(upload())
    await tenant.wait_for(DocumentIndexed)
    tenant.answering = False
    document = Document(name=NAME, title="Rivers", metadata={"year": 2020})
    await tenant.stub.UpdateDocument(
        UpdateDocumentRequest(document=document), metadata=tenant.who, timeout=30
    )
    await tenant.wait_for(DescriptionChanged)
    await bus.reset()
    tenant.answering = True
    first, *_, last = await tenant.wait_for(DescriptionChanged, 2)
    assert first.attempt < last.attempt
    assert last.description == first.description
    async with asyncio.timeout(60):
        while everything.execute(
            "SELECT version FROM versions WHERE description_due_at IS NOT NULL"
        ).fetchone():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("live", [1.0], indirect=True)
async def test_a_batch_that_nobody_answers_is_sent_again(tenant: Live):
    tenant.answering = False
    await tenant.publish(upload())
    await tenant.wait_for(ChunksPrepared)
    tenant.answering = True
    [indexed] = await tenant.wait_for(DocumentIndexed)
    attempts = [event.attempt for event in await tenant.wait_for(ChunksPrepared, 2)]
    assert attempts == sorted(set(attempts))
    assert indexed.version == 1


async def delete(live: Live) -> DocumentDeleted:
    """The event at the end of a deletion."""
    document = await live.stub.DeleteDocument(
        DeleteDocumentRequest(name=NAME), metadata=live.who, timeout=30
    )
    assert document.live_version == 0
    assert live.hiding.hidden == [(TENANT, NAME, 1)]
    await live.wait_for(DocumentDeletionRequested)
    purged = PassagesPurged(tenant=TENANT, document=NAME, version=1, passages=1, points=1)
    await live.publish_event(live.query, purged)
    [published] = await live.wait_for(DocumentDeleted)
    return published


async def test_a_delete_ends_with_a_receipt(tenant: Live):
    await tenant.publish(upload())
    await tenant.wait_for(DocumentIndexed)
    receipt = (await delete(tenant)).receipt
    assert (receipt.objects, receipt.chunks, receipt.points) == (1, 1, 1)


@pytest.mark.parametrize("headers", [{}, {"ce-subject": "invoice-7"}])
async def test_a_delete_takes_upload_events_along_that_were_given_up(
    live: Live, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
):
    monkeypatch.setattr("chassis.events.settlement.BACKOFF_FIRST_S", 0.01)
    await live.publish(upload(), **headers)
    await live.wait_for(DocumentFailed)
    monkeypatch.setattr("chassis.events.settlement.BACKOFF_FIRST_S", 1.0)
    await live.publish_event(live.auth, TenantCreated(tenant=TENANT))
    await live.publish(upload())
    await live.wait_for(DocumentIndexed)
    assert (await delete(live)).receipt.dead_letters == 1
    assert not await live.process.dead_letters.list(0, 2)


async def test_an_upload_over_grpc_is_told_under_an_empty_id(tenant: Live):
    async def parts() -> AsyncIterator[UploadDocumentRequest]:
        yield UploadDocumentRequest(header=UploadHeader(document=NAME, file_name="w.md"))
        yield UploadDocumentRequest(content=b"# Water\n\nIt finds its way.")

    await tenant.stub.UploadDocument(parts(), metadata=tenant.who, timeout=30)
    [indexed] = await tenant.wait_for(DocumentIndexed)
    assert (indexed.upload_event_id, indexed.version) == ("", 1)
    [prepared] = await tenant.wait_for(ChunksPrepared)
    assert prepared.description.title == "Water"


async def test_a_hundred_documents_all_end(tenant: Live):
    for number in range(100):
        event = upload(f"Text number {number}.".encode())
        event.document = f"collections/x/documents/{number}"
        await tenant.publish(event)
    indexed = await tenant.wait_for(DocumentIndexed, 100)
    assert len({event.upload_event_id for event in indexed}) == 100


NO_HEADERS = ("ce-specversion", "ce-id", "ce-source", "ce-type")
PACK = EventPack(events=[PackedEvent(headers={"ce-id": "e1"}, body=b"x")]).SerializeToString()
OTHERS = DocumentUploaded(tenant="other", document=NAME, correlation_id="c")


async def publish_raw(live: Live, body: bytes, headers: dict[str, str]) -> None:
    """Publishes an upload event with these headers; an empty one is left out."""
    given = {
        "ce-specversion": "1.0",
        "ce-id": "e1",
        "ce-source": "/tests",
        "ce-type": DocumentUploaded.DESCRIPTOR.full_name,
        **headers,
    }
    await live.upstream.client.publish(
        subject(DocumentUploaded, TENANT), body, headers={k: v for k, v in given.items() if v}
    )


async def wait_for_letters(live: Live, number: int = 1) -> list[str]:
    """The reasons of the dead letters, once there are that many."""
    async with asyncio.timeout(30):
        while len(letters := await live.process.dead_letters.list(0, 10)) < number:
            await asyncio.sleep(0.05)
    return [letter.reason for letter in letters]


@pytest.mark.parametrize(
    ("body", "headers", "reason", "known"),
    [
        (b"\xff\xff", {}, "EVENT_UNDECODABLE", {"upload_event_id": "e1"}),
        (b"{", {"Content-Type": "application/json"}, "EVENT_UNDECODABLE", {}),
        (
            b'{"id": "e1", "source": "/tests"}',
            {"Content-Type": "application/cloudevents+json"} | dict.fromkeys(NO_HEADERS, ""),
            "EVENT_UNDECODABLE",
            {"upload_event_id": "e1"},
        ),
        (
            b'{"tenant": "default", "dokument": "d", "correlationId": "c"}',
            {"Content-Type": "application/json"},
            "EVENT_UNDECODABLE",
            {"upload_event_id": "e1", "correlation_id": "c"},
        ),
        (
            OTHERS.SerializeToString(),
            {},
            "TENANT_MISMATCH",
            {"upload_event_id": "e1", "correlation_id": "c", "document": NAME},
        ),
        (b"", {"ce-type": "aquifer.ingest.v2.DocumentUploaded"}, "SCHEMA_UNSUPPORTED", {}),
        (b"", {"ce-specversion": "0.3"}, "EVENT_SPEC_VERSION", {"upload_event_id": "e1"}),
        (b"", {"Content-Type": "text/plain"}, "EVENT_CONTENT_TYPE", {"upload_event_id": "e1"}),
        (b"", {"ce-source": ""}, "EVENT_HEADER_MISSING", {"upload_event_id": "e1"}),
        (
            OTHERS.SerializeToString(),
            {"ce-id": ""},
            "EVENT_HEADER_MISSING",
            {"upload_event_id": "", "document": NAME, "correlation_id": "c"},
        ),
        (b"\xff", dict.fromkeys(NO_HEADERS, ""), "EVENT_HEADER_MISSING", {"upload_event_id": ""}),
        (b"", {"ce-id": "e" * 600, "ce-type": "x"}, "SCHEMA_UNSUPPORTED", {}),
        (b"", {"Content-Type": "x" * 60_000}, "EVENT_CONTENT_TYPE", {"upload_event_id": "e1"}),
        (
            PACK,
            {"Content-Type": PACK_TYPE} | dict.fromkeys(NO_HEADERS, ""),
            "EVENT_CONTENT_TYPE",
            {},
        ),
    ],
)
async def test_an_unreadable_upload_event_gets_a_result_and_is_a_dead_letter(
    tenant: Live, body: bytes, headers: dict[str, str], reason: str, known: dict[str, str]
):
    await publish_raw(tenant, body, headers)
    [failed] = await tenant.wait_for(DocumentFailed)
    assert (failed.tenant, failed.version, failed.reason) == (TENANT, 0, reason)
    assert failed.reason_detail
    assert {name: getattr(failed, name) for name in known} == known
    assert await wait_for_letters(tenant) == [reason]


async def test_an_unreadable_upload_event_has_one_result_however_often_it_comes(tenant: Live):
    for _ in range(3):
        await publish_raw(tenant, b"\xff\xff", {})
    await tenant.wait_for(DocumentFailed, 3)
    assert len({headers["ce-id"] for headers, _ in tenant.heard}) == 1
    # Corrected, but under the same id.
    await publish_raw(tenant, upload().SerializeToString(), {})
    failed = await tenant.wait_for(DocumentFailed, 4)
    assert {one.reason for one in failed} == {"EVENT_UNDECODABLE"}
    assert len({headers["ce-id"] for headers, _ in tenant.heard}) == 1
    await publish_raw(tenant, upload().SerializeToString(), {"ce-id": "e2"})
    [indexed] = await tenant.wait_for(DocumentIndexed)
    assert indexed.upload_event_id == "e2"


async def test_an_event_that_was_accepted_keeps_its_result_when_a_broken_copy_comes(tenant: Live):
    await publish_raw(tenant, upload().SerializeToString(), {})
    await tenant.wait_for(DocumentIndexed)
    await publish_raw(tenant, b"\xff\xff", {})
    await tenant.wait_for(DocumentIndexed, 2)
    assert not any(isinstance(event, DocumentFailed) for _, event in tenant.heard)
    results = {h["ce-id"] for h, event in tenant.heard if isinstance(event, DocumentIndexed)}
    assert len(results) == 1
    assert await wait_for_letters(tenant) == ["EVENT_UNDECODABLE"]


async def test_events_without_an_id_are_different_events(tenant: Live):
    await publish_raw(tenant, b"one", {"ce-id": ""})
    await publish_raw(tenant, b"one", {"ce-id": ""})
    await tenant.wait_for(DocumentFailed, 2)
    assert len({headers["ce-id"] for headers, _ in tenant.heard}) == 2


async def test_a_replay_of_what_is_still_unreadable_keeps_the_dead_letter(tenant: Live):
    await publish_raw(tenant, b"\xff\xff", {})
    await tenant.wait_for(DocumentFailed)
    with pytest.raises(InvalidInputError) as refused:
        await replay(tenant)
    assert refused.value.reason == "EVENT_UNDECODABLE"
    assert await wait_for_letters(tenant) == ["EVENT_UNDECODABLE"]
