"""Reads traces from a Tempo-compatible API."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from aquifer_cli import names
from aquifer_cli.errors import EXIT_UNAVAILABLE, EXIT_USAGE, CommandError

TIMEOUT_S = 10.0
TRACES_MAX = 20
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A span: times in nanoseconds since 1970, `links` are the ids of other traces."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    start: int
    end: int
    error: str
    attributes: dict[str, str]
    links: list[str]

    @property
    def duration_ms(self) -> float:
        """Duration of the span."""
        return (self.end - self.start) / 1e6

    def as_json(self) -> dict[str, object]:
        """The span as JSON."""
        return {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_id": self.parent_id,
            "service": self.service,
            "name": self.name,
            "start_unix_nano": self.start,
            "duration_ms": round(self.duration_ms, 3),
            "error": self.error,
            "attributes": self.attributes,
            "links": self.links,
        }


def as_json(nodes: list[Node]) -> dict[str, object]:
    """A trace as JSON."""
    return {"trace_id": nodes[0].trace_id, "spans": [node.as_json() for node in nodes]}


def find(url: str, identifier: str, collection: str = names.COLLECTION_DEFAULT) -> list[list[Node]]:
    """Finds the traces of an id of a trace, document or answer, newest first.

    Raises:
        CommandError: TRACES_UNAVAILABLE, TRACE_UNKNOWN.
    """
    if not url:
        raise CommandError(
            "TRACES_UNAVAILABLE",
            "no trace store is configured",
            hint="set AQUIFER_TRACES_URL to the address of a Tempo-compatible API",
            exit_code=EXIT_USAGE,
        )
    if _TRACE_ID.fullmatch(identifier.lower()):
        traces = [load(url, identifier.lower())]
    else:
        found = [load(url, trace_id) for trace_id in _find_ids(url, identifier, collection)]
        traces = [nodes for nodes in found if not _is_miss(nodes)]
    traces = list(filter(None, traces))
    if not traces:
        raise CommandError(
            "TRACE_UNKNOWN",
            f"no trace of {identifier} is stored",
            hint="use the id of a trace, a document or an answer; spans arrive with a delay of "
            "some seconds",
        )
    return traces


def _find_ids(url: str, identifier: str, collection: str) -> list[str]:
    answers = _search(url, "aquifer.answer.id", identifier)
    return answers or _search(url, "document.id", names.name_from_argument(identifier, collection))


def _is_miss(nodes: list[Node]) -> bool:
    """Whether a trace is only a call that did not find the document."""
    return bool(nodes) and nodes[0].attributes.get("aquifer.error.reason") == "DOCUMENT_UNKNOWN"


def _search(url: str, key: str, value: str) -> list[str]:
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    wanted = {"tags": f"{key}={quoted}", "limit": TRACES_MAX}
    query = urllib.parse.urlencode(wanted, errors="replace")
    body = _get(f"{url}/api/search?{query}", "application/json") or b"{}"
    try:
        return [str(t["traceID"]).rjust(32, "0") for t in json.loads(body).get("traces") or []]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable_error(url, error) from error


def load(url: str, trace_id: str) -> list[Node]:
    """Reads every span of a trace, earliest first; none if the trace is not stored.

    Raises:
        CommandError: TRACES_UNAVAILABLE.
    """
    body = _get(f"{url}/api/traces/{trace_id}", "application/protobuf")
    try:
        nodes = list(_nodes(TracesData.FromString(body)))
    except DecodeError as error:
        raise _unreadable_error(url, error) from error
    return sorted(nodes, key=lambda node: (node.start, node.end))


def _get(url: str, accept: str) -> bytes:
    """Reads the body of a response; empty for status 404."""
    if not url.startswith(("http://", "https://")):
        raise CommandError(
            "TRACES_UNAVAILABLE",
            f"{url} is not an http address",
            exit_code=EXIT_USAGE,
        )
    request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310  (see above)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return b""
        raise CommandError("TRACES_UNAVAILABLE", f"{url} answered {error.code}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise CommandError(
            "TRACES_UNAVAILABLE",
            f"{url}: {getattr(error, 'reason', error)}",
            hint="check that the stack is running",
            exit_code=EXIT_UNAVAILABLE,
        ) from error


def _unreadable_error(url: str, error: Exception) -> CommandError:
    detail = f"{url} does not speak Tempo: {type(error).__name__}: {error}"
    return CommandError("TRACES_UNAVAILABLE", detail)


def _nodes(data: TracesData) -> Iterator[Node]:
    for resource in data.resource_spans:
        service = next(
            (a.value.string_value for a in resource.resource.attributes if a.key == "service.name"),
            "?",
        )
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _node(service, span)


def _node(service: str, span: Span) -> Node:
    attributes = {a.key: _value(a.value) for a in span.attributes}
    failed = span.status.code == span.status.STATUS_CODE_ERROR
    why = span.status.message or attributes.get("error.type", "error")
    return Node(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        service=service,
        name=span.name,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        error=why if failed else "",
        attributes=attributes,
        links=[link.trace_id.hex() for link in span.links],
    )


def _value(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind else ""
