"""A version keeps its trace, and a long document does not grow one without end."""

from collections import Counter

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from ingest.traces import continued, current_trace_id, segments
from ingest.usecases.facts import Fact

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def facts(count: int) -> list[Fact]:
    return [Fact(event=ChunksPrepared(batch=n), document="d", identity=(n,)) for n in range(count)]


def test_every_200_batches_get_a_linked_trace(tracer: Tracer, exporter: InMemorySpanExporter):
    batches: Counter[str] = Counter()
    numbers = []
    with tracer.start_as_current_span("process") as span:
        for group in segments(facts(450), tracer):
            for fact in group:
                batches[current_trace_id()] += 1
                numbers.append(fact.identity[0])
    assert numbers == list(range(450))
    assert sorted(batches.values()) == [50, 200, 200]
    own = trace.format_trace_id(span.get_span_context().trace_id)
    assert batches[own] == 200
    linked = [one for one in exporter.get_finished_spans() if one.name == "continue document"]
    assert {link.context.trace_id for one in linked for link in one.links} == {
        span.get_span_context().trace_id
    }
    assert len(linked) == 2


@pytest.mark.parametrize("count", [0, 1, 200])
def test_a_short_document_stays_in_one_trace(tracer: Tracer, count: int):
    with tracer.start_as_current_span("process"):
        own = current_trace_id()
        seen = [current_trace_id() for group in segments(facts(count), tracer) for _ in group]
    assert seen == [own] * count


def test_work_that_no_event_caused_joins_the_trace_of_its_version(tracer: Tracer):
    with continued("repeat step", TRACE, tracer):
        assert current_trace_id() == TRACE
    with continued("repeat step", "", tracer):
        assert current_trace_id() not in {"", TRACE}


def test_without_a_span_there_is_no_trace_id():
    assert current_trace_id() == ""
