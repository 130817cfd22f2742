"""A broker without space accepts nothing, keeps what it acknowledged, then works again."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from chassis.events import topology
from stack.guardian import Guardian
from stack.nats import Nats
from testkit.servers import TestBus, start_bus
from tests.faults.space import disk_is_full, has_recovered, streams_are_full

SUBJECT = topology.subject(ChunksPrepared, "default")
STREAM = topology.stream_name(ChunksPrepared)
ACK_S = 1.0
EVENT_BYTES = 20_000


@pytest.fixture
def broker(guardian: Guardian) -> Iterator[TestBus]:
    """A broker of its own, for it is broken on purpose."""
    with tempfile.TemporaryDirectory(prefix="aquifer-full-") as folder:
        with start_bus(Path(folder), guardian) as bus:
            asyncio.run(bus.provision())
            yield bus


async def publish(js: JetStreamContext, count: int = 1) -> None:
    for _ in range(count):
        await js.publish(SUBJECT, os.urandom(EVENT_BYTES), timeout=ACK_S)


async def kept(broker: TestBus) -> int:
    async with broker.connect("provisioner") as bus:
        return int((await bus.jetstream.stream_info(STREAM)).state.messages)


@pytest.mark.parametrize("before", [0, 1, 12])
async def test_a_full_disk_refuses_and_keeps(broker, before):
    nats: Nats = broker.server
    async with broker.connect("ingest") as bus:
        await publish(bus.jetstream, before)
        with disk_is_full(nats):
            with pytest.raises(NatsError):
                await publish(bus.jetstream)
        assert not has_recovered(nats), "a stream that failed to write stays out of service"
        with pytest.raises(NatsError):
            await publish(bus.jetstream)
    nats.restart()
    assert has_recovered(nats)
    async with broker.connect("ingest") as bus:
        await publish(bus.jetstream)
    assert await kept(broker) == before + 1


async def test_a_disk_is_full_only_for_the_process_that_runs(broker):
    nats: Nats = broker.server
    with disk_is_full(nats):
        nats.kill()
        nats.start()
        async with broker.connect("ingest") as bus:
            await publish(bus.jetstream)
    nats.kill()
    with disk_is_full(nats):
        nats.start()
    assert await kept(broker) == 1


@pytest.mark.parametrize("before", [0, 1, 12])
async def test_full_streams_refuse_and_keep(broker, before):
    async with broker.connect("ingest") as bus:
        await publish(bus.jetstream, before)
        async with streams_are_full(broker.server):
            with pytest.raises(APIError) as refused:
                await publish(bus.jetstream)
            assert await kept(broker) == before
        assert refused.value.err_code == 10077
        await publish(bus.jetstream)
    assert await kept(broker) == before + 1


async def test_streams_get_their_bounds_back_from_a_broker_that_was_down(broker):
    nats: Nats = broker.server
    async with streams_are_full(nats):
        nats.kill()
        asyncio.get_running_loop().call_later(1.0, nats.spawn)
    bounds = {stream.name: stream.max_bytes for stream in topology.streams()}
    async with broker.connect("provisioner") as bus:
        infos = await bus.jetstream.streams_info()
    assert {str(info.config.name): info.config.max_bytes for info in infos} == bounds
