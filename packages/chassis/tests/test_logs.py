"""One JSON object a line."""

import io
import json
import logging
import warnings

import pytest
from opentelemetry.sdk.trace import TracerProvider

from chassis.base import logs
from chassis.base.telemetry import document_scope


@pytest.fixture
def lines():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.start("query", stream=stream)
    yield lambda: [
        line
        for line in map(json.loads, stream.getvalue().splitlines())
        if not line["logger"].startswith("opentelemetry")  # an exporter of another test
    ]
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_a_line_says_what_when_where_and_about_what(lines):
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with (
        tracer.start_as_current_span("work") as span,
        document_scope("acme", "collections/c/documents/d"),
    ):
        logging.getLogger("query.index").info("batch.indexed", extra={"chunks": 3, "ok": True})
    [line] = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "event": "batch.indexed",
        "logger": "query.index",
        "service": "query",
        "trace_id": f"{span.get_span_context().trace_id:032x}",
        "span_id": f"{span.get_span_context().span_id:016x}",
        "tenant": "acme",
        "document": "collections/c/documents/d",
        "chunks": 3,
        "ok": True,
    }


def test_an_exception_is_one_field_of_the_same_line(lines):
    try:
        int("two\nlines")
    except ValueError:
        logging.getLogger().exception("work.failed")
    [line] = lines()
    assert line["exception"].endswith(r"base 10: 'two\nlines'")
    assert "test_logs.py" in line["exception"]


def test_no_extra_can_pose_as_a_fixed_field_or_break_the_line(lines):
    extra = {
        "service": "evil",
        "level": "DEBUG",
        "text": "a\n{}",
        "deep": {"a": object()},
        "long": "x" * 9_000,
    }
    logging.getLogger().warning("odd\nevent", extra=extra)
    [line] = lines()
    assert (line["service"], line["level"], line["text"]) == ("query", "WARNING", "a\n{}")
    assert len(line["long"]) == logs.VALUE_MAX_CHARS
    assert isinstance(line["deep"], str)


def test_warnings_are_lines_too(lines):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("something is old", stacklevel=1)
    [line] = lines()
    assert "something is old" in line["event"]
