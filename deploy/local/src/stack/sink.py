"""A small trace store: receives OTLP over gRPC, offers the query API of Grafana Tempo.

python -m stack.sink --otlp 127.0.0.1:4317 --http 127.0.0.1:3200 --database traces.sqlite
"""

import argparse
import logging
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from typing_extensions import override

from chassis.base import logs
from stack.forward import Forwarder, parse_target
from stack.spans import SpanStore
from stack.tempo import TempoServer

MAX_SPANS = 200_000
_MESSAGE_BYTES = 16 << 20
_THREADS = 4
_GRACE_S = 2.0
_STOP = {signal.SIGTERM, signal.SIGINT}
_LOOPBACK = {"127.0.0.1", "localhost"}

log = logging.getLogger(__name__)


class TraceReceiver(TraceServiceServicer):
    """The OTLP service; it may respond before spans are on disk."""

    def __init__(self, store: SpanStore, forwarder: Forwarder | None) -> None:
        self._store = store
        self._forwarder = forwarder

    @override
    def Export(self, request: ExportTraceServiceRequest, context: Any) -> Any:
        if self._forwarder:
            self._forwarder.forward(request)
        refused = self._store.add(request.resource_spans)
        if not refused:
            return ExportTraceServiceResponse()
        return ExportTraceServiceResponse(
            partial_success=ExportTracePartialSuccess(
                rejected_spans=refused,
                error_message="a trace id has 16 bytes, a span id 8, a time 63 bits",
            )
        )


def serve(
    *,
    otlp: tuple[str, int],
    http: tuple[str, int],
    database: Path,
    max_spans: int = MAX_SPANS,
    forward: str | None = None,
) -> None:
    """Serves both ports until SIGTERM or SIGINT, then finishes running requests and closes."""
    # Before any thread exists, so that only `sigwait` below receives the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    store = SpanStore(database, max_spans=max_spans)
    forwarder = Forwarder(forward) if forward else None
    receiver = grpc.server(
        ThreadPoolExecutor(_THREADS),
        options=[("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.so_reuseport", 0)],
    )
    add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        TraceReceiver(store, forwarder), receiver
    )
    receiver.add_insecure_port("{}:{}".format(*otlp))
    api = TempoServer(http, store)
    answering = threading.Thread(target=api.serve_forever, name="tempo")
    receiver.start()
    answering.start()
    log.info("sink.ready")
    signal.sigwait(_STOP)
    receiver.stop(_GRACE_S).wait()
    if forwarder:
        forwarder.close()
    api.shutdown()
    answering.join()
    api.server_close()
    store.close()


def loopback(text: str) -> tuple[str, int]:
    """Host and port of a loopback address; traces contain names of documents."""
    host, _, port = text.rpartition(":")
    if host not in _LOOPBACK or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not 127.0.0.1:PORT")
    return host, int(port)


def endpoint(text: str) -> str:
    """Checks and returns an OTLP/gRPC endpoint."""
    try:
        parse_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def main(arguments: list[str]) -> None:
    """Parses the command line and serves."""
    parser = argparse.ArgumentParser(prog="python -m stack.sink", description=__doc__)
    parser.add_argument("--otlp", type=loopback, required=True, help="address for OTLP over gRPC")
    parser.add_argument("--http", type=loopback, required=True, help="address of the query API")
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--forward", type=endpoint, help="another OTLP collector")
    parser.add_argument("--max-spans", type=int, default=MAX_SPANS)
    options = parser.parse_args(arguments)
    logs.start("traces")
    serve(
        otlp=options.otlp,
        http=options.http,
        database=options.database,
        max_spans=options.max_spans,
        forward=options.forward,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
