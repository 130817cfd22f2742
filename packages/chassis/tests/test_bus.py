"""Publishing: acknowledged or an error, and never more at once than the broker keeps up with."""

import asyncio

from aquifer.ingest.v1.document_events_pb2 import DocumentFailed
from chassis.events.bus import WINDOW_EVENTS
from chassis.events.envelope import encode_event
from chassis.events.topology import stream_name
from testkit.servers import TestBus


async def test_of_many_events_only_some_are_on_their_way_at_once(bus: TestBus):
    events = [
        encode_event(DocumentFailed(tenant="acme", version=number), event_id=f"e{number}")
        for number in range(20 * WINDOW_EVENTS + 1)
    ]
    async with bus.connect("ingest") as own:
        publishing = asyncio.ensure_future(own.publish_all(events))
        most = 0
        while not publishing.done():
            await asyncio.sleep(0)
            most = max(most, own.jetstream.publish_async_pending())
        await publishing
    assert 1 < most <= WINDOW_EVENTS
    async with bus.connect("provisioner") as admin:
        info = await admin.jetstream.stream_info(stream_name(DocumentFailed))
    assert info.state.messages == len(events)
