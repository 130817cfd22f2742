"""Uploads a file as an event with FastStream, describes or removes it, and waits for the result.

NATS_URL=... NATS_USER=... NATS_PASSWORD=... python examples/upload_faststream.py FILE [ACTION]

ACTION is `upload`, `describe` or `remove`. The events are JSON in structured mode.
"""

import asyncio
import base64
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from faststream.nats import NatsBroker
from faststream.security import SASLPlaintext

from aquifer.ingest.v1.document_events_pb2 import (
    DocumentAccepted,
    DocumentDeleted,
    DocumentFailed,
    DocumentIndexed,
    DocumentUpdated,
)

TENANT = os.environ.get("AQUIFER_TENANT", "default")
PACKAGE = "aquifer.ingest.v1"
REPEAT_S = 3
WAIT_S = 600

Result = DocumentIndexed | DocumentUpdated | DocumentDeleted | DocumentFailed

broker = NatsBroker(
    os.environ["NATS_URL"],
    security=SASLPlaintext(
        username=os.environ.get("NATS_USER", ""), password=os.environ.get("NATS_PASSWORD", "")
    ),
)
event_id = str(uuid.uuid4())  # the same id always means the same event
accepted = asyncio.Event()
finished = asyncio.Event()
results: list[Result] = []


@broker.subscriber(f"{PACKAGE}.DocumentAccepted.{TENANT}")
async def on_accepted(body: bytes) -> None:
    """The event is durable: no need to publish it again."""
    if DocumentAccepted.FromString(body).upload_event_id == event_id:
        accepted.set()


@broker.subscriber(f"{PACKAGE}.DocumentIndexed.{TENANT}")
async def on_indexed(body: bytes) -> None:
    """Searches find the document."""
    finish(DocumentIndexed.FromString(body))


@broker.subscriber(f"{PACKAGE}.DocumentUpdated.{TENANT}")
async def on_updated(body: bytes) -> None:
    """The document has the new title and metadata."""
    finish(DocumentUpdated.FromString(body))


@broker.subscriber(f"{PACKAGE}.DocumentDeleted.{TENANT}")
async def on_deleted(body: bytes) -> None:
    """The document is removed from every store."""
    finish(DocumentDeleted.FromString(body))


@broker.subscriber(f"{PACKAGE}.DocumentFailed.{TENANT}")
async def on_failed(body: bytes) -> None:
    """The event has no effect; `reason` says why."""
    finish(DocumentFailed.FromString(body))


def finish(result: Result) -> None:
    if result.upload_event_id == event_id:
        results.append(result)
        finished.set()


def make_event(file: Path, action: str) -> tuple[str, dict[str, Any]]:
    """The kind of event of an action, and its fields."""
    fields = {"tenant": TENANT, "document": f"collections/examples/documents/{file.name}"}
    if action == "remove":
        return "DocumentRemoved", fields
    if action == "describe":  # replaces title and metadata as a whole
        described = {"title": "A better title", "metadata": {"reviewed": True}}
        return "DocumentDescribed", {**fields, **described}
    content = base64.b64encode(file.read_bytes()).decode()  # up to 256 KiB
    uploaded = {"fileName": file.name, "content": content, "correlationId": "order-4711"}
    return "DocumentUploaded", {**fields, **uploaded}


async def send(kind: str, data: dict[str, Any]) -> Result:
    """Publishes an event until it is answered; returns its final result."""
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/examples/faststream",
        "type": f"{PACKAGE}.{kind}",
        "data": data,
    }
    async with broker:
        await broker.start()
        while not accepted.is_set() and not finished.is_set():
            await broker.publish(
                json.dumps(event).encode(),
                f"{PACKAGE}.{kind}.{TENANT}",
                headers={"Content-Type": "application/cloudevents+json"},
            )
            try:
                await asyncio.wait_for(finished.wait(), REPEAT_S)
            except TimeoutError:
                continue
        await asyncio.wait_for(finished.wait(), WAIT_S)
    return results[0]


if __name__ == "__main__":
    path, action = Path(sys.argv[1]), (*sys.argv[2:], "upload")[0]
    outcome = asyncio.run(send(*make_event(path, action)))
    print(outcome.DESCRIPTOR.name, outcome.document)
    sys.exit(1 if isinstance(outcome, DocumentFailed) else 0)
