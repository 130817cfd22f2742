"""The HTTP server of a process: its metrics, and whether it is started, ready and alive.

| path | 200 | otherwise |
|---|---|---|
| `/startupz` | it was ready once | 503 with the reasons |
| `/readyz` | it is ready, as the gRPC health service says | 503 with the reasons |
| `/livez` | its event loop answers, or it was not ready yet | 503 |
| `/metrics` | always | |
"""

import asyncio
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import MetricsHandler
from typing_extensions import override

from chassis.base.metrics import REGISTRY

# A loop that is silent for so long is counted as hung; probes have to wait longer.
ANSWER_S: Final = 3.0
REQUEST_S: Final = 10.0
HUNG: Final = "event loop does not answer"


class Readiness:
    """Why a process is not ready, for its health service and its probes."""

    def __init__(self) -> None:
        self._reasons: Sequence[str] = ("starting",)
        self._was_ready = False
        self._draining = False

    @property
    def reasons(self) -> Sequence[str]:
        """Empty when the process is ready."""
        return self._reasons

    @property
    def was_ready(self) -> bool:
        """Whether it was ready once."""
        return self._was_ready

    def set(self, reasons: Sequence[str]) -> None:
        """Sets the reasons; ignored while the process drains."""
        if not self._draining:
            self._reasons = reasons
            self._was_ready = self._was_ready or not reasons

    def drain(self) -> None:
        """Not ready from now on, because the process ends."""
        self.set(("draining",))
        self._draining = True


@dataclass(frozen=True, slots=True)
class ProbeServer:
    """A running server, in threads of its own: it answers while the event loop does not."""

    server: ThreadingHTTPServer
    thread: threading.Thread

    @property
    def port(self) -> int:
        return self.server.server_port

    def close(self) -> None:
        """Stops the server and frees the port."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def serve(listen: str, readiness: Readiness, loop: asyncio.AbstractEventLoop) -> ProbeServer:
    """Serves the metrics, and the probes of the process with that loop, on `host:port`.

    An empty host means 127.0.0.1; port 0 means any free port.

    Raises:
        OSError: the address is in use; the process should not start.
    """
    host, _, port = listen.rpartition(":")
    address = (host.strip("[]") or "127.0.0.1", int(port))
    [family, *_], *_ = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)

    class Server(ThreadingHTTPServer):
        address_family = family

    class Handler(_Handler):
        probes = _Probes(readiness, loop)

    server = Server(address, Handler)
    thread = threading.Thread(target=server.serve_forever, name="probes", daemon=True)
    thread.start()
    return ProbeServer(server, thread)


class _Probes:
    """What each probe says, called by the threads of the server."""

    def __init__(self, readiness: Readiness, loop: asyncio.AbstractEventLoop) -> None:
        self._readiness = readiness
        self._loop = loop

    def find_problems(self, path: str) -> Sequence[str] | None:
        """Why a probe fails, empty when it succeeds; None: there is no such probe."""
        match path:
            case "/startupz":
                return () if self._readiness.was_ready else self._readiness.reasons
            case "/readyz":
                return self._readiness.reasons or self._find_hang()
            case "/livez":
                # A start may block the loop, and is watched by the startup probe.
                return self._find_hang() if self._readiness.was_ready else ()
        return None

    def _find_hang(self) -> Sequence[str]:
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        return () if answered.wait(ANSWER_S) else (HUNG,)


class _Handler(MetricsHandler):
    registry = REGISTRY
    timeout = REQUEST_S
    probes: _Probes

    @override
    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/metrics":
            super().do_GET()
        elif (problems := self.probes.find_problems(path)) is None:
            self._answer(404, ("no such path",))
        else:
            self._answer(503 if problems else 200, problems or ("ok",))

    def _answer(self, status: int, lines: Sequence[str]) -> None:
        body = "".join(f"{line}\n" for line in lines).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
