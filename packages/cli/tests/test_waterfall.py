"""A trace as it is loaded over the wire and drawn."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import (
    ResourceSpans,
    ScopeSpans,
    Span,
    Status,
    TracesData,
)
from rich.cells import cell_len

from aquifer_cli import trace as tracing
from aquifer_cli.errors import CommandError
from aquifer_cli.waterfall import draw_waterfall, order_branches, render_duration

TRACE = "5" * 32
OTHER = "6" * 32
DOCUMENT = "collections/default/documents/a.md"
MS = 10**6


def text(key, value):
    return KeyValue(key=key, value=AnyValue(string_value=value))


def span(number, name, start_ms, end_ms, *, parent=0, error=False, links=()):
    return Span(
        trace_id=bytes.fromhex(TRACE),
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name=name,
        start_time_unix_nano=start_ms * MS,
        end_time_unix_nano=end_ms * MS,
        attributes=[text("document.id", DOCUMENT), text("error.type", "CANCELLED" * error)],
        status=Status(code=Status.STATUS_CODE_ERROR) if error else None,
        links=[Span.Link(trace_id=bytes.fromhex(link)) for link in links],
    )


def made_up():
    """Three services, one failure, one link to another trace, spans in no order."""
    spans = {
        "query": [
            span(4, "aquifer.query.v1.QueryService/Ask", 0, 2000),
            span(6, "send AnswerProduced", 1990, 2000, parent=4, links=[OTHER, TRACE]),
        ],
        "inference": [
            span(5, "aquifer.inference.v1.InferenceService/Embed", 10, 11, parent=4, error=True)
        ],
        "ingest": [span(9, "a span whose parent never came", 1000, 1500, parent=77)],
    }
    return TracesData(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=[text("service.name", service)]),
                scope_spans=[ScopeSpans(spans=each)],
            )
            for service, each in spans.items()
        ]
    )


class Tempo(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path == f"/api/traces/{TRACE}":
            self.answer(made_up().SerializeToString())
        elif url.path == "/api/traces/" + "e" * 32:
            self.answer(b"\xff\xffno protobuf")
        elif url.path == "/api/search":
            hit = query["tags"] == [f'document.id="{DOCUMENT}"']
            self.answer(json.dumps({"traces": [{"traceID": TRACE}] if hit else []}).encode())
        else:
            self.send_error(404)

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def tempo():
    with ThreadingHTTPServer(("127.0.0.1", 0), Tempo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def nodes(tempo):
    return tracing.load(tempo, TRACE)


def test_a_trace_is_drawn_as_a_tree_on_one_scale(nodes):
    lines = [line.plain.rstrip() for line in draw_waterfall(nodes, 80)]
    assert lines == [
        f"trace {TRACE}",
        f"document {DOCUMENT}",
        "2.00 s, 4 spans, 1 failed, from 1970-01-01 00:00:00 UTC",
        "query     QueryService/Ask               ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━    2.00 s",
        "inference   InferenceService/Embed       ━                                1.0 ms",
        "            ✗ CANCELLED",
        "query       send AnswerProduced                                      ━   10.0 ms",
        "ingest    a span whose parent never came               ━━━━━━━          500.0 ms",
        f"linked: aquifer trace {OTHER}",
    ]


@pytest.mark.parametrize("width", [20, 44, 60, 80, 200])
def test_spans_fit_the_width_and_stand_in_line(nodes, width):
    spans = [
        line.plain for line in list(draw_waterfall(nodes, width))[3:-1] if "✗" not in line.plain
    ]
    assert len({cell_len(line) for line in spans}) == 1
    assert all(line.endswith(("ms", " s")) for line in spans)
    assert width < 40 or cell_len(spans[0]) <= width


def test_where_nobody_looks_no_name_is_cut(nodes):
    drawn = "\n".join(line.plain for line in draw_waterfall(nodes, None))
    assert "…" not in drawn
    assert "a span whose parent never came" in drawn


def test_colours_are_styles_and_no_characters(nodes):
    assert not any("\x1b" in line.plain for line in draw_waterfall(nodes, 80))


def test_a_document_is_found_by_its_name_and_by_its_id(tempo):
    by_name = tracing.find(tempo, DOCUMENT)
    assert tracing.find(tempo, "a.md") == by_name == tracing.find(tempo, TRACE.upper())
    assert tracing.as_json(by_name[0])["trace_id"] == TRACE
    with pytest.raises(CommandError):
        tracing.find(tempo, "a.md", "papers")


@pytest.mark.parametrize(
    ("identifier", "reason"),
    [
        ("f" * 32, "TRACE_UNKNOWN"),
        ("b.md", "TRACE_UNKNOWN"),
        ('a" b', "TRACE_UNKNOWN"),
        ("bad\udcff.txt", "TRACE_UNKNOWN"),
        ("collections/a", "DOCUMENT_NAME"),
        ("e" * 32, "TRACES_UNAVAILABLE"),
    ],
)
def test_what_is_not_there_is_said_so(tempo, identifier, reason):
    with pytest.raises(CommandError) as failure:
        tracing.find(tempo, identifier)
    assert failure.value.reason == reason


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1", "http://127.0.0.1:9"])
def test_no_trace_store_is_said_so(url):
    with pytest.raises(CommandError) as failure:
        tracing.find(url, TRACE)
    assert failure.value.reason == "TRACES_UNAVAILABLE"


PARENTS = st.lists(st.integers(0, 12), min_size=1, max_size=12)


@given(PARENTS)
def test_every_span_is_drawn_once_whatever_its_parents_are(parents):
    """Also with parents that are missing, themselves, or each other's children."""
    nodes = [
        tracing.Node(
            trace_id=TRACE,
            span_id=str(number),
            parent_id=str(parent),
            service="s",
            name=f"span {number}",
            start=number,
            end=number + 1,
            error="",
            attributes={},
            links=[],
        )
        for number, parent in enumerate(parents)
    ]
    drawn = order_branches(nodes)
    assert sorted(branch.node.span_id for branch in drawn) == sorted(n.span_id for n in nodes)
    depths = {branch.node.span_id: branch.depth for branch in drawn}
    for branch in drawn:
        if branch.depth:
            assert depths[branch.node.parent_id] == branch.depth - 1
    assert len(list(draw_waterfall(nodes, 80))) == 2 + len(nodes)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0.00 ms"), (420_000, "0.42 ms"), (12_340_000, "12.3 ms"), (4_560_000_000, "4.56 s")],
)
def test_a_duration_is_shown_in_the_unit_that_reads_best(nanoseconds, text):
    assert render_duration(nanoseconds) == text
