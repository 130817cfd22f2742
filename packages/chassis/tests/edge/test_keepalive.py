"""Clients that ping at the pace we promise keep their connection; a flood of pings ends it.

The intervals of both sides are shortened by the same factor. grpcio's own client does not ping
more often than once a second, so the floods come from a socket.
"""

import asyncio
import struct
from contextlib import asynccontextmanager

import grpc
import pytest

from chassis.rpc import channel as channels
from chassis.rpc import server as servers

PROMISED_S, OUR_CHANNELS_S = 10, 30
SHORTEST_S = 1.0
# The server ends a connection at the third ping that comes too early.
SILENT_S = 4.4 * SHORTEST_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ENHANCE_YOUR_CALM = 11


def hasten(options, factor):
    """The options with every interval shortened; how long an answer may take stays."""
    return [
        (name, round(value / factor) if name.endswith("_ms") and "timeout" not in name else value)
        for name, value in options
    ]


@pytest.fixture
def hasty_server(monkeypatch):
    """Before the fixture `edge`, which makes the server."""
    options = hasten(servers.SERVER_OPTIONS, PROMISED_S / SHORTEST_S)
    monkeypatch.setattr(servers, "SERVER_OPTIONS", options)


@asynccontextmanager
async def pinging(address):
    """A client of somebody else, that pings with and without calls in flight."""
    options = [
        ("grpc.keepalive_time_ms", round(SHORTEST_S * 1_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        await asyncio.wait_for(channel.channel_ready(), 20)
        yield channel


async def silent_call(edge, channel):
    """A stream whose server says nothing for a while, then ends it."""

    async def does():
        await asyncio.sleep(SILENT_S)

    edge.echo.does = does
    return await edge.call(channel, "Download", metadata=edge.bearer())


async def test_pings_without_a_call_hold(hasty_server, edge):
    async with pinging(edge.address) as channel:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                channel.wait_for_state_change(grpc.ChannelConnectivity.READY), SILENT_S
            )


async def test_pings_during_a_silent_call_hold(hasty_server, edge):
    async with pinging(edge.address) as channel:
        assert await silent_call(edge, channel) == "a b"


async def test_our_own_channels_hold_through_a_long_silence(hasty_server, edge, monkeypatch):
    options = hasten(channels._options(()), OUR_CHANNELS_S / SHORTEST_S)
    assert ("grpc.keepalive_time_ms", SHORTEST_S * 1_000) in options
    monkeypatch.setattr(channels, "_options", lambda _: options)
    assert await silent_call(edge, await edge.open_channel()) == "a b"


def frame(kind, payload=b"", flags=0):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload


async def read_frame(reader):
    header = await reader.readexactly(9)
    return header[3], await reader.readexactly(int.from_bytes(header[:3]))


async def ping_until_refused(port, every_s):
    """How many pings of a connection without a call are answered, and the code that ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + frame(SETTINGS))

    async def ping():
        while True:
            writer.write(frame(PING, bytes(8)))
            await asyncio.sleep(every_s)

    pings, answered = asyncio.create_task(ping()), 0
    try:
        while True:
            kind, payload = await asyncio.wait_for(read_frame(reader), 20)
            answered += kind == PING
            if kind == GOAWAY and (code := int.from_bytes(payload[4:8])):
                return answered, code
    finally:
        pings.cancel()
        writer.close()


@pytest.mark.parametrize("every_s", [0.001, 0.02, 0.2])
async def test_a_flood_of_pings_ends_the_connection(hasty_server, edge, every_s):
    answered, code = await ping_until_refused(edge.port, every_s)
    assert code == ENHANCE_YOUR_CALM
    assert answered < 10


async def test_a_flood_is_refused_at_the_real_intervals_too(edge):
    _, code = await ping_until_refused(edge.port, 1.0)
    assert code == ENHANCE_YOUR_CALM
