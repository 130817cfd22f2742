import asyncio
import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats as client
import pytest
from nats.js.errors import APIError

from chassis.base.errors import UnavailableError
from stack.guardian import Guardian
from stack.nats import Nats, NatsUser

USERS = (
    NatsUser(name="admin", password='a"d\\m in$1', publish=(">",), subscribe=(">",)),
    NatsUser(name="narrow", password="n", publish=("own.*",), subscribe=("_INBOX_narrow.>",)),
    NatsUser(name="mute", password="007", publish=(), subscribe=()),
)


@pytest.fixture(scope="module")
def nats(module_folder: Path, guardian: Guardian) -> Iterator[Nats]:
    with Nats(module_folder / "nats", users=USERS, guardian=guardian) as server:
        yield server


@asynccontextmanager
async def connect(nats: Nats, user: NatsUser, **options):
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    connection = await client.connect(
        nats.url,
        user=user.name,
        password=user.password,
        error_cb=on_error,
        allow_reconnect=False,
        connect_timeout=20,
        **options,
    )
    connection.refused = refused
    try:
        yield connection
    finally:
        await connection.close()


async def wait_for_refusals(connection, count: int) -> None:
    """The server answers in order, the client reports wait_for_refusals a moment after."""
    await connection.flush()
    async with asyncio.timeout(20):
        while len(connection.refused) < count:
            await asyncio.sleep(0.01)


async def test_an_acknowledged_message_survives_kill_minus_9(nats: Nats):
    async with connect(nats, USERS[0]) as connection:
        jetstream = connection.jetstream()
        await jetstream.add_stream(name="KEPT", subjects=["kept.>"])
        acknowledged = await jetstream.publish("kept.1", b"soaked in")
    first = nats.pid
    nats.kill()
    assert nats.exit_code == -9
    nats.start()
    assert nats.pid != first
    async with connect(nats, USERS[0]) as connection:
        found = await connection.jetstream().get_msg("KEPT", acknowledged.seq)
    assert found.data == b"soaked in"


def test_monitoring_reports_that_every_write_is_synced(nats: Nats):
    assert nats.monitoring("/jsz")["config"]["sync_always"] is True
    version = nats.monitoring()["version"]
    assert tuple(map(int, version.split("."))) >= (2, 12, 0)
    assert nats.monitoring()["max_payload"] == 1 << 20


def test_it_listens_on_loopback_alone(nats: Nats):
    state = nats.monitoring()
    assert (state["host"], state["http_host"]) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize(
    "credentials", [{}, {"user": "admin", "pass": "wrong"}, {"user": "unknown", "pass": "n"}]
)
def test_wrong_credentials_are_refused(nats: Nats, credentials: dict[str, str]):
    with socket.create_connection(("127.0.0.1", nats.port), timeout=20) as raw:
        lines = raw.makefile("rb")
        assert lines.readline().startswith(b"INFO ")
        raw.sendall(f"CONNECT {json.dumps(credentials)}\r\nPING\r\n".encode())
        assert lines.readline() == b"-ERR 'Authorization Violation'\r\n"
        assert lines.readline() == b""


async def test_a_user_publishes_and_hears_only_what_it_was_granted(nats: Nats):
    async with connect(nats, USERS[0]) as admin, connect(nats, USERS[1]) as narrow:
        heard = await admin.subscribe(">")
        await admin.flush()
        await narrow.publish("foreign.1", b"")
        await narrow.publish("own.1", b"")
        await narrow.publish("$JS.API.STREAM.NAMES", b"")
        await narrow.subscribe("own.1")
        await narrow.flush()
        assert (await heard.next_msg(timeout=20)).subject == "own.1"
        with pytest.raises(client.errors.TimeoutError):
            await heard.next_msg(timeout=0.1)
        await wait_for_refusals(narrow, 3)
    assert [words.split('"')[1].lower() for words in narrow.refused] == [
        "foreign.1",
        "$js.api.stream.names",
        "own.1",
    ]


async def test_a_user_without_grants_may_do_nothing(nats: Nats):
    async with connect(nats, USERS[2]) as mute:
        await mute.publish("own.1", b"")
        await mute.subscribe("own.1")
        await wait_for_refusals(mute, 2)
    assert all("permissions violation" in words.lower() for words in mute.refused)


async def test_a_frozen_server_goes_on_where_it_was(nats: Nats):
    nats.freeze()
    try:
        assert not nats.is_ready()
    finally:
        nats.thaw()
    async with connect(nats, USERS[0]) as connection:
        await connection.flush(timeout=20)
    assert nats.is_ready()


def test_passwords_are_written_for_the_owner_alone(nats: Nats):
    configuration = nats.folder / "server.conf"
    assert configuration.stat().st_mode & 0o777 == 0o600
    assert configuration.stat().st_uid == os.geteuid()
    assert "007" not in repr(USERS[2])


def test_a_port_taken_by_another_server_is_a_clear_failure(
    nats: Nats, folder: Path, guardian: Guardian
):
    other = Nats(folder / "nats", users=USERS, guardian=guardian, port=nats.port)
    with pytest.raises(UnavailableError, match="address already in use") as refused:
        other.start()
    assert refused.value.reason == "PART_NOT_READY"
    assert other.pid is None


async def test_a_server_whose_disk_was_full_is_to_be_started_again(nats: Nats):
    """It never writes again by itself, also when there is space; what was acknowledged is kept."""
    async with connect(nats, USERS[0]) as connection:
        jetstream = connection.jetstream(timeout=1)
        await jetstream.add_stream(name="FULL", subjects=["full.>"])
        acknowledged = await jetstream.publish("full.1", b"kept")
        assert nats.is_responding()
        _, most = resource.prlimit(nats.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(nats.pid, resource.RLIMIT_FSIZE, (1, most))
        with pytest.raises((client.errors.TimeoutError, APIError)):
            await jetstream.publish("full.2", b"lost")
        resource.prlimit(nats.pid, resource.RLIMIT_FSIZE, (most, most))
        assert not nats.is_responding()
    nats.kill()
    nats.start()
    assert nats.is_responding()
    async with connect(nats, USERS[0]) as connection:
        found = await connection.jetstream().get_msg("FULL", acknowledged.seq)
    assert found.data == b"kept"
