"""Traces: export of spans, their attributes, and trace context between processes."""

import threading
import uuid
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from typing_extensions import override

TRACER_NAME = "aquifer"
EXPORT_TIMEOUT_S = 2
EXPORT_DELAY_MS = 500
QUEUE_MAX_SPANS = 8_192
SHUTDOWN_MAX_S = 3.0
# Calls that every process makes all the time; their traces would hide those of users.
POLLS: Final = frozenset({"aquifer.auth.v1.AuthService/ListRevocations"})

# W3C trace context only: the baggage of callers is neither read nor forwarded.
_propagator = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The tenant and document of the current work, added to its spans, logs and events."""

    tenant: str
    document: str | None = None


_scope: ContextVar[Scope | None] = ContextVar("chassis_scope", default=None)


def scope() -> Scope | None:
    """The innermost `document_scope`; None outside one."""
    return _scope.get()


@contextmanager
def document_scope(tenant: str, document: str | None = None) -> Iterator[None]:
    """Sets the tenant, and the document if there is only one, for spans and logs.

    Also sets the attributes of the current span. This grants no access.
    """
    entered = Scope(tenant=tenant, document=document)
    token = _scope.set(entered)
    _set_attributes(trace.get_current_span(), entered)
    try:
        yield
    finally:
        _scope.reset(token)


def _set_attributes(span: trace.Span, about: Scope) -> None:
    span.set_attribute("tenant.id", about.tenant)
    if about.document is not None:
        span.set_attribute("document.id", about.document)


class ScopeProcessor(SpanProcessor):
    """Copies the current `Scope` to every span when it starts."""

    @override
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if (about := _scope.get()) is not None:
            _set_attributes(span, about)


def extract(carrier: Mapping[str, object]) -> Context:
    """The remote parent from `traceparent` in headers or metadata; empty if there is none.

    Starts from an empty context, so it contains nothing of the current span.
    """
    names = {key: value for key in _propagator.fields if isinstance(value := carrier.get(key), str)}
    return _propagator.extract(names, context=Context())


def inject(carrier: MutableMapping[str, str], context: Context | None = None) -> None:
    """Writes `traceparent` and `tracestate` of a context, by default the current one."""
    _propagator.inject(carrier, context=context)


class _ExceptPolls(Sampler):
    """Drops the spans of `POLLS`; `rest` decides about all others."""

    def __init__(self, rest: Sampler) -> None:
        self._rest = rest

    @override
    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if name in POLLS:
            return SamplingResult(Decision.DROP)
        return self._rest.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    @override
    def get_description(self) -> str:
        return f"ExceptPolls{{{self._rest.get_description()}}}"


def sampler(ratio: float) -> Sampler:
    """A sampler that keeps `ratio` of the traces, the same ones in every process.

    A local parent decides for its children. For a remote parent the trace id decides, not its flag:
    callers cannot switch recording on or off, and a trace is still kept as a whole. `POLLS` are
    never recorded.
    """
    by_id = _ExceptPolls(TraceIdRatioBased(ratio))
    return ParentBased(by_id, remote_parent_sampled=by_id, remote_parent_not_sampled=by_id)


class Telemetry:
    """The tracer provider of the process, until `shutdown`."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self.tracer = provider.get_tracer(TRACER_NAME)

    def shutdown(self) -> None:
        """Exports queued spans and stops; blocks for at most `SHUTDOWN_MAX_S`.

        If the collector is unavailable, the rest is dropped: telemetry never delays a restart.
        """
        flush = threading.Thread(target=self.provider.shutdown, name="telemetry-flush", daemon=True)
        flush.start()
        flush.join(SHUTDOWN_MAX_S)


def start(
    service: str,
    otlp_endpoint: str,
    sample_ratio: float = 1.0,
    *,
    version: str = "unknown",
    instance: str = "",
) -> Telemetry:
    """Creates the tracer provider of the process and installs it globally.

    Args:
        service: `service.name` of every span.
        otlp_endpoint: `http://host:port` of an OTLP/gRPC collector; empty exports nothing.
        sample_ratio: share of traces to keep, 0 to 1; use the same value in all services.
        version: `service.version`.
        instance: `service.instance.id`; empty: a random one.
    """
    provider = TracerProvider(
        sampler=sampler(sample_ratio),
        resource=Resource.create(
            {
                "service.name": service,
                "service.version": version,
                "service.instance.id": instance or str(uuid.uuid4()),
            }
        ),
        shutdown_on_exit=False,  # `Telemetry.shutdown` is bounded; the library's own is not
    )
    provider.add_span_processor(ScopeProcessor())
    if otlp_endpoint:
        exporter = OTLPSpanExporter(
            endpoint=otlp_endpoint,
            timeout=EXPORT_TIMEOUT_S,
            channel_options=(("grpc.enable_http_proxy", 0),),  # type: ignore[arg-type]
        )
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=QUEUE_MAX_SPANS,
                schedule_delay_millis=EXPORT_DELAY_MS,
            )
        )
    trace.set_tracer_provider(provider)
    propagate.set_global_textmap(_propagator)
    return Telemetry(provider)
