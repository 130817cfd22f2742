"""Spans of calls of models, by the GenAI conventions of OpenTelemetry; they never have content."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode

from chassis.base import telemetry
from chassis.base.errors import ServiceError
from inference.generation import Finish, Generation

tracer = trace.get_tracer(__name__)


Attributes = Mapping[str, str | int]
Opened = tuple[trace.Span, Mapping[str, str]]


@contextmanager
def generation_span(
    model: str, provider: str, request: Generation, **attributes: str
) -> Iterator[Opened]:
    """The span of an answer, and the headers that make the engine's span its child."""
    described: Attributes = {"gen_ai.request.max_tokens": request.max_output_tokens, **attributes}
    with call_span("chat", model, provider, described) as opened:
        yield opened


@contextmanager
def call_span(
    operation: str, model: str, provider: str, attributes: Attributes
) -> Iterator[Opened]:
    """The span of a call, and the headers that make the engine's span its child."""
    span = tracer.start_span(
        f"{operation} {model}",
        kind=SpanKind.CLIENT,
        attributes={
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            **attributes,
        },
    )
    headers: dict[str, str] = {}
    telemetry.inject(headers, trace.set_span_in_context(span, Context()))
    try:
        yield span, headers
    except ServiceError as error:
        span.set_attribute("error.type", error.reason)
        span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()


def note_finish(span: trace.Span, finish: Finish) -> None:
    """Adds what an answer cost, and why it ended."""
    span.set_attributes(
        {
            "gen_ai.usage.input_tokens": finish.usage.input_tokens,
            "gen_ai.usage.output_tokens": finish.usage.output_tokens,
            "gen_ai.response.finish_reasons": [finish.reason.value],
        }
    )
