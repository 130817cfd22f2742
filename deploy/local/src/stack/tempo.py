"""Serves spans over the part of Grafana Tempo's HTTP query API that Aquifer's clients use.

* `GET /api/traces/{trace id, 1 to 32 hex digits}`: OTLP `TracesData`, as protobuf if the request
  accepts `application/protobuf`, otherwise as JSON `{"batches": [...]}` with base64 ids; 404 if the
  trace has no spans. `start` and `end` are accepted and ignored.
* `GET /api/search?tags=key%3Dvalue&limit=20&start=0&end=0`: tags in logfmt; a span or its resource
  must have all of them. Times are in seconds since 1970. A value must equal the whole attribute,
  while Tempo matches a case-insensitive part of it.
* `GET /ready`

An invalid request gets a 4xx status and `{"error": "..."}`.
"""

import json
import logging
import re
import sqlite3
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from typing_extensions import override

from stack.spans import TRACE_ID_BYTES, SpanStore, TraceSummary

log = logging.getLogger(__name__)

LIMIT_DEFAULT = 20
LIMIT_MAX = 1000
_NS = 1_000_000_000
_TIME_MAX_S = 9_000_000_000
_PROTOBUF = "application/protobuf"
_TRACE = re.compile(r"/api/traces/([^/]+)")
_TRACE_ID = re.compile(r"[0-9a-fA-F]{1,32}")
_TAG = re.compile(r'\s*([^\s="]+)=("(?:[^"\\]|\\.)*"|[^\s"]+)(?=\s|$)')
_HOSTS = {"127.0.0.1", "localhost"}


class RefusedError(Exception):
    """A request that is answered with an error status."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class TempoServer(ThreadingHTTPServer):
    """Serves the API on an address until `shutdown`; port 0 means any free port."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], store: SpanStore) -> None:
        self.store = store
        super().__init__(address, _Handler)

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError):  # the client has disconnected
            log.error("request.failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: TempoServer
    protocol_version = "HTTP/1.1"
    # Limit of one read, so that a silent client does not keep its thread.
    timeout = 10

    def do_GET(self) -> None:
        try:
            self._route()
        except RefusedError as error:
            self._answer_json(error.status, {"error": str(error)})
        except sqlite3.Error:
            log.exception("query.failed")
            self._answer_json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "store not readable"})

    def _route(self) -> None:
        self._refuse_foreign_host()
        url = urlsplit(self.path)
        trace = _TRACE.fullmatch(url.path)
        if url.path == "/ready":
            self._answer(HTTPStatus.OK, "text/plain", b"ready\n")
        elif url.path == "/api/search":
            self._search(_parameters(url.query, {"tags", "limit", "start", "end"}))
        elif trace:
            _parameters(url.query, {"start", "end"})
            self._trace(trace[1])
        else:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"no such path: {url.path}")

    def _search(self, parameters: Mapping[str, str]) -> None:
        found = self.server.store.search(
            logfmt(parameters.get("tags", "")),
            from_ns=_number(parameters, "start", 0, 0, _TIME_MAX_S) * _NS,
            to_ns=_number(parameters, "end", _TIME_MAX_S, 0, _TIME_MAX_S) * _NS,
            limit=_number(parameters, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX),
        )
        self._answer_json(HTTPStatus.OK, {"traces": [_summary(trace) for trace in found]})

    def _trace(self, text: str) -> None:
        if not _TRACE_ID.fullmatch(text):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "a trace id is 1 to 32 hex digits")
        trace = self.server.store.trace(bytes.fromhex(text.zfill(2 * TRACE_ID_BYTES)))
        if not trace.resource_spans:
            raise RefusedError(HTTPStatus.NOT_FOUND, "trace not found")
        if _PROTOBUF in self.headers.get("Accept", ""):
            self._answer(HTTPStatus.OK, _PROTOBUF, trace.SerializeToString())
        else:
            self._answer_json(HTTPStatus.OK, _batches(trace))

    def _refuse_foreign_host(self) -> None:
        """Refuses other hosts: a web page can point its name at this address (DNS rebinding)."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in _HOSTS:
            raise RefusedError(HTTPStatus.MISDIRECTED_REQUEST, "only for requests to this machine")

    def _answer_json(self, status: HTTPStatus, body: Mapping[str, object]) -> None:
        self._answer(status, "application/json", json.dumps(body).encode())

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers requests that http.server refuses: malformed ones, other methods."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self.close_connection = True
        # Without a known version http.server would omit the status line.
        self.request_version = self.protocol_version
        self._answer_json(status, {"error": message or status.phrase})

    @override
    def log_message(self, format: str, *args: Any) -> None:
        log.debug("request.answered", extra={"line": format % args})


def logfmt(text: str) -> dict[str, str]:
    """Pairs `key=value key="quoted value"`.

    Raises:
        RefusedError: 400.
    """
    tags: dict[str, str] = {}
    position = 0
    while text[position:].strip():
        pair = _TAG.match(text, position)
        if pair is None:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, f"tags are not logfmt (key=value) from {position} on"
            )
        key, value = pair.groups()
        tags[key] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        position = pair.end()
    return tags


def _parameters(query: str, known: set[str]) -> dict[str, str]:
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(parameters.keys() - known)
    if unknown:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"unknown parameters: {', '.join(unknown)}")
    return parameters


def _number(parameters: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
        raise RefusedError(
            HTTPStatus.BAD_REQUEST, f"{name} must be a whole number from {least} to {most}"
        )
    return int(text)


def _summary(trace: TraceSummary) -> Mapping[str, object]:
    return {
        "traceID": trace.trace_id.hex(),
        "rootServiceName": trace.root_service,
        "rootTraceName": trace.root_name,
        "startTimeUnixNano": str(trace.start_ns),
        "durationMs": (trace.end_ns - trace.start_ns) // 1_000_000,
    }


def _batches(trace: TracesData) -> Mapping[str, object]:
    return {"batches": MessageToDict(trace)["resourceSpans"]}
