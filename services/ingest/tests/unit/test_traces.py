"""A version keeps its trace, and a long document does not grow one without end."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from aquifer.ingest.v1.document_events_pb2 import ChunksPrepared
from chassis.events.work import TransactionWork
from ingest.store.work import PostgresWork
from ingest.traces import continue_trace, current_trace_id, start_linked_trace

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def test_a_linked_trace_is_new_and_points_back(tracer: Tracer, exporter: InMemorySpanExporter):
    with tracer.start_as_current_span("process") as span:
        context = start_linked_trace("continue document", None, tracer)
    own = span.get_span_context()
    [linked] = [one for one in exporter.get_finished_spans() if one.name == "continue document"]
    assert [link.context.trace_id for link in linked.links] == [own.trace_id]
    assert linked.context.trace_id != own.trace_id
    assert trace.get_current_span(context).get_span_context() == linked.context


@pytest.mark.parametrize(("count", "traces"), [(1, [1]), (200, [200]), (450, [200, 200, 50])])
def test_every_200_events_of_a_document_get_a_linked_trace(
    tracer: Tracer, monkeypatch, count: int, traces: list[int]
):
    monkeypatch.setattr(
        "ingest.store.work.start_linked_trace", partial(start_linked_trace, tracer=tracer)
    )
    nothing: Any = None
    unit = TransactionWork("acme", (), tx=nothing)
    work = PostgresWork(unit)
    with tracer.start_as_current_span("process"):
        for number in range(count):
            event = ChunksPrepared(tenant="acme", batch=number)
            work.emit(event, about="d", key=(number,))
    seen = Counter(event.headers["traceparent"][3:35] for event in unit.outgoing)
    assert list(seen.values()) == traces


def test_work_that_no_event_caused_joins_the_trace_of_its_version(tracer: Tracer):
    with continue_trace("repeat step", TRACE, tracer):
        assert current_trace_id() == TRACE
    with continue_trace("repeat step", "", tracer):
        assert current_trace_id() not in {"", TRACE}


def test_without_a_span_there_is_no_trace_id():
    assert current_trace_id() == ""
