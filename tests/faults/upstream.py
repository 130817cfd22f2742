"""An upstream system: publishes events in order on one connection, until each is answered."""

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import nats
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from aquifer.ingest.v1.document_events_pb2 import DocumentAccepted, DocumentFailed, DocumentIndexed
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer_cli.endpoints import Endpoints
from tests.faults.journal import Journal

EVENT_S = 45.0
# Without a PubAck the event may not be kept; with one it is, unless the broker loses its store.
ACK_S = 1.5
ANSWER_S = 8.0
ANSWERS = (DocumentAccepted, DocumentIndexed, DocumentFailed)
HEADERS = {
    "ce-specversion": "1.0",
    "ce-source": "/faults",
    "ce-type": DocumentUploaded.DESCRIPTOR.full_name,
    "Content-Type": "application/protobuf",
}


@dataclass(slots=True, kw_only=True)
class Upload:
    """An upload event; `due` is when it is published again if nothing is known of it by then."""

    event_id: str
    payload: bytes
    due: float = 0.0


@dataclass(slots=True)
class Upstream:
    """Publishes on one connection and listens for the answers; see `open_upstream`."""

    connection: Connection
    journal: Journal
    tenant: str
    inbox: str
    _waiting: dict[str, Upload] = field(default_factory=dict)
    _answers: dict[str, dict[str, object]] = field(default_factory=dict)

    def prepare(
        self, document: str, content: bytes, uri: str = "", labels: Sequence[str] = ()
    ) -> Upload:
        """A new upload event, noted and not yet published; with `uri` it refers to its content."""
        event_id = str(uuid.uuid4())
        sha256 = hashlib.sha256(content).hexdigest()
        self.journal.begin(event_id, kind="event", document=document, sha256=sha256)
        event = DocumentUploaded(
            tenant=self.tenant, document=document, file_name="e.txt", labels=labels
        )
        if uri:
            event.reference.uri = uri
            event.reference.sha256 = sha256
            event.reference.size_bytes = len(content)
        else:
            event.content = content
        upload = Upload(event_id=event_id, payload=event.SerializeToString())
        self._waiting[event_id] = upload
        return upload

    async def publish(self, *uploads: Upload, gap_s: float = 0.0) -> None:
        """Publishes in this order, without waiting for acknowledgements in between."""
        if gap_s:
            for upload in uploads:
                await self.publish(upload)
                await asyncio.sleep(gap_s)
            return
        numbers = self.journal.publish([upload.event_id for upload in uploads])
        for upload, number in zip(uploads, numbers, strict=True):
            upload.due = asyncio.get_running_loop().time() + ACK_S
            with suppress(NatsError):  # the connection is down: published again when it is due
                await self.connection.publish(
                    f"{DocumentUploaded.DESCRIPTOR.full_name}.{self.tenant}",
                    upload.payload,
                    reply=f"{self.inbox}.{upload.event_id}.{number}",
                    headers={**HEADERS, "ce-id": upload.event_id},
                )

    async def settle(self, *uploads: Upload) -> None:
        """Waits until each is answered, and publishes again what may be lost; notes the answers."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + EVENT_S
        open_uploads = list(uploads)
        while open_uploads and clock() < deadline:
            await asyncio.sleep(0.02)
            for upload in open_uploads:
                if upload.event_id in self._answers:
                    self._finish(upload, self._answers.pop(upload.event_id))
            open_uploads = [upload for upload in open_uploads if upload.event_id in self._waiting]
            due = [upload for upload in open_uploads if upload.due < clock()]
            if due:
                await self.publish(*due)
        for upload in open_uploads:
            self._finish(upload, {"accepted": False, "code": "NO_ANSWER"})

    def _finish(self, upload: Upload, answer: dict[str, object]) -> None:
        del self._waiting[upload.event_id]
        self.journal.end(upload.event_id, **answer)

    async def note_ack(self, message: Msg) -> None:
        """A PubAck, or the broker's refusal to keep the event."""
        *_, event_id, number = message.subject.split(".")
        sequence = json.loads(message.data or b"{}").get("seq")
        if sequence is None:
            return  # no stream, or a full one: published again when it is due
        self.journal.acknowledge(event_id, int(number), sequence)
        if event_id in self._waiting:
            self._waiting[event_id].due = asyncio.get_running_loop().time() + ANSWER_S

    async def note_answer(self, message: Msg) -> None:
        """An acknowledgement or a result; a refusal has no version."""
        kind = message.subject.split(".")[3]
        [event_type] = [each for each in ANSWERS if each.DESCRIPTOR.name == kind]
        event = event_type.FromString(message.data)
        if event.upload_event_id not in self._waiting:
            return
        answer: dict[str, object] = {"accepted": event.version > 0, "version": event.version}
        if isinstance(event, DocumentFailed):
            answer["result"] = event.reason
        elif isinstance(event, DocumentIndexed):
            answer["result"] = "INDEXED"
        self._answers.setdefault(event.upload_event_id, answer)


async def _expect(_: Exception) -> None:
    """The broker is killed on purpose: what matters is in the journal."""


@asynccontextmanager
async def open_upstream(endpoints: Endpoints, journal: Journal) -> AsyncIterator[Upstream]:
    """A connection of its own, as the upstream user of the tenant."""
    connection = await nats.connect(
        endpoints.nats["url"],
        user=endpoints.nats["user"],
        password=endpoints.nats["password"],
        max_reconnect_attempts=-1,
        error_cb=_expect,
        reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds, fractions work
    )
    try:
        upstream = Upstream(connection, journal, endpoints.tenant, connection.new_inbox())
        await connection.subscribe(f"{upstream.inbox}.>", cb=upstream.note_ack)
        for event in ANSWERS:
            subject = f"{event.DESCRIPTOR.full_name}.{endpoints.tenant}"
            await connection.subscribe(subject, cb=upstream.note_answer)
        yield upstream
    finally:
        await connection.close()
