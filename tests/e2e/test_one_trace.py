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


def test_a_redelivery_stays_in_the_trace(stack):
    """Inference is killed while it is frozen over the batch; another delivery finishes it."""
    trace_id = secrets.token_hex(16)
    inference = stack.parts["inference"]
    inference.freeze()
    try:
        waiting = asyncio.new_event_loop()

        async def killed_and_restarted() -> DocumentIndexed:
            result = asyncio.ensure_future(
                publish_and_wait(stack.endpoints, "redelivered", trace_id)
            )
            await asyncio.sleep(1.5)
            await asyncio.to_thread(inference.kill)
            await asyncio.to_thread(inference.start)
            return await result

        indexed = waiting.run_until_complete(killed_and_restarted())
        waiting.close()
    finally:
        if not inference.running:
            inference.start()
    assert indexed.version == 1
    nodes = wait_for_trace(stack.endpoints.traces, trace_id, STEPS)
    path = find_path(nodes, "process VersionSearchable")
    assert [n.name for n in path if n.name.startswith("process")] == STEPS
    embedding = next(node for node in path if node.name == "process ChunksPrepared")
    assert int(embedding.attributes["aquifer.delivery"]) >= 1


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
