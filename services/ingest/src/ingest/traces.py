"""The traces of documents, and linked traces that keep those of long documents short."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer

from chassis.base import telemetry
from ingest.steps import CHANGES_TEXT, Applied, Step, name_steps

_tracer = trace.get_tracer(telemetry.TRACER_NAME)


def current_trace_id() -> str:
    """W3C trace id of the current span in lower-case hex; empty if there is none."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""


@contextmanager
def continue_trace(name: str, trace_id: str, tracer: Tracer = _tracer) -> Iterator[None]:
    """A span in the trace of a version's upload, for work that no event caused."""
    # The parent span is unknown here; only the trace id matters.
    parent = {"traceparent": f"00-{trace_id}-{trace_id[:16]}-01"} if trace_id else {}
    context = telemetry.extract(parent)
    with tracer.start_as_current_span(name, context=context, kind=SpanKind.INTERNAL):
        yield


def start_linked_trace(name: str, before: Context | None, tracer: Tracer = _tracer) -> Context:
    """Starts a trace linked to another one, by default the current; returns its context."""
    link = Link(trace.get_current_span(before).get_span_context())
    with tracer.start_as_current_span(name, Context(), links=[link]) as span:
        return trace.set_span_in_context(span, Context())


def trace_steps(applied: Sequence[Applied], chosen: Sequence[Step]) -> None:
    """Records in the current span which steps a document went through, and what they counted.

    Of the `chosen` steps, one that changes texts may have had no use for the document.
    """
    changed = [one.step for one in applied]
    through = [step for step in chosen if step in changed or step not in CHANGES_TEXT]
    if not through:
        return
    span = trace.get_current_span()
    span.set_attribute("aquifer.steps", ", ".join(name_steps(through)))
    for one in applied:
        for kind, count in one.counts.items():
            span.set_attribute(f"aquifer.step.{one.step}.{kind}".lower().replace(" ", "_"), count)
