"""Metrics every service has, and the port they are read from.

Labels name events, consumers, stages, methods, codes and tenants; never a document.
"""

import threading
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_EVENT = ("event", "consumer")
_STAGE = ("stage", "tenant")
_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)
_AGE_SECONDS = (0.01, 0.1, 1, 5, 15, 60, 300, 1_800, 7_200, 86_400)

EVENTS = Counter(
    "aquifer_events",
    "Deliveries settled, by outcome: handled, retried, failed or dead.",
    (*_EVENT, "outcome"),
    registry=REGISTRY,
)
EVENT_SECONDS = Histogram(
    "aquifer_event_duration_seconds",
    "Time a delivery took to settle.",
    _EVENT,
    buckets=_SECONDS,
    registry=REGISTRY,
)
EVENT_QUEUE_AGE_SECONDS = Histogram(
    "aquifer_event_queue_age_seconds",
    "Time an event lay in its stream.",
    _EVENT,
    buckets=_AGE_SECONDS,
    registry=REGISTRY,
)
RPC_SECONDS = Histogram(
    "aquifer_rpc_duration_seconds",
    "Time from request to status of a call served here.",
    ("method", "code"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
BACKLOG = Gauge("aquifer_backlog", "Documents waiting in a stage.", _STAGE, registry=REGISTRY)
OLDEST_AGE_SECONDS = Gauge(
    "aquifer_oldest_age_seconds",
    "Age of the document waiting longest in a stage; alert on this, not on depth.",
    _STAGE,
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge(
    "aquifer_dead_letters",
    "Dead letters of this service that wait for an operator.",
    registry=REGISTRY,
)


@dataclass(frozen=True, slots=True)
class MetricsPort:
    """A running `/metrics` endpoint."""

    server: WSGIServer
    thread: threading.Thread

    @property
    def port(self) -> int:
        return self.server.server_port

    def close(self) -> None:
        """Stop answering and free the port."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def serve(listen: str) -> MetricsPort:
    """Serve `/metrics` on `host:port`, on a thread of its own.

    An empty host means loopback; port 0 takes a free one.

    Raises:
        OSError: the address is taken; the process should not start.
    """
    host, _, port = listen.rpartition(":")
    server, thread = start_http_server(
        int(port), addr=host.strip("[]") or "127.0.0.1", registry=REGISTRY
    )
    return MetricsPort(server, thread)
