"""Forwards received spans to another collector without delaying the trace store."""

import logging
import queue
import threading
from urllib.parse import urlsplit

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

QUEUE_MAX = 256
SEND_S = 5.0
_CLOSE_S = 2.0

log = logging.getLogger(__name__)


def parse_target(endpoint: str) -> tuple[str, bool]:
    """`host:port` of an OTLP/gRPC endpoint, and True if it uses TLS.

    Raises:
        ValueError: it is not `http://host:port`, `https://host:port` or `host:port`.
    """
    parts = urlsplit(endpoint if "//" in endpoint else f"http://{endpoint}")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port is None:
        raise ValueError(f"{endpoint!r} is not http://HOST:PORT")
    return parts.netloc, parts.scheme == "https"


class Forwarder:
    """Forwards requests from a queue of at most `QUEUE_MAX`.

    Requests are dropped if the queue is full or the collector is unavailable. The trace store keeps
    every span in any case.
    """

    def __init__(self, endpoint: str) -> None:
        target, secure = parse_target(endpoint)
        self._channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials())
            if secure
            else grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)])
        )
        self._export = TraceServiceStub(self._channel).Export  # type: ignore[no-untyped-call]
        self._waiting: queue.Queue[ExportTraceServiceRequest | None] = queue.Queue(QUEUE_MAX)
        self._away = False
        self._thread = threading.Thread(target=self._send_all, name="forward", daemon=True)
        self._thread.start()

    def forward(self, request: ExportTraceServiceRequest) -> None:
        """Queues a request; returns at once."""
        try:
            self._waiting.put_nowait(request)
        except queue.Full:
            self._note(away=True, why="the queue is full")

    def close(self) -> None:
        """Sends queued requests within two seconds, then stops."""
        try:
            self._waiting.put(None, timeout=_CLOSE_S)
        except queue.Full:
            log.warning("spans.not_forwarded", extra={"requests": self._waiting.qsize()})
        self._thread.join(_CLOSE_S)
        self._channel.close()

    def _send_all(self) -> None:
        while (request := self._waiting.get()) is not None:
            try:
                self._export(request, timeout=SEND_S)
            except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed
                self._note(away=True, why=repr(error))
            else:
                self._note(away=False)

    def _note(self, *, away: bool, why: str = "") -> None:
        """Logs the first failure and the first success after it."""
        if away and not self._away:
            log.warning("spans.not_forwarded", extra={"error": why})
        elif self._away and not away:
            log.info("spans.forwarded_again")
        self._away = away
