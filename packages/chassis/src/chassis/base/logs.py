"""Logs: one JSON object per line on standard output, with trace id, tenant and document.

Callers log a constant event name with dots and pass values in `extra`. They must not log document
text; as a safeguard, each value is cut at `VALUE_MAX_CHARS`.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from opentelemetry import trace
from typing_extensions import override

from chassis.base import telemetry

VALUE_MAX_CHARS = 2_000
EXCEPTION_MAX_CHARS = 8_000

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Renders a record as JSON; fixed fields replace an `extra` of the same name."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            key: _render(value) for key, value in vars(record).items() if key not in _OWN_FIELDS
        }
        line |= {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage()[:VALUE_MAX_CHARS],
            "logger": record.name,
            "service": self._service,
        }
        line |= _context_fields()
        if record.exc_info:
            # Keep the end: it names the exception and where it was raised.
            line["exception"] = self.formatException(record.exc_info)[-EXCEPTION_MAX_CHARS:]
        return json.dumps(line, ensure_ascii=False)


def _render(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_render(one) for one in value]
    return str(value)[:VALUE_MAX_CHARS]


def _context_fields() -> dict[str, str]:
    found = {}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        found["trace_id"] = trace.format_trace_id(span.trace_id)
        found["span_id"] = trace.format_span_id(span.span_id)
    if (about := telemetry.scope()) is not None:
        found["tenant"] = about.tenant
        if about.document is not None:
            found["document"] = about.document
    return found


def start(service: str, *, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Makes the root logger write JSON lines to `stream`, by default standard output.

    Replaces existing handlers, so it can be called again. Python warnings are logged too.
    """
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
