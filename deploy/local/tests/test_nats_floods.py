"""What clients can do to the event bus, and that other clients do not notice."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import nats as client
import pytest

from chassis.events import topology
from stack.guardian import Guardian
from stack.nats import LOG_MAX_BYTES, LOGS_MAX, Nats, NatsUser
from stack.nats_limits import (
    AUTHENTICATE_WITHIN_S,
    LIMITS,
    MAX_CONNECTIONS,
    MAX_CONTROL_LINE_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_PENDING_BYTES,
    MAX_SUBSCRIPTIONS,
)

MARGIN_S = 5.0
# Protocol 0: the server says nothing that was not asked for.
CONNECT = {"verbose": False, "pedantic": False, "protocol": 0, "headers": True}
UPLOADS = "aquifer.ingest.v1.DocumentUploaded.acme"
RESULTS = "aquifer.ingest.v1.DocumentIndexed.acme"
GRANTS = {
    "ingest": topology.permissions()["ingest"],
    "upstream": topology.upstream_permissions("acme"),
}


@pytest.fixture(scope="module")
def nats(module_folder: Path, guardian: Guardian) -> Iterator[Nats]:
    users = [
        NatsUser(name=name, password=name, publish=grant.publish, subscribe=grant.subscribe)
        for name, grant in GRANTS.items()
    ]
    with Nats(module_folder / "nats", users=users, guardian=guardian) as server:
        yield server


class Raw:
    """A connection that keeps to no protocol."""

    def __init__(self, nats: Nats, user: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", nats.port), timeout=20)
        self.lines = self.socket.makefile("rb")
        assert self.lines.readline().startswith((b"INFO ", b"-ERR "))
        if user:
            self.send(f"CONNECT {json.dumps(CONNECT | {'user': user, 'pass': user})}\r\nPING\r\n")
            assert self.lines.readline() == b"PONG\r\n"

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def read_end(self) -> list[bytes]:
        """What the server still says; it must end the connection."""
        said = []
        with suppress(ConnectionResetError):
            while line := self.lines.readline():
                said.append(line.strip())
        return said

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def raw(nats: Nats) -> Iterator[type[Raw]]:
    """Opens connections that end with the test."""
    with ExitStack() as stack:

        def open_raw(user: str = "") -> Raw:
            connection = Raw(nats, user)
            stack.callback(connection.close)
            return connection

        yield open_raw


async def check_service(nats: Nats) -> None:
    """A service connects, publishes and receives."""
    async with asyncio.timeout(MARGIN_S):
        connection = await client.connect(nats.url, user="ingest", password="ingest")
        try:
            await connection.publish(RESULTS, b"")
            await connection.flush()
        finally:
            await connection.close()


def test_the_server_has_the_limits(nats: Nats) -> None:
    state = nats.monitoring()
    named = ("max_payload", "max_connections", "max_control_line", "max_pending")
    assert {name: state[name] for name in named} == {name: LIMITS[name] for name in named}
    assert (state["max_subscriptions"], state["auth_timeout"]) == (MAX_SUBSCRIPTIONS, 2)
    assert (state["write_deadline"], state["ping_interval"]) == (10e9, 30e9)


@pytest.mark.parametrize(
    "beginning",
    ["", "CONNECT {", "PING\r\n" * 100, "\r\n" * 1_000],
    ids=["silent", "half a connect", "pings", "empty lines"],
)
async def test_a_connection_that_never_authenticates_is_ended(nats, raw, beginning) -> None:
    connections = [raw() for _ in range(50)]
    started = time.monotonic()
    for one in connections:
        one.send(beginning)
    await check_service(nats)
    for one in connections:
        said = await asyncio.to_thread(one.read_end)
        assert all(line.startswith((b"-ERR", b"PONG")) for line in said)
    assert time.monotonic() - started < AUTHENTICATE_WITHIN_S + MARGIN_S


@pytest.mark.parametrize(
    "sent",
    [
        b"CONNECT " + b"{" * MAX_CONTROL_LINE_BYTES * 4,
        b"x" * MAX_CONTROL_LINE_BYTES * 4,
        f"PUB {UPLOADS} 5\r\nhello\r\n".encode() * 100,
        b"CONNECT {}\r\n" + f"SUB {RESULTS} 1\r\n".encode() * 100,
    ],
    ids=["long connect", "long line", "publishes", "no credentials"],
)
async def test_what_comes_before_authentication_ends_the_connection(nats, raw, sent) -> None:
    raw_client = raw()
    with suppress(BrokenPipeError, ConnectionResetError):  # ended before all is sent
        raw_client.send(sent)
    said = await asyncio.to_thread(raw_client.read_end)
    assert all(line.startswith(b"-ERR") for line in said)
    await check_service(nats)


async def test_when_all_connections_are_taken_those_that_are_open_work(nats, raw) -> None:
    ingest = await client.connect(nats.url, user="ingest", password="ingest")
    upstream = raw("upstream")
    raw_clients = [raw() for _ in range(MAX_CONNECTIONS + 10)]
    assert raw_clients
    await ingest.flush()
    upstream.send("PING\r\n")
    assert upstream.lines.readline() == b"PONG\r\n"
    await ingest.close()
    # Their connections are closed, and their places are free again.
    async with asyncio.timeout(AUTHENTICATE_WITHIN_S + MARGIN_S):
        while nats.monitoring()["connections"] > 10:
            await asyncio.sleep(0.1)
    await check_service(nats)


@pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES + 1, 1 << 31, 10**30])
async def test_an_oversized_message_ends_its_connection(nats, raw, size) -> None:
    upstream = raw("upstream")
    upstream.send(f"PUB {UPLOADS} {size}\r\n" + "x" * 100)
    said = await asyncio.to_thread(upstream.read_end)
    assert all(line.startswith(b"-ERR") for line in said)
    await check_service(nats)


async def test_endless_messages_delay_nobody_else(nats, raw) -> None:
    upstream = raw("upstream")
    message = f"PUB {UPLOADS} 65536\r\n".encode() + b"x" * 65_536 + b"\r\n"

    def publish() -> None:
        for _ in range(2_000):
            upstream.send(message)

    flood = asyncio.create_task(asyncio.to_thread(publish))
    for _ in range(3):
        await check_service(nats)
    await flood
    assert nats.monitoring()["mem"] < 256 << 20


async def test_refused_messages_do_not_fill_the_disk(nats, raw) -> None:
    upstream = raw("upstream")
    drain = asyncio.create_task(asyncio.to_thread(upstream.read_end))
    refused = "PUB aquifer.ingest.v1.DocumentUploaded.other 0\r\n\r\n" * 1_000
    for _ in range(4 * LOG_MAX_BYTES // 100_000):  # each of them is a line of about 130 bytes
        await asyncio.to_thread(upstream.send, refused)
    await check_service(nats)
    logs = [file.stat().st_size for file in nats.log.parent.glob(f"{nats.log.name}*")]
    assert len(logs) > 1
    assert sum(logs) < (LOGS_MAX + 1) * LOG_MAX_BYTES + 1_000_000
    upstream.socket.shutdown(socket.SHUT_RDWR)
    await drain


@pytest.mark.parametrize(
    "wanted", [">", "*.>", "$SYS.>", "$JS.>", "aquifer.>", RESULTS.replace("acme", "*")]
)
async def test_a_wide_subscription_is_refused(nats, raw, wanted) -> None:
    upstream = raw("upstream")
    upstream.send(f"SUB {wanted} 1\r\nPING\r\n")
    assert upstream.lines.readline().startswith(b"-ERR 'Permissions Violation for Subscription")


@pytest.mark.parametrize("subject", ["_INBOX.{}", "_INBOX.{}.*", RESULTS])
async def test_a_connection_has_a_bounded_number_of_subscriptions(nats, raw, subject) -> None:
    upstream = raw("upstream")
    for number in range(MAX_SUBSCRIPTIONS + 5):
        upstream.send(f"SUB {subject.format(number)} {number}\r\n")
    upstream.send("PING\r\n")
    said = []
    while (line := await asyncio.to_thread(upstream.lines.readline)) not in (b"PONG\r\n", b""):
        said.append(line)
    assert len(said) == 5
    assert all(b"maximum subscriptions exceeded" in line.lower() for line in said)


async def test_a_subject_has_a_bounded_number_of_tokens(nats, raw) -> None:
    upstream = raw("upstream")
    upstream.send(f"SUB _INBOX{'.*' * 500} 1\r\n")
    assert b"-ERR" in await asyncio.to_thread(upstream.lines.readline)
    await check_service(nats)


async def test_a_reader_that_takes_nothing_is_cut(nats, raw) -> None:
    upstream = raw("upstream")
    upstream.send(f"SUB {RESULTS} 1\r\nPING\r\n")
    assert upstream.lines.readline() == b"PONG\r\n"
    ingest = await client.connect(nats.url, user="ingest", password="ingest")
    try:
        async with asyncio.timeout(60):
            while not nats.monitoring()["slow_consumers"]:
                await ingest.publish(RESULTS, bytes(1_000_000))
                await ingest.flush()
        assert nats.monitoring()["mem"] < 4 * MAX_PENDING_BYTES
    finally:
        await ingest.close()
    await check_service(nats)
