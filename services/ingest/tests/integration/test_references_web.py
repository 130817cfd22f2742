"""References over HTTP and HTTPS, against a real server."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from chassis.base.errors import ServiceError
from ingest.domain import Reference
from ingest.references import web as web_module
from ingest.references.origins import Origins
from ingest.references.reader import ReferenceReader
from ingest.references.web import REDIRECTS_MAX, WebReader
from services.ingest.tests.web_server import WebServer, make_certificate, serve
from stack.ports import free_ports

LOCAL = frozenset({"127.0.0.1", "localhost"})
CONTENT = os.urandom(300_000)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serve() as server:
        yield server


def reader(
    *origins: str,
    private: frozenset[str] = LOCAL,
    time_limit_s: float = 5,
    tls: ssl.SSLContext | None = None,
) -> ReferenceReader:
    opened = Origins.parse(" ".join(origins))
    web = WebReader(opened, private, time_limit_s=time_limit_s, tls=tls)
    return ReferenceReader(dict.fromkeys(("https", "http"), web))


def open_to(server: WebServer, **options) -> ReferenceReader:
    return reader(f"{server.scheme}://127.0.0.1:{server.port}", **options)


async def fetch(references: ReferenceReader, uri: str, size_bytes: int = 1 << 20) -> bytes:
    reference = Reference(uri=uri, sha256="0" * 64, size_bytes=size_bytes)
    async with aclosing(references.read(reference)) as pieces:
        return b"".join([piece async for piece in pieces])


async def fail(references: ReferenceReader, uri: str, size_bytes: int = 1 << 20) -> ServiceError:
    with pytest.raises(ServiceError) as refusal:
        await fetch(references, uri, size_bytes)
    return refusal.value


async def test_content_is_read_as_the_server_sends_it(server):
    server.put("/a?b=c%20d", CONTENT)
    assert await fetch(open_to(server), server.url("/a?b=c%20d")) == CONTENT
    [(path, headers)] = server.asked
    assert path == "/a?b=c%20d"
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert headers["Accept-Encoding"] == "identity"


async def test_https_is_read_and_its_certificate_checked(tmp_path):
    with serve(make_certificate(tmp_path, "localhost")) as server:
        server.put("/a", CONTENT)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        origins = [f"https://{host}:{server.port}" for host in LOCAL]
        uri = server.url("/a", "localhost")
        assert await fetch(reader(*origins, tls=trusting), uri) == CONTENT
        for references, host in (
            (reader(*origins), "localhost"),
            (reader(*origins, tls=trusting), "127.0.0.1"),
        ):
            error = await fail(references, server.url("/a", host))
            assert error.reason == "REFERENCE_UNAVAILABLE"
            assert "certificate" in error.detail
        assert len(server.asked) == 1


async def test_nothing_of_the_environment_is_used(server, monkeypatch):
    [nobody] = free_ports(1)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{nobody}")
    server.put("/a", CONTENT)
    assert await fetch(open_to(server), server.url("/a")) == CONTENT


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1"])
async def test_a_private_address_is_refused_unless_the_operator_names_the_host(server, host):
    server.put("/a", CONTENT)
    references = reader(f"http://*:{server.port}", private=frozenset())
    error = await fail(references, server.url("/a", host))
    assert error.reason == "REFERENCE_FORBIDDEN"
    assert "AQUIFER_REFERENCE_PRIVATE_HOSTS" in error.detail
    assert server.asked == []


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Name service whose answers change; the names it was asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object) -> list[tuple]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(web_module.socket, "getaddrinfo", getaddrinfo)
    return asked


async def test_one_private_address_among_public_ones_is_refused(server, monkeypatch):
    asked = resolve_to(monkeypatch, ["1.1.1.1", "127.0.0.1"])
    references = reader(f"http://*:{server.port}", private=frozenset())
    error = await fail(references, server.url("/a", "rebind.example"))
    assert error.reason == "REFERENCE_FORBIDDEN"
    assert asked == ["rebind.example"]
    assert server.asked == []


async def test_a_name_is_resolved_once_and_its_checked_address_is_connected_to(server, monkeypatch):
    """A second look would find another server."""
    server.put("/a", CONTENT)
    asked = resolve_to(monkeypatch, ["127.0.0.1"], ["127.0.0.99"])
    references = reader(f"http://*:{server.port}", private=frozenset({"rebind.example"}))
    assert await fetch(references, server.url("/a", "rebind.example")) == CONTENT
    assert asked == ["rebind.example"]


async def test_an_address_that_does_not_answer_is_not_the_last(server, monkeypatch):
    server.put("/a", CONTENT)
    resolve_to(monkeypatch, ["127.0.0.254", "127.0.0.1"])
    references = reader(f"http://*:{server.port}", private=frozenset({"two.example"}))
    assert await fetch(references, server.url("/a", "two.example")) == CONTENT


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_an_open_address_is_followed(server, status):
    server.put("/here", CONTENT)
    server.redirect("/a", "/there#part", status)
    server.redirect("/there", server.url("/here"), status)
    assert await fetch(open_to(server), server.url("/a")) == CONTENT


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/a",
        "http://elsewhere.example/a",
        "https://127.0.0.1/a",
        "//169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "s3://bucket/a",
        "http://user:secret@127.0.0.1/a",
        "ftp://a/b",
    ],
)
async def test_a_redirect_elsewhere_is_refused(server, location):
    server.redirect("/a", location)
    error = await fail(open_to(server), server.url("/a"))
    assert error.reason == "REFERENCE_FORBIDDEN"
    assert len(server.asked) == 1


async def test_a_redirect_to_a_private_address_is_refused(server):
    """The origin is open; the host is not one whose address may be private."""
    server.redirect("/a", server.url("/b", "localhost"))
    references = reader(f"http://*:{server.port}", private=frozenset({"127.0.0.1"}))
    assert (await fail(references, server.url("/a"))).reason == "REFERENCE_FORBIDDEN"
    assert len(server.asked) == 1


async def test_redirects_are_bounded(server):
    server.redirect("/a", "/a")
    error = await fail(open_to(server), server.url("/a"))
    assert error.reason == "REFERENCE_FORBIDDEN"
    assert len(server.asked) == REDIRECTS_MAX + 1
    server.put("/none", b"", 302)
    assert (await fail(open_to(server), server.url("/none"))).reason == "REFERENCE_UNAVAILABLE"


async def test_cookies_are_not_kept(server):
    server.put("/b", CONTENT)
    server.put("/a", b"", 302, Location="/b", **{"Set-Cookie": "a=b"})
    await fetch(open_to(server), server.url("/a"))
    assert all("Cookie" not in headers for _, headers in server.asked)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        *((status, "REFERENCE_MISSING") for status in (400, 401, 403, 404, 410, 451)),
        *((status, "REFERENCE_UNAVAILABLE") for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, "REFERENCE_UNAVAILABLE") for status in (204, 206, 304)),
    ],
)
async def test_an_answer_without_content_has_a_reason(server, status, reason):
    server.put("/a", b"", status)
    error = await fail(open_to(server), server.url("/a"))
    assert error.reason == reason
    assert str(status) in error.detail


async def test_no_more_is_read_than_the_reference_says(server):
    server.put("/long", CONTENT)
    assert await fetch(open_to(server), server.url("/long"), len(CONTENT)) == CONTENT
    error = await fail(open_to(server), server.url("/long"), len(CONTENT) - 1)
    assert error.reason == "REFERENCE_MISMATCH"


async def test_an_endless_answer_ends_with_the_size(server):
    server.drip("/endless", bytes(100_000), every_s=0.001)
    began = time.monotonic()
    error = await fail(open_to(server, time_limit_s=60), server.url("/endless"), 1_000_000)
    assert error.reason == "REFERENCE_MISMATCH"
    assert time.monotonic() - began < 20


async def test_a_content_length_that_lies_is_noticed(server):
    server.put("/short", b"some", **{"Content-Length": "100"})
    assert (await fail(open_to(server), server.url("/short"))).reason == "REFERENCE_UNAVAILABLE"
    server.put("/long", b"some more", **{"Content-Length": "4"})
    assert await fetch(open_to(server), server.url("/long")) == b"some"


@pytest.mark.parametrize("page", ["/drip", "/hang"])
async def test_the_time_of_a_fetch_is_bounded(server, page):
    server.drip("/drip")
    server.hang("/hang")
    began = time.monotonic()
    error = await fail(open_to(server, time_limit_s=0.5), server.url(page))
    assert error.reason == "REFERENCE_UNAVAILABLE"
    assert time.monotonic() - began < 5


async def test_the_time_the_caller_takes_ends_no_caller(server):
    """The limit ends the fetch, with a reason; it never cancels what the caller does meanwhile."""
    server.drip("/drip")
    reference = Reference(uri=server.url("/drip"), sha256="0" * 64, size_bytes=1 << 20)
    with pytest.raises(ServiceError) as refusal:
        async for _ in open_to(server, time_limit_s=0.3).read(reference):
            await asyncio.sleep(0.5)
    assert refusal.value.reason == "REFERENCE_UNAVAILABLE"


async def test_a_server_that_is_not_there_has_a_reason(server):
    [nobody] = free_ports(1)
    for uri in (f"http://127.0.0.1:{nobody}/a", f"http://no-such-host.invalid:{nobody}/a"):
        error = await fail(reader(f"http://*:{nobody}"), uri)
        assert error.reason == "REFERENCE_UNAVAILABLE"


async def test_what_is_no_http_has_a_reason():
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n" * 3)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        error = await fail(reader(f"http://127.0.0.1:{port}"), f"http://127.0.0.1:{port}/")
    assert error.reason == "REFERENCE_UNAVAILABLE"


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_connection_is_left_open(server):
    server.put("/a", CONTENT)
    server.redirect("/b", "/a")
    before = count_descriptors()
    for path, size in (("/a", 1 << 20), ("/a", 10), ("/b", 1 << 20), ("/none", 1)):
        try:
            await fetch(open_to(server), server.url(path), size)
        except ServiceError:
            continue
    async with asyncio.timeout(5):
        while count_descriptors() > before:
            await asyncio.sleep(0.02)
