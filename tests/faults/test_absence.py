"""A dependency that is unavailable for `AQUIFER_AWAY_S` (15) seconds makes nothing fail."""

import asyncio
import os
import shutil
import time

import pytest

from aquifer.ops.v1.status_service_pb2 import GetStatusRequest
from aquifer.ops.v1.status_service_pb2_grpc import StatusServiceStub
from aquifer_cli import endpoints as found
from aquifer_cli import upload as uploading
from aquifer_cli.client import Client, open_client
from tests.faults.replicas import service_of

AWAY_S = float(os.environ.get("AQUIFER_AWAY_S", "15"))
DOCUMENTS = 30
LOOK_AGAIN_S = 15.0


async def paused_consumers(client: Client, service: str) -> list[str]:
    answer = await client.call(
        StatusServiceStub(client.channels[service]).GetStatus, GetStatusRequest()
    )
    return [c.pause_reason for c in answer.consumers if c.paused]


@pytest.mark.timeout(AWAY_S + 240)
def test_documents_wait_for_the_vector_process(campaign, tmp_path):
    for number in range(DOCUMENTS):
        (tmp_path / f"away-{number}.txt").write_text(f"Document {number} that has to wait.")
    endpoints = found.find(campaign.stack.data.path)
    vectors = campaign.stack.vectors

    async def run() -> tuple[list[uploading.Outcome], list[str], list[str]]:
        async with open_client(endpoints) as client:
            await asyncio.to_thread(vectors.kill)
            items = list(uploading.find_files([tmp_path], "away"))
            sent = asyncio.ensure_future(
                uploading.send(client, items, wait=True, on_done=lambda _: None)
            )
            await asyncio.sleep(AWAY_S)
            reasons = await paused_consumers(client, "query")
            await asyncio.to_thread(vectors.start)
            outcomes = await sent
            # One that looked just before the process came back looks again within seconds.
            deadline = time.monotonic() + LOOK_AGAIN_S
            while (paused := await paused_consumers(client, "query")) and (
                time.monotonic() < deadline
            ):
                await asyncio.sleep(0.2)
            return outcomes, reasons, paused

    outcomes, while_away, afterwards = asyncio.run(run())
    for item in outcomes:
        campaign.journal.begin(item.path, kind="upload", document=item.document)
        campaign.journal.end(item.path, accepted=False)
    assert while_away
    assert all(reason.startswith("VECTORS_") for reason in while_away)
    assert {outcome.state for outcome in outcomes} == {"INDEXED"}
    assert afterwards == []


@pytest.mark.timeout(300)
def test_losing_the_brokers_store_costs_time_and_nothing_else(campaign, tmp_path):
    """The store goes while documents are on their way; the reconciler sends their work again."""
    for number in range(DOCUMENTS):
        (tmp_path / f"lost-{number}.txt").write_text(f"Document {number} whose events are lost.")
    endpoints = found.find(campaign.stack.data.path)
    parts, nats = campaign.stack.parts, campaign.stack.nats
    inferences = [part for name, part in parts.items() if service_of(name) == "inference"]

    async def run() -> list[uploading.Outcome]:
        async with open_client(endpoints) as client:
            for inference in inferences:
                inference.freeze()
            items = list(uploading.find_files([tmp_path], "lost"))
            await uploading.send(client, items, wait=False, on_done=lambda _: None)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(nats.kill)
            await asyncio.to_thread(shutil.rmtree, nats.store)
            await asyncio.to_thread(nats.start)
            for inference in inferences:
                inference.thaw()
            return await uploading.send(client, items, wait=True, on_done=lambda _: None)

    outcomes = asyncio.run(run())
    for item in outcomes:
        campaign.journal.begin(item.path, kind="upload", document=item.document)
        campaign.journal.end(item.path, accepted=False)
    assert {(outcome.state, outcome.version) for outcome in outcomes} == {("INDEXED", 1)}
