"""Metrics that every service exports.

Labels contain events, consumers, stages, methods, codes and tenants, never documents.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
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
    "Time from a delivery to its settlement.",
    _EVENT,
    buckets=_SECONDS,
    registry=REGISTRY,
)
EVENT_QUEUE_AGE_SECONDS = Histogram(
    "aquifer_event_queue_age_seconds",
    "Time that an event was in its stream.",
    _EVENT,
    buckets=_AGE_SECONDS,
    registry=REGISTRY,
)
RPC_SECONDS = Histogram(
    "aquifer_rpc_duration_seconds",
    "Duration of a served call, from request to status.",
    ("method", "code"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
BACKLOG = Gauge("aquifer_backlog", "Documents waiting in a stage.", _STAGE, registry=REGISTRY)
OLDEST_AGE_SECONDS = Gauge(
    "aquifer_oldest_age_seconds",
    "Age of the oldest document that waits in a stage; alert on this, not on depth.",
    _STAGE,
    registry=REGISTRY,
)
DEAD_LETTERS = Gauge(
    "aquifer_dead_letters",
    "Dead letters of this service that wait for an operator.",
    registry=REGISTRY,
)
