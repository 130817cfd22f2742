"""Uploads a file as an event with nats-py and waits for its result.

NATS_URL=... NATS_USER=... NATS_PASSWORD=... python examples/upload_nats_py.py FILE
"""

import asyncio
import os
import sys
import uuid
from pathlib import Path

import nats
from google.protobuf.message import Message
from nats.aio.msg import Msg

from aquifer.ingest.v1.document_events_pb2 import DocumentAccepted, DocumentFailed, DocumentIndexed
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded

TENANT = os.environ.get("AQUIFER_TENANT", "default")
REPEAT_S = 3
WAIT_S = 600


async def upload(file: Path) -> Message:
    """Publishes the event until it is answered; returns DocumentIndexed or DocumentFailed."""
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
            event = kind.FromString(message.data)
            if event.upload_event_id != event_id:  # type: ignore[attr-defined]
                return
            if kind is DocumentAccepted:
                accepted.set()
            elif not result.done():  # the same result may come more than once
                result.set_result(event)

        await connection.subscribe(f"{kind.DESCRIPTOR.full_name}.{TENANT}", cb=receive)

    for kind in (DocumentAccepted, DocumentIndexed, DocumentFailed):
        await listen(kind)
    event = DocumentUploaded(
        tenant=TENANT,
        document=f"collections/examples/documents/{file.name}",
        file_name=file.name,
        content=file.read_bytes(),  # up to 256 KiB; larger: `reference`
        correlation_id="order-4711",  # repeated in the results
    )
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": "/examples/nats-py",
        "ce-type": DocumentUploaded.DESCRIPTOR.full_name,
        "Content-Type": "application/protobuf",
    }
    try:
        while not accepted.is_set() and not result.done():
            subject = f"{DocumentUploaded.DESCRIPTOR.full_name}.{TENANT}"
            await connection.publish(subject, event.SerializeToString(), headers=headers)
            await asyncio.wait({result}, timeout=REPEAT_S)
        return await asyncio.wait_for(result, WAIT_S)
    finally:
        await connection.close()


if __name__ == "__main__":
    outcome = asyncio.run(upload(Path(sys.argv[1])))
    print(outcome.DESCRIPTOR.name, outcome.document)  # type: ignore[attr-defined]
    sys.exit(0 if isinstance(outcome, DocumentIndexed) else 1)
