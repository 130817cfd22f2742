"""A web server of an upstream system: upload events refer to its pages.

At times it refuses, is slow, or breaks off, as web servers do.
"""

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from typing_extensions import override

from stack.ports import LOOPBACK

REFUSED = 0.15
BROKEN_OFF = 0.1
SLOW = 0.1
SLOW_S = 0.5


@dataclass(slots=True)
class Pages:
    """What the server has, by path."""

    origin: str
    contents: dict[str, bytes] = field(default_factory=dict)

    def publish(self, content: bytes) -> str:
        """Makes content available; returns its address."""
        path = f"/{uuid.uuid4().hex}"
        self.contents[path] = content
        return f"{self.origin}{path}"


@contextmanager
def running_web_server(seed: int) -> Iterator[Pages]:
    """A server on a free port of the loopback address, with troubles drawn from the seed."""
    dice = random.Random(seed)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = pages.contents.get(self.path)
            choice = dice.random()
            if content is None or choice < REFUSED:
                self.send_error(404 if content is None else 503)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if choice < REFUSED + BROKEN_OFF:
                content = content[: len(content) // 2]
            elif choice < REFUSED + BROKEN_OFF + SLOW:
                time.sleep(SLOW_S)
            self._send(content)

        def _send(self, content: bytes) -> None:
            try:
                self.wfile.write(content)
            except ConnectionError:
                self.close_connection = True  # the client was killed

        @override
        def log_message(self, format: str, *args: object) -> None:
            """What the services do is in the journal."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        server.daemon_threads = True
        pages = Pages(f"http://{LOOPBACK}:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield pages
        finally:
            server.shutdown()
