"""Dead letters with reasons, results for bad events, metrics and readiness."""

import asyncio
import json
import urllib.request
import uuid
from typing import Any

import nats
import pytest

from aquifer.ingest.v1.document_events_pb2 import DocumentFailed
from aquifer.ingest.v1.upload_events_pb2 import DocumentUploaded
from aquifer.ops.v1 import dead_letter_service_pb2 as dead
from aquifer.ops.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from aquifer_cli.client import open_client
from aquifer_cli.endpoints import Endpoints
from aquifer_cli.errors import CommandError

pytestmark = pytest.mark.timeout(300)

TYPE = "aquifer.ingest.v1.DocumentUploaded"


async def publish(endpoints: Endpoints, body: bytes, **headers: str) -> str:
    """Publishes an upload event; returns its id."""
    event_id = headers.get("ce-id") or str(uuid.uuid4())
    known = endpoints.nats
    connection = await nats.connect(known["url"], user=known["user"], password=known["password"])
    try:
        await connection.jetstream().publish(
            f"{TYPE}.{endpoints.tenant}",
            body,
            headers={
                "ce-specversion": "1.0",
                "ce-id": event_id,
                "ce-source": "/operators",
                "ce-type": TYPE,
                **headers,
            },
        )
    finally:
        await connection.close()
    return event_id


async def dead_letter_of(endpoints: Endpoints, event_id: str) -> dead.DeadLetter:
    """The dead letter of an event in ingest, once it is there."""
    async with open_client(endpoints) as client:
        stub = DeadLetterServiceStub(client.channels["ingest"])
        async with asyncio.timeout(90):
            while True:
                page = await client.call(stub.ListDeadLetters, dead.ListDeadLettersRequest())
                for letter in page.dead_letters:
                    if letter.event_id == event_id:
                        return letter
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"\xff\xff", {}, "EVENT_UNDECODABLE"),
        (DocumentUploaded(tenant="other").SerializeToString(), {}, "TENANT_MISMATCH"),
        (b"", {"ce-type": "aquifer.ingest.v2.DocumentUploaded"}, "SCHEMA_UNSUPPORTED"),
        (b"", {"ce-specversion": "0.3"}, "EVENT_SPEC_VERSION"),
    ],
)
def test_an_event_that_can_not_be_read_is_a_dead_letter_with_its_bytes(
    stack, body, headers, reason
):
    async def run() -> tuple[dead.DeadLetter, dead.GetDeadLetterResponse, str]:
        event_id = await publish(stack.endpoints, body, **headers)
        letter = await dead_letter_of(stack.endpoints, event_id)
        async with open_client(stack.endpoints) as client:
            stub = DeadLetterServiceStub(client.channels["ingest"])
            request = dead.GetDeadLetterRequest(dead_letter_id=letter.dead_letter_id)
            read = await client.call(stub.GetDeadLetter, request)
            discard = dead.DiscardDeadLetterRequest(dead_letter_id=letter.dead_letter_id)
            await client.call(stub.DiscardDeadLetter, discard)
            page = await client.call(stub.ListDeadLetters, dead.ListDeadLettersRequest())
            left = [one for one in page.dead_letters if one.event_id == event_id]
            return letter, read, str(len(left))

    letter, read, left = asyncio.run(run())
    assert letter.reason == reason
    assert letter.tenant == stack.endpoints.tenant
    assert read.payload == body
    assert left == "0"


def test_status_counts_dead_letters(stack):
    async def made() -> None:
        await dead_letter_of(stack.endpoints, await publish(stack.endpoints, b"\xff"))

    asyncio.run(made())
    assert "dead letters: " in stack.run("status").stdout
    counts = {p["service"]: p["dead_letters"] for p in stack.json("status")[0]["parts"]}
    assert counts["ingest"] >= 1
    assert counts["auth"] == 0


def test_replaying_what_is_still_wrong_says_why_and_keeps_it(stack):
    async def run() -> tuple[str, bool]:
        event_id = await publish(stack.endpoints, b"\xff\xff")
        letter = await dead_letter_of(stack.endpoints, event_id)
        async with open_client(stack.endpoints) as client:
            stub = DeadLetterServiceStub(client.channels["ingest"])
            request = dead.ReplayDeadLetterRequest(dead_letter_id=letter.dead_letter_id)
            try:
                await client.call(stub.ReplayDeadLetter, request)
            except CommandError as error:
                reason = error.reason
            page = await client.call(stub.ListDeadLetters, dead.ListDeadLettersRequest())
            return reason, event_id in {one.event_id for one in page.dead_letters}

    assert asyncio.run(run()) == ("EVENT_UNDECODABLE", True)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"document": "not a name", "content": b"x"}, "DOCUMENT_NAME"),
        ({"document": "collections/a/documents/b"}, "BODY_MISSING"),
        ({"document": "collections/a/documents/b", "content": b""}, "EMPTY_DOCUMENT"),
    ],
)
def test_a_refused_upload_event_gets_a_result(stack, fields: dict[str, Any], reason):
    async def run() -> DocumentFailed:
        endpoints = stack.endpoints
        event_id = str(uuid.uuid4())
        known = endpoints.nats
        connection = await nats.connect(
            known["url"], user=known["user"], password=known["password"]
        )
        heard = await connection.subscribe(f"aquifer.ingest.v1.DocumentFailed.{endpoints.tenant}")
        await connection.flush()
        event = DocumentUploaded(tenant=endpoints.tenant, correlation_id="c-1", **fields)
        await publish(endpoints, event.SerializeToString(), **{"ce-id": event_id})
        try:
            async with asyncio.timeout(90):
                async for message in heard.messages:
                    failed = DocumentFailed.FromString(message.data)
                    if failed.upload_event_id == event_id:
                        return failed
        finally:
            await connection.close()
        raise AssertionError("the subscription ended")

    failed = asyncio.run(run())
    assert (failed.reason, failed.version, failed.correlation_id) == (reason, 0, "c-1")
    assert failed.reason_detail


def test_metrics_are_served(stack):
    urls = json.loads((stack.folder / "endpoints.json").read_text())["metrics"]
    for service, url in urls.items():
        text = urllib.request.urlopen(url, timeout=30).read().decode()
        assert "aquifer_rpc_duration_seconds" in text, service
    assert "aquifer_events_total" in urllib.request.urlopen(urls["ingest"]).read().decode()


def test_status_knows_every_part(stack):
    [state] = stack.json("status")
    assert {part["service"]: part["ready"] for part in state["parts"]} == {
        "auth": True,
        "ingest": True,
        "inference": True,
        "query": True,
    }
    assert {server["part"]: server["ready"] for server in state["servers"]} == {
        "nats": True,
        "postgres": True,
        "vectors": True,
        "traces": True,
    }
    assert all(server["disk_free_bytes"] > 0 for server in state["servers"])
    assert [model["generative"] for model in state["models"]] == [False, False]
