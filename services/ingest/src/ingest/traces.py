"""Which trace work belongs to, and how long documents are kept from growing one without end."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer

from chassis.base import telemetry
from ingest.usecases.facts import Fact

SEGMENT_FACTS: Final = 200

_tracer = trace.get_tracer(telemetry.TRACER_NAME)


def current_trace_id() -> str:
    """W3C trace id of the current span in lower-case hex; empty when there is none."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""


@contextmanager
def continued(name: str, trace_id: str, tracer: Tracer = _tracer) -> Iterator[None]:
    """A span in the trace that brought a version, for work that no event of it caused."""
    # The span id is unknown here and names no span; what counts is the trace.
    parent = {"traceparent": f"00-{trace_id}-{trace_id[:16]}-01"} if trace_id else {}
    context = telemetry.extract(parent)
    with tracer.start_as_current_span(name, context=context, kind=SpanKind.INTERNAL):
        yield


def segments(facts: Iterable[Fact], tracer: Tracer = _tracer) -> Iterator[Iterable[Fact]]:
    """Facts in groups of 200; while a group after the first is in hand, a linked trace is current.

    So no trace of a long document takes up more than 200 batches.
    """
    remaining = iter(facts)
    first = list(islice(remaining, SEGMENT_FACTS))
    yield first
    link = Link(trace.get_current_span().get_span_context())
    while group := list(islice(remaining, SEGMENT_FACTS)):
        with tracer.start_as_current_span("continue document", Context(), links=[link]):
            yield group
