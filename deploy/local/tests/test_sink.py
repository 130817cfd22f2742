import base64
import http.client
import json
import queue
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, set_span_in_context

from stack.forward import parse_target
from stack.guardian import Guardian
from stack.ports import free_ports
from stack.programs import Sink
from stack.sink import loopback
from stack.spans import ROOT_MISSING, SpanStore
from stack.tempo import RefusedError, logfmt

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def sink(module_folder: Path, guardian: Guardian) -> Iterator[Sink]:
    otlp, http_port = free_ports(2)
    with Sink(
        module_folder / "traces" / "spans.sqlite",
        otlp_port=otlp,
        http_port=http_port,
        guardian=guardian,
        log=module_folder / "traces.log",
    ) as server:
        yield server


def test_it_logs_as_every_part_does(sink: Sink):
    deadline = time.monotonic() + 20
    while not (written := sink.log.read_text()).endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lines = [json.loads(line) for line in written.splitlines()]
    assert ("traces", "sink.ready") in [(line["service"], line["event"]) for line in lines]


@pytest.fixture
def provider(sink: Sink) -> Iterator[TracerProvider]:
    found = TracerProvider(resource=Resource.create({"service.name": "ingest", "zone": "a b"}))
    exporter = OTLPSpanExporter(endpoint=sink.endpoint, insecure=True, timeout=20)
    found.add_span_processor(SimpleSpanProcessor(exporter))
    yield found
    found.shutdown()


def ask(sink: Sink, path: str, *, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", sink.http_port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def search(sink: Sink, **parameters: str | int) -> list[dict[str, object]]:
    status, body = ask(sink, f"/api/search?{urlencode(parameters)}")
    assert status == 200, body
    return json.loads(body)["traces"]


def record(provider: TracerProvider, document: str, start_s: int) -> str:
    """A root and its child, one second and half a second long; returns the trace id in hex."""
    tracer = provider.get_tracer("test", "1.0")
    root = tracer.start_span(
        "upload",
        kind=SpanKind.SERVER,
        attributes={"tenant.id": "acme"},
        start_time=start_s * SECOND,
    )
    child = tracer.start_span(
        "process DocumentAccepted",
        context=set_span_in_context(root),
        attributes={"document.id": document, "pages": 3, "scanned": True},
        start_time=start_s * SECOND,
    )
    child.end(start_s * SECOND + SECOND // 2)
    root.end((start_s + 1) * SECOND)
    return f"{root.get_span_context().trace_id:032x}"


def test_a_recorded_trace_comes_back_whole_as_protobuf(sink: Sink, provider: TracerProvider):
    trace_id = record(provider, "whole", 1000)
    status, body = ask(sink, f"/api/traces/{trace_id}", Accept="application/protobuf")
    assert status == 200
    [resource] = TracesData.FromString(body).resource_spans
    [scope] = resource.scope_spans
    assert {"service.name", "zone"} <= {each.key for each in resource.resource.attributes}
    assert (scope.scope.name, scope.scope.version) == ("test", "1.0")
    spans = {span.name: span for span in scope.spans}
    assert set(spans) == {"upload", "process DocumentAccepted"}
    assert {span.trace_id.hex() for span in scope.spans} == {trace_id}
    assert spans["process DocumentAccepted"].parent_span_id == spans["upload"].span_id
    assert spans["upload"].end_time_unix_nano == 1001 * SECOND


def test_the_json_form_is_that_of_tempo(sink: Sink, provider: TracerProvider):
    trace_id = record(provider, "json", 1010)
    status, body = ask(sink, f"/api/traces/{trace_id}")
    assert status == 200
    [batch] = json.loads(body)["batches"]
    [span] = [each for each in batch["scopeSpans"][0]["spans"] if each["name"] == "upload"]
    assert base64.b64decode(span["traceId"]).hex() == trace_id
    assert (span["kind"], span["startTimeUnixNano"]) == ("SPAN_KIND_SERVER", "1010000000000")


def test_a_trace_is_found_by_attributes_of_one_span_or_its_resource(
    sink: Sink, provider: TracerProvider
):
    trace_id = record(provider, "found", 1020)
    expected = {
        "traceID": trace_id,
        "rootServiceName": "ingest",
        "rootTraceName": "upload",
        "startTimeUnixNano": "1020000000000",
        "durationMs": 1000,
    }
    for tags in (
        "document.id=found",
        'document.id=found zone="a b"',
        "document.id=found pages=3 scanned=true service.name=ingest",
    ):
        assert search(sink, tags=tags) == [expected]
    # The tenant stands on another span of the same trace.
    assert search(sink, tags="document.id=found tenant.id=acme") == []
    assert search(sink, tags="document.id=foun") == []


def test_the_newest_traces_come_first_within_limit_and_time(sink: Sink, provider: TracerProvider):
    oldest, newest, middle = (record(provider, "many", at) for at in (2000, 2200, 2100))
    ids = [trace["traceID"] for trace in search(sink, tags="document.id=many")]
    assert ids == [newest, middle, oldest]
    assert [t["traceID"] for t in search(sink, tags="document.id=many", limit=1)] == [newest]
    in_time = search(sink, tags="document.id=many", start=2050, end=2150)
    assert [trace["traceID"] for trace in in_time] == [middle]
    assert newest in [trace["traceID"] for trace in search(sink, start=2200, end=2201)]


def test_traces_survive_kill_minus_9(sink: Sink, provider: TracerProvider):
    trace_id = record(provider, "kept", 1030)
    sink.kill()
    sink.start()
    assert [trace["traceID"] for trace in search(sink, tags="document.id=kept")] == [trace_id]


def test_sigterm_ends_it_well(sink: Sink):
    sink.stop()
    assert sink.exit_code == 0
    sink.start()


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/traces/xyz", 400, "hex digits"),
        (f"/api/traces/{'1' * 33}", 400, "hex digits"),
        ("/api/traces/abc", 404, "trace not found"),
        ("/api/traces/abc?mode=all", 400, "unknown parameters: mode"),
        ("/api/search?tags=nonsense", 400, "not logfmt"),
        ("/api/search?tags=a%3D%22open", 400, "not logfmt"),
        ("/api/search?limit=0", 400, "limit must be a whole number"),
        ("/api/search?limit=ten", 400, "limit must be a whole number"),
        ("/api/search?end=-1", 400, "end must be a whole number"),
        ("/api/search?q=%7B%7D", 400, "unknown parameters: q"),
        ("/api/nothing", 404, "no such path"),
    ],
)
def test_a_bad_request_is_answered_in_words(sink: Sink, path: str, status: int, words: str):
    found, body = ask(sink, path)
    assert found == status
    assert words in json.loads(body)["error"]


def test_other_methods_and_foreign_hosts_are_refused(sink: Sink):
    status, body = ask(sink, "/api/search", method="DELETE")
    assert (status, "error" in json.loads(body)) == (405, True)
    status, body = ask(sink, "/api/search", Host="evil.example:80")
    assert (status, "error" in json.loads(body)) == (421, True)
    assert ask(sink, "/ready", Host="localhost") == (200, b"ready\n")


def test_a_request_that_is_no_http_is_answered_in_words(sink: Sink):
    with socket.create_connection(("127.0.0.1", sink.http_port), timeout=20) as raw:
        raw.sendall(b"GET / HTTP/nine\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert b" 400 " in answer.splitlines()[0]
    assert "error" in json.loads(answer.split(b"\r\n\r\n")[1])


def test_unsound_spans_are_counted_as_refused_and_the_rest_stored(sink: Sink):
    good = span(b"\x01" * 16, b"\x01" * 8, document="sound")
    batch = batch_of(good, span(b"short", b"\x02" * 8), span(b"\x01" * 16, b""))
    with grpc.insecure_channel(f"127.0.0.1:{sink.otlp_port}") as channel:
        export = channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            request_serializer=ExportTraceServiceRequest.SerializeToString,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )
        answer = export(ExportTraceServiceRequest(resource_spans=[batch]), timeout=20)
    assert answer.partial_success.rejected_spans == 2
    assert "16 bytes" in answer.partial_success.error_message
    assert len(search(sink, tags="document.id=sound")) == 1


def test_only_the_newest_spans_are_kept(folder: Path):
    store = SpanStore(folder / "spans.sqlite", max_spans=100)
    for number in range(1, 301):
        trace_id = number.to_bytes(16)
        store.add(
            [batch_of(span(trace_id, b"\x01" * 8, document=f"d{number}"), service=f"s{number}")]
        )
    everything = {"from_ns": 0, "to_ns": 2**62, "limit": 1000}
    kept = {int.from_bytes(found.trace_id) for found in store.search({}, **everything)}
    assert 100 <= len(kept) <= 105
    assert kept == set(range(301 - len(kept), 301))
    assert store.search({"document.id": "d1"}, **everything) == []
    assert store.search({"service.name": "s1"}, **everything) == []
    assert len(store.search({"service.name": "s300"}, **everything)) == 1
    store.close()


def test_a_span_exported_twice_is_kept_once(folder: Path):
    store = SpanStore(folder / "spans.sqlite", max_spans=100)
    for _ in range(2):
        store.add([batch_of(span(b"\x01" * 16, b"\x01" * 8))])
    [resource] = store.trace(b"\x01" * 16).resource_spans
    assert len(resource.scope_spans[0].spans) == 1
    store.close()


def test_a_trace_without_its_root_says_so(folder: Path):
    store = SpanStore(folder / "spans.sqlite", max_spans=100)
    store.add([batch_of(span(b"\x01" * 16, b"\x01" * 8, parent=b"\x02" * 8), service="query")])
    [found] = store.search({}, from_ns=0, to_ns=2**62, limit=1)
    assert (found.root_service, found.root_name) == (ROOT_MISSING, "")
    store.close()


def test_logfmt_takes_quotes_and_escapes():
    assert logfmt('a=b  c.d="e \\"f\\" =g" h=1.5') == {"a": "b", "c.d": 'e "f" =g', "h": "1.5"}
    assert logfmt("") == {}
    with pytest.raises(RefusedError):
        logfmt("a=b c")


@pytest.mark.parametrize("address", ["0.0.0.0:1", "10.0.0.1:80", ":80", "127.0.0.1:x"])
def test_it_serves_no_other_machine(address: str):
    with pytest.raises(Exception, match=r"is not 127\.0\.0\.1:PORT"):
        loopback(address)


def span(trace_id: bytes, span_id: bytes, *, document: str = "", parent: bytes = b"") -> Span:
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        name="work",
        start_time_unix_nano=SECOND,
        end_time_unix_nano=2 * SECOND,
        attributes=[KeyValue(key="document.id", value=AnyValue(string_value=document))],
    )


def batch_of(*spans: Span, service: str = "ingest") -> ResourceSpans:
    batch = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    batch.resource.attributes.add(key="service.name", value=AnyValue(string_value=service))
    return batch


class Collector(TraceServiceServicer):
    """Another collector."""

    def __init__(self) -> None:
        self.seen: queue.Queue[str] = queue.Queue()

    def Export(self, request, context):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.seen.put(span.name)
        return ExportTraceServiceResponse()


@contextmanager
def collector(port: int) -> Iterator[Collector]:
    found = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(found, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield found
    finally:
        server.stop(0).wait()


def test_spans_go_to_another_collector_as_well_and_are_kept_while_it_is_away(
    folder: Path, guardian: Guardian
):
    otlp, http_port, elsewhere = free_ports(3)
    with Sink(
        folder / "traces" / "spans.sqlite",
        otlp_port=otlp,
        http_port=http_port,
        guardian=guardian,
        log=folder / "traces.log",
        forward=f"http://127.0.0.1:{elsewhere}",
    ) as server:
        provider = TracerProvider()
        exporter = OTLPSpanExporter(endpoint=server.endpoint, insecure=True, timeout=20)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with collector(elsewhere) as other:
            kept = [record(provider, "both", 1000)]
            assert {other.seen.get(timeout=20) for _ in range(2)} == {
                "upload",
                "process DocumentAccepted",
            }
        kept.append(record(provider, "alone", 2000))
        with collector(elsewhere) as other:
            deadline = time.monotonic() + 30
            while other.seen.empty():
                assert time.monotonic() < deadline
                kept.append(record(provider, "again", 3000))
                time.sleep(0.2)
        provider.shutdown()
        assert all(ask(server, f"/api/traces/{trace_id}")[0] == 200 for trace_id in kept)
    # The gRPC library writes to the same file, in words, when a connection breaks off.
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    said = [json.loads(line)["event"] for line in lines]
    assert said.count("spans.not_forwarded") <= 2
    assert "spans.forwarded_again" in said


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("http://127.0.0.1:4317", ("127.0.0.1:4317", False)),
        ("https://otel.example.org:443", ("otel.example.org:443", True)),
        ("collector:4317", ("collector:4317", False)),
        ("http://[::1]:4317", ("[::1]:4317", False)),
    ],
)
def test_an_endpoint_of_a_collector(endpoint: str, target: tuple[str, bool]):
    assert parse_target(endpoint) == target


@pytest.mark.parametrize("endpoint", ["http://host", "ftp://host:1", "http://host:port", "x"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str):
    with pytest.raises(ValueError, match=r"HOST:PORT|[Pp]ort"):
        parse_target(endpoint)
