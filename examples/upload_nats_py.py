"""Uploads a file as an event with nats-py, describes or removes it, and waits for the result.

NATS_URL=... NATS_USER=... NATS_PASSWORD=... python examples/upload_nats_py.py FILE [ACTION]

ACTION is `upload`, `describe` or `remove`.
"""

import asyncio
import os
import sys
import uuid
from pathlib import Path

import nats
from google.protobuf.message import Message
from nats.aio.msg import Msg

from aquifer.ingest.v1.document_events_pb2 import (
    DocumentAccepted,
    DocumentDeleted,
    DocumentFailed,
    DocumentIndexed,
    DocumentUpdated,
)
from aquifer.ingest.v1.upload_events_pb2 import (
    DocumentDescribed,
    DocumentRemoved,
    DocumentUploaded,
)

TENANT = os.environ.get("AQUIFER_TENANT", "default")
RESULTS = (DocumentIndexed, DocumentUpdated, DocumentDeleted, DocumentFailed)
REPEAT_S = 3
WAIT_S = 600


def make_event(file: Path, action: str) -> Message:
    """The event of an action."""
    document = f"collections/examples/documents/{file.name}"
    if action == "remove":
        return DocumentRemoved(tenant=TENANT, document=document)
    if action == "describe":  # replaces title and metadata as a whole
        event = DocumentDescribed(tenant=TENANT, document=document, title="A better title")
        event.metadata.update({"reviewed": True})
        return event
    return DocumentUploaded(
        tenant=TENANT,
        document=document,
        file_name=file.name,
        content=file.read_bytes(),  # up to 256 KiB; larger: `reference`
        correlation_id="order-4711",  # repeated in the results
    )


async def send(event: Message) -> Message:
    """Publishes an event until it is answered; returns its final result."""
    connection = await nats.connect(
        os.environ["NATS_URL"],
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
    )
    event_id = str(uuid.uuid4())  # the same id always means the same event
    accepted = asyncio.Event()
    result: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def listen(kind: type[Message]) -> None:
        async def receive(message: Msg) -> None:
            answer = kind.FromString(message.data)
            if answer.upload_event_id != event_id:  # type: ignore[attr-defined]
                return
            if kind is DocumentAccepted:
                accepted.set()
            elif not result.done():  # the same result may come more than once
                result.set_result(answer)

        await connection.subscribe(f"{kind.DESCRIPTOR.full_name}.{TENANT}", cb=receive)

    for kind in (DocumentAccepted, *RESULTS):
        await listen(kind)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": "/examples/nats-py",
        "ce-type": event.DESCRIPTOR.full_name,
        "Content-Type": "application/protobuf",
    }
    try:
        while not accepted.is_set() and not result.done():
            subject = f"{event.DESCRIPTOR.full_name}.{TENANT}"
            await connection.publish(subject, event.SerializeToString(), headers=headers)
            await asyncio.wait({result}, timeout=REPEAT_S)
        return await asyncio.wait_for(result, WAIT_S)
    finally:
        await connection.close()


if __name__ == "__main__":
    path, action = Path(sys.argv[1]), (*sys.argv[2:], "upload")[0]
    outcome = asyncio.run(send(make_event(path, action)))
    print(outcome.DESCRIPTOR.name, outcome.document)  # type: ignore[attr-defined]
    sys.exit(1 if isinstance(outcome, DocumentFailed) else 0)
