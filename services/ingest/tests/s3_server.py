"""A real S3 server (moto's) in its own process, and the variables that lead to it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

from stack.ports import free_ports

START_S = 60.0


@contextmanager
def serve_s3() -> Iterator[dict[str, str]]:
    """Runs the server; returns the variables AWS_* with which buckets are opened."""
    [port] = free_ports(1)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            _wait_for(port)
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test-secret",
            }
        finally:
            server.terminate()


def make_bucket(environment: dict[str, str], bucket: str) -> None:
    connection = HTTPConnection(environment["AWS_ENDPOINT_URL"].removeprefix("http://"), timeout=10)
    connection.request("PUT", f"/{bucket}")
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 200


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/moto-api/")
            connection.getresponse().read()
        except OSError:
            assert time.monotonic() < deadline, "the S3 server does not start"
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
