"""A few impatient clients: uploads, events, new versions, deletes, all written in the journal."""

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import nats
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from aquifer.ingest.v1.document_events_pb2 import DocumentAccepted, DocumentFailed, DocumentIndexed
from aquifer.ingest.v1.ingest_service_pb2 import (
    DeleteDocumentRequest,
    UploadDocumentRequest,
    UploadHeader,
)
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer_cli.client import Client
from aquifer_cli.endpoints import Endpoints
from tests.faults.journal import Journal

CALL_S = 8.0
EVENT_S = 45.0
REPUBLISH_S = 1.5
CLIENTS = 4
WORDS = [
    "water",
    "rock",
    "sand",
    "clay",
    "spring",
    "well",
    "river",
    "rain",
    "layer",
    "pump",
    "level",
    "filter",
    "season",
    "valley",
    "snow",
    "stone",
    "flow",
    "depth",
    "pressure",
    "basin",
    "source",
    "field",
    "forest",
    "record",
    "measure",
    "winter",
    "summer",
    "board",
]


async def _expected(_: Exception) -> None:
    """The broker is killed on purpose: what matters is in the journal."""


@dataclass(slots=True)
class Load:
    """Clients working until told to stop; every document of a run carries the run's number."""

    client: Client
    endpoints: Endpoints
    journal: Journal
    random: random.Random
    run: int
    names: list[str] = field(default_factory=list)

    async def until(self, stop: asyncio.Event) -> None:
        """Works until `stop`, then finishes what is in flight."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number, stop))
            group.create_task(self._upstream(stop))

    async def _client(self, number: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            choice = self.random.random()
            if choice < 0.12 and self.names:
                await self._delete(self.names.pop(self.random.randrange(len(self.names))))
            elif choice < 0.27 and self.names:
                await self._upload(self.random.choice(self.names))
            else:
                await self._upload(f"r{self.run}-c{number}-{uuid.uuid4().hex[:8]}")
            await asyncio.sleep(self.random.uniform(0.01, 0.08))

    def _text(self) -> bytes:
        count = self.random.randrange(30, 450)
        words = " ".join(self.random.choice(WORDS) for _ in range(count))
        return f"Report {uuid.uuid4().hex}. {words}.".encode()

    async def _upload(self, name: str) -> None:
        document = f"collections/faults/documents/{name}"
        content = self._text()
        sha256 = hashlib.sha256(content).hexdigest()
        operation = f"upload-{uuid.uuid4().hex[:12]}"
        self.journal.begin(operation, kind="upload", document=document, sha256=sha256)

        async def parts() -> AsyncIterator[UploadDocumentRequest]:
            header = UploadHeader(
                document=document,
                file_name="r.txt",
                request_id=operation,
                size_bytes=len(content),
            )
            yield UploadDocumentRequest(header=header)
            yield UploadDocumentRequest(content=content)

        try:
            answer = await self.client.ingest.UploadDocument(
                parts(), timeout=CALL_S, metadata=await self.client.credentials()
            )
        except grpc.aio.AioRpcError as error:
            self.journal.end(operation, accepted=False, code=error.code().name)
            await asyncio.sleep(0.2)
        else:
            self.journal.end(operation, accepted=True, version=answer.version)
            if name not in self.names:
                self.names.append(name)

    async def _delete(self, name: str) -> None:
        document = f"collections/faults/documents/{name}"
        operation = f"delete-{uuid.uuid4().hex[:12]}"
        self.journal.begin(operation, kind="delete", document=document)
        try:
            await self.client.ingest.DeleteDocument(
                DeleteDocumentRequest(name=document),
                timeout=CALL_S,
                metadata=await self.client.credentials(),
            )
        except grpc.aio.AioRpcError as error:
            self.journal.end(operation, deleted=False, code=error.code().name)
        else:
            self.journal.end(operation, deleted=True)

    async def _upstream(self, stop: asyncio.Event) -> None:
        """An upstream system: publishes until accepted, as the contract tells it to."""
        known = self.endpoints.nats
        connection = await nats.connect(
            known["url"],
            user=known["user"],
            password=known["password"],
            max_reconnect_attempts=-1,
            error_cb=_expected,
            reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds, fractions work
        )
        heard: dict[str, int] = {}

        async def listen(message: Msg) -> None:
            kind = message.subject.split(".")[3]
            event = {
                "DocumentAccepted": DocumentAccepted,
                "DocumentIndexed": DocumentIndexed,
                "DocumentFailed": DocumentFailed,
            }[kind].FromString(message.data)
            heard[event.upload_event_id] = event.version

        tenant = self.endpoints.tenant
        for name in ("DocumentAccepted", "DocumentIndexed", "DocumentFailed"):
            await connection.subscribe(f"aquifer.ingest.v1.{name}.{tenant}", cb=listen)
        try:
            while not stop.is_set():
                await self._event(connection, tenant, heard)
                await asyncio.sleep(self.random.uniform(0.05, 0.2))
        finally:
            await connection.close()

    async def _event(
        self, connection: nats.aio.client.Client, tenant: str, heard: dict[str, int]
    ) -> None:
        content, event_id = self._text(), str(uuid.uuid4())
        document = f"collections/faults/documents/r{self.run}-e-{event_id[:8]}"
        sha256 = hashlib.sha256(content).hexdigest()
        self.journal.begin(event_id, kind="event", document=document, sha256=sha256)
        event = DocumentUploaded(
            tenant=tenant, document=document, file_name="e.txt", content=content
        )
        headers = {
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-source": "/faults",
            "ce-type": "aquifer.ingest.v1.DocumentUploaded",
            "Content-Type": "application/protobuf",
        }
        deadline = asyncio.get_running_loop().time() + EVENT_S
        while event_id not in heard and asyncio.get_running_loop().time() < deadline:
            try:
                await connection.publish(
                    f"aquifer.ingest.v1.DocumentUploaded.{tenant}",
                    event.SerializeToString(),
                    headers=headers,
                )
            except NatsError:
                await asyncio.sleep(0.2)
            for _ in range(int(REPUBLISH_S / 0.02)):
                if event_id in heard:
                    break
                await asyncio.sleep(0.02)
        if event_id in heard:
            self.journal.end(event_id, accepted=True, version=heard[event_id])
        else:
            self.journal.end(event_id, accepted=False, code="NO_ANSWER")
