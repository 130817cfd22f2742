"""Spans: what they carry, who decides about them, and a collector that is not there."""

import asyncio
import socket
import threading
import time
from concurrent import futures

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.base import telemetry
from chassis.base.telemetry import document_scope


@pytest.fixture
def traced():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(telemetry.ScopeProcessor())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test"), exporter


async def test_every_span_of_the_work_names_tenant_and_document(traced):
    tracer, exporter = traced
    with tracer.start_as_current_span("before"):
        with document_scope("acme", "collections/c/documents/d"):
            async with asyncio.TaskGroup() as tasks:
                for name in ("one", "two"):
                    tasks.create_task(_span(tracer, name))
            await asyncio.to_thread(tracer.start_span("thread").end)
    tracer.start_span("after").end()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    for name in ("one", "two", "thread", "before"):
        assert spans[name].attributes["tenant.id"] == "acme"
        assert spans[name].attributes["document.id"] == "collections/c/documents/d"
    assert "tenant.id" not in spans["after"].attributes
    assert telemetry.scope() is None


async def _span(tracer, name):
    with tracer.start_as_current_span(name):
        await asyncio.sleep(0)


def test_a_trace_crosses_a_carrier_without_baggage(traced):
    tracer, exporter = traced
    carrier = {}
    with tracer.start_as_current_span("here") as here:
        telemetry.inject(carrier)
    carrier["baggage"] = "tenant=evil"
    context = telemetry.extract(carrier)
    tracer.start_span("there", context=context).end()
    there = exporter.get_finished_spans()[-1]
    assert there.parent.span_id == here.get_span_context().span_id
    assert set(context) == {trace.propagation._SPAN_KEY}


@pytest.mark.parametrize(
    "carrier",
    [
        {},
        {"traceparent": "00-zz"},
        {"traceparent": b"\xff"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
    ],
)
def test_a_bad_traceparent_begins_a_new_trace(traced, carrier):
    tracer, exporter = traced
    tracer.start_span("root", context=telemetry.extract(carrier)).end()
    assert exporter.get_finished_spans()[-1].parent is None


@pytest.mark.parametrize("flag", ["00", "01"])
def test_the_caller_does_not_decide_what_is_recorded(flag):
    def kept(ratio, trace_id):
        context = telemetry.extract({"traceparent": f"00-{trace_id}-b7ad6b7169203331-{flag}"})
        provider = TracerProvider(sampler=telemetry.sampler(ratio), shutdown_on_exit=False)
        span = provider.get_tracer("t").start_span("x", context=context)
        child = provider.get_tracer("t").start_span(
            "y", context=trace.set_span_in_context(span, Context())
        )
        assert child.is_recording() == span.is_recording()
        return span.is_recording()

    ids = [f"{1:016x}{n << 56:016x}" for n in range(1, 256)]
    assert all(kept(1.0, trace_id) for trace_id in ids)
    assert not any(kept(0.0, trace_id) for trace_id in ids)
    assert 100 < sum(kept(0.5, trace_id) for trace_id in ids) < 155


@pytest.mark.parametrize("carrier", [{}, {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}])
@pytest.mark.parametrize(("name", "recorded"), [(min(telemetry.POLLS), False), ("x.Y/Get", True)])
def test_polls_between_services_are_not_recorded(carrier, name, recorded):
    tracer = TracerProvider(sampler=telemetry.sampler(1.0), shutdown_on_exit=False).get_tracer("t")
    span = tracer.start_span(name, context=telemetry.extract(carrier))
    child = tracer.start_span("y", context=trace.set_span_in_context(span, Context()))
    assert span.is_recording() == child.is_recording() == recorded


class Sink(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.received = threading.Event()
        self.requests = []

    def Export(self, request, context):
        self.requests.append(request)
        self.received.set()
        return trace_service_pb2.ExportTraceServiceResponse()


def test_spans_reach_the_collector_under_the_services_name(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # not to be used inside a deployment
    monkeypatch.setenv("no_proxy", "")
    sink = Sink()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(sink, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    running = telemetry.start("query", f"http://127.0.0.1:{port}", version="1.2", instance="i-1")
    with document_scope("acme"), running.tracer.start_as_current_span("work"):
        pass
    running.shutdown()
    server.stop(0)
    [request] = sink.requests
    [resource] = request.resource_spans
    about = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert about["service.name"] == "query"
    assert (about["service.version"], about["service.instance.id"]) == ("1.2", "i-1")
    assert resource.scope_spans[0].spans[0].name == "work"


@pytest.mark.parametrize("hangs", [False, True])
def test_a_collector_that_is_away_does_not_hold_up_the_end(hangs):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if hangs:
            taken.listen()  # accepts, and never says a word
        running = telemetry.start("query", f"http://127.0.0.1:{taken.getsockname()[1]}")
        started = time.monotonic()
        # So many that to wait for each batch of them would take more than 8 s.
        for _ in range(4_000):
            running.tracer.start_span("work").end()
        assert time.monotonic() - started < 5, "nor the work"
        ending = time.monotonic()
        running.shutdown()
        assert time.monotonic() - ending < telemetry.SHUTDOWN_MAX_S + 4
