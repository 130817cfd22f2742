"""Uploads a file as an event with FastStream, as JSON in structured mode, and waits for its result.

NATS_URL=... NATS_USER=... NATS_PASSWORD=... python examples/upload_faststream.py FILE
"""

import asyncio
import base64
import json
import os
import sys
import uuid
from pathlib import Path

from faststream.nats import NatsBroker
from faststream.security import SASLPlaintext

from aquifer.ingest.v1.document_events_pb2 import DocumentAccepted, DocumentFailed, DocumentIndexed

TENANT = os.environ.get("AQUIFER_TENANT", "default")
UPLOADED = "aquifer.ingest.v1.DocumentUploaded"
REPEAT_S = 3
WAIT_S = 600

broker = NatsBroker(
    os.environ["NATS_URL"],
    security=SASLPlaintext(
        username=os.environ.get("NATS_USER", ""), password=os.environ.get("NATS_PASSWORD", "")
    ),
)
event_id = str(uuid.uuid4())  # the same id always means the same event
accepted = asyncio.Event()
finished = asyncio.Event()
results: list[DocumentIndexed | DocumentFailed] = []


@broker.subscriber(f"aquifer.ingest.v1.DocumentAccepted.{TENANT}")
async def on_accepted(body: bytes) -> None:
    """The bytes are durable: no need to publish the event again."""
    if DocumentAccepted.FromString(body).upload_event_id == event_id:
        accepted.set()


@broker.subscriber(f"aquifer.ingest.v1.DocumentIndexed.{TENANT}")
async def on_indexed(body: bytes) -> None:
    """Searches find the document."""
    finish(DocumentIndexed.FromString(body))


@broker.subscriber(f"aquifer.ingest.v1.DocumentFailed.{TENANT}")
async def on_failed(body: bytes) -> None:
    """The document cannot be indexed; `reason` says why."""
    finish(DocumentFailed.FromString(body))


def finish(event: DocumentIndexed | DocumentFailed) -> None:
    if event.upload_event_id == event_id:
        results.append(event)
        finished.set()


async def upload(file: Path) -> DocumentIndexed | DocumentFailed:
    """Publishes the event until it is answered; returns its result."""
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/examples/faststream",
        "type": UPLOADED,
        "data": {
            "tenant": TENANT,
            "document": f"collections/examples/documents/{file.name}",
            "fileName": file.name,
            "content": base64.b64encode(file.read_bytes()).decode(),  # up to 256 KiB
            "correlationId": "order-4711",
        },
    }
    async with broker:
        await broker.start()
        while not accepted.is_set() and not finished.is_set():
            await broker.publish(
                json.dumps(event).encode(),
                f"{UPLOADED}.{TENANT}",
                headers={"Content-Type": "application/cloudevents+json"},
            )
            try:
                await asyncio.wait_for(finished.wait(), REPEAT_S)
            except TimeoutError:
                continue
        await asyncio.wait_for(finished.wait(), WAIT_S)
    return results[0]


if __name__ == "__main__":
    outcome = asyncio.run(upload(Path(sys.argv[1])))
    print(outcome.DESCRIPTOR.name, outcome.document)
    sys.exit(0 if isinstance(outcome, DocumentIndexed) else 1)
