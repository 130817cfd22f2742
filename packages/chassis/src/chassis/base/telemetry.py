"""Traces: where spans go, what each one carries, and how a trace crosses a process."""

import threading
import uuid
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from typing_extensions import override

TRACER_NAME = "aquifer"
EXPORT_TIMEOUT_S = 2
EXPORT_DELAY_MS = 500
QUEUE_MAX_SPANS = 8_192
SHUTDOWN_MAX_S = 3.0

# W3C trace context and nothing else: a caller's baggage is neither read nor sent on.
_propagator = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What work is about: on every span, log line and event produced meanwhile."""

    tenant: str
    document: str | None = None


_scope: ContextVar[Scope | None] = ContextVar("chassis_scope", default=None)


def scope() -> Scope | None:
    """The innermost `document_scope`, or None outside of any."""
    return _scope.get()


@contextmanager
def document_scope(tenant: str, document: str | None = None) -> Iterator[None]:
    """Name the tenant, and the document if it is one document's work, for spans and logs.

    The span already open is marked too. Describes work; authorises nothing.
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
    """Copies the current `Scope` onto every span as it starts."""

    @override
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if (about := _scope.get()) is not None:
            _set_attributes(span, about)


def extract(carrier: Mapping[str, object]) -> Context:
    """The remote parent named by `traceparent` in headers or metadata; empty when there is none.

    Built on an empty context, so nothing of the current span leaks into it.
    """
    names = {key: value for key in _propagator.fields if isinstance(value := carrier.get(key), str)}
    return _propagator.extract(names, context=Context())


def inject(carrier: MutableMapping[str, str], context: Context | None = None) -> None:
    """Write `traceparent` and `tracestate` of the context (by default the current one)."""
    _propagator.inject(carrier, context=context)


def sampler(ratio: float) -> Sampler:
    """Keeps `ratio` of the traces, the same ones in every process that has the same ratio.

    A local parent decides for its children. A remote parent's flag is ignored and its trace id
    decides: so no caller can switch our recording on or off, yet a trace is kept whole.
    """
    by_id = TraceIdRatioBased(ratio)
    return ParentBased(by_id, remote_parent_sampled=by_id, remote_parent_not_sampled=by_id)


class Telemetry:
    """The process's tracer provider, until `shutdown`."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self.tracer = provider.get_tracer(TRACER_NAME)

    def shutdown(self) -> None:
        """Export what is queued and stop; blocks for at most `SHUTDOWN_MAX_S`.

        With the collector away the rest is dropped: telemetry never holds up a restart.
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
    """Make the process's tracer provider and install it as the global one.

    Args:
        service: `service.name` of every span.
        otlp_endpoint: `http://host:port` of an OTLP/gRPC collector; empty exports nothing.
        sample_ratio: share of traces kept, 0 to 1; use one value for all services.
        version: `service.version`.
        instance: `service.instance.id`; empty makes a random one.
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
