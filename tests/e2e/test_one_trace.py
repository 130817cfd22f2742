"""From the upload event to `DocumentIndexed` is one trace across processes, redelivery included."""

import asyncio
import json
import secrets
import time
import uuid

import nats
import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentIndexed
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer_cli import trace as tracing
from aquifer_cli.endpoints import Endpoints

pytestmark = pytest.mark.timeout(300)

STEPS = [
    "process DocumentUploaded",
    "process ChunksPrepared",
    "process ChunksEmbedded",
    "process VersionSearchable",
]
# A frozen process gets a batch only if it had an open pull request when it was frozen.
DELIVERED_S = 5
TRIES = 5


async def publish_and_wait(endpoints: Endpoints, name: str, trace_id: str) -> DocumentIndexed:
    """Publishes as an upstream system would; returns its result."""
    event_id = str(uuid.uuid4())
    event = DocumentUploaded(
        tenant=endpoints.tenant,
        document=f"collections/traced/documents/{name}",
        file_name="note.txt",
        content=f"A note about {name} and tides.".encode(),
    )
    known = endpoints.nats
    connection = await nats.connect(known["url"], user=known["user"], password=known["password"])
    try:
        results = await connection.subscribe(
            f"aquifer.ingest.v1.DocumentIndexed.{endpoints.tenant}"
        )
        await connection.publish(
            f"aquifer.ingest.v1.DocumentUploaded.{endpoints.tenant}",
            event.SerializeToString(),
            headers={
                "ce-specversion": "1.0",
                "ce-id": event_id,
                "ce-source": "/e2e",
                "ce-type": "aquifer.ingest.v1.DocumentUploaded",
                "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01",
            },
        )
        async with asyncio.timeout(120):
            async for message in results.messages:
                indexed = DocumentIndexed.FromString(message.data)
                if indexed.upload_event_id == event_id:
                    return indexed
    finally:
        await connection.close()
    raise AssertionError("the subscription ended")


def wait_for_trace(url: str, trace_id: str, wanted: list[str]) -> list[tracing.Node]:
    """The trace once the spans wanted have arrived: each process exports in its own time."""
    deadline = time.monotonic() + 60
    nodes: list[tracing.Node] = []
    while time.monotonic() < deadline:
        nodes = tracing.load(url, trace_id)
        if set(wanted) <= {node.name for node in nodes}:
            break
        time.sleep(0.2)
    return nodes


def find_path(nodes: list[tracing.Node], last: str) -> list[tracing.Node]:
    """The spans from the root to `last`, by parents."""
    by_id = {node.span_id: node for node in nodes}
    node = next(node for node in nodes if node.name == last)
    path = [node]
    while path[0].parent_id in by_id:
        path.insert(0, by_id[path[0].parent_id])
    return path


def test_an_upload_is_one_chain_across_three_services(stack):
    trace_id = secrets.token_hex(16)
    indexed = asyncio.run(publish_and_wait(stack.endpoints, "one", trace_id))
    assert indexed.version == 1
    nodes = wait_for_trace(stack.endpoints.traces, trace_id, STEPS)
    path = find_path(nodes, "process VersionSearchable")
    assert [n.name for n in path if n.name.startswith("process")] == STEPS
    assert {node.service for node in path} == {"ingest", "inference", "query"}
    assert not [node.name for node in nodes if node.error]
    assert {n.attributes.get("tenant.id") for n in path} == {stack.endpoints.tenant}
    assert {n.attributes.get("document.id") for n in path[1:]} == {
        "collections/traced/documents/one"
    }


def count_pending_batches(stack) -> int:
    """Batches that the broker has delivered to inference and that await acknowledgement."""
    state = stack.nats.monitoring("/jsz?consumers=true")
    return sum(
        consumer["num_ack_pending"]
        for account in state["account_details"]
        for stream in account["stream_detail"]
        for consumer in stream.get("consumer_detail") or ()
        if consumer["name"] == "inference-ChunksPrepared"
    )


async def kill_during_batch(stack, name: str, trace_id: str) -> tuple[bool, DocumentIndexed]:
    """Freezes inference, publishes, and kills it if it was given the batch; returns whether."""
    inference = stack.parts["inference"]
    inference.freeze()
    try:
        result = asyncio.ensure_future(publish_and_wait(stack.endpoints, name, trace_id))
        deadline = time.monotonic() + DELIVERED_S
        while not (delivered := count_pending_batches(stack)) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if delivered:
            await asyncio.to_thread(inference.kill)
    finally:
        inference.thaw()
        await asyncio.to_thread(inference.start)
    return bool(delivered), await result


def test_a_redelivery_stays_in_the_trace(stack):
    for number in range(TRIES):
        trace_id = secrets.token_hex(16)
        killed, indexed = asyncio.run(kill_during_batch(stack, f"again-{number}", trace_id))
        if killed:
            break
    assert killed
    assert indexed.version == 1
    nodes = wait_for_trace(stack.endpoints.traces, trace_id, STEPS)
    path = find_path(nodes, "process VersionSearchable")
    assert [n.name for n in path if n.name.startswith("process")] == STEPS
    embedding = next(node for node in path if node.name == "process ChunksPrepared")
    assert int(embedding.attributes["aquifer.delivery"]) >= 2


def test_an_answer_links_to_the_uploads_of_what_it_cites(stack):
    trace_id = secrets.token_hex(16)
    asyncio.run(publish_and_wait(stack.endpoints, "linked", trace_id))
    steps = stack.json("ask", "What is the note about linked and tides?", "-c", "traced")
    cited = {s["passage"]["ingest_trace_id"] for s in steps if s["step"] == "citation"}
    assert trace_id in cited
    answer = steps[0]["answer"]
    deadline = time.monotonic() + 60
    while True:
        done = stack.run("trace", answer, "--json")
        spans = json.loads(done.stdout)["spans"] if done.returncode == 0 else []
        # The way to the vector process and back is part of the trace, on both of its sides.
        searches = [s["service"] for s in spans if s["name"].endswith("VectorService/Search")]
        generations = [s for s in spans if "Generate" in s["name"]]
        whole = sorted(searches) == ["query", "vectors"] and len(generations) == 2
        if (whole and trace_id in done.stdout) or time.monotonic() > deadline:
            break
        time.sleep(0.3)
    assert trace_id in done.stdout
    assert sorted(searches) == ["query", "vectors"]
    # The caller's and the engine's: both know that it went well.
    assert [s["error"] for s in generations] == ["", ""]
    assert not [span["name"] for span in spans if span["error"]]
