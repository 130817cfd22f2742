"""`aquifer trace`: the waterfall of a trace, from a Tempo-compatible API."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException

from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData
from rich.text import Text

from aquifer_cli import names
from aquifer_cli.errors import EXIT_UNAVAILABLE, CommandError

TIMEOUT_S = 10.0
TRACES_MAX = 20
BAR_CHARS = 32
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
STYLES = ("cyan", "magenta", "green", "yellow", "blue", "bright_red")


@dataclass(slots=True)
class Node:
    """A span in its trace: times in nanoseconds since 1970."""

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
    children: list["Node"] = field(default_factory=list)

    @property
    def duration_ms(self) -> float:
        """How long it took."""
        return (self.end - self.start) / 1e6

    def as_json(self) -> dict[str, object]:
        """For machines."""
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


def find(url: str, identifier: str) -> list[list[Node]]:
    """The traces of an id, newest first: of that trace, or of that document or answer.

    Raises:
        CommandError: TRACES_UNAVAILABLE, TRACE_UNKNOWN.
    """
    if not url:
        raise CommandError(
            "TRACES_UNAVAILABLE", "no trace store is known", hint="AQUIFER_TRACES_URL"
        )
    if _TRACE_ID.fullmatch(identifier):
        ids = [identifier]
    else:
        ids = _search(url, "aquifer.answer.id", identifier)
        ids = ids or _search(url, "document.id", names.from_argument(identifier))
    traces = [nodes for trace_id in ids if (nodes := load(url, trace_id))]
    if not traces:
        raise CommandError(
            "TRACE_UNKNOWN",
            f"no trace of {identifier} is kept",
            hint="an id is that of a trace, a document or an answer",
        )
    return traces


def _search(url: str, key: str, value: str) -> list[str]:
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    query = urllib.parse.urlencode({"tags": f"{key}={quoted}", "limit": TRACES_MAX})
    found = json.loads(_get(f"{url}/api/search?{query}", "application/json") or b"{}")
    return [str(trace["traceID"]).rjust(32, "0") for trace in found.get("traces") or []]


def load(url: str, trace_id: str) -> list[Node]:
    """Every span of a trace, earliest first; none when it is not kept."""
    body = _get(f"{url}/api/traces/{trace_id}", "application/protobuf")
    if not body:
        return []
    nodes = list(_nodes(TracesData.FromString(body)))
    return sorted(nodes, key=lambda node: (node.start, node.end))


def _get(url: str, accept: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310
    if not url.startswith(("http://", "https://")):
        raise CommandError("TRACES_UNAVAILABLE", f"{url} is no http address")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:  # noqa: PLR2004
            return b""
        raise CommandError("TRACES_UNAVAILABLE", f"{url} answered {error.code}") from error
    except (OSError, HTTPException) as error:
        raise CommandError(
            "TRACES_UNAVAILABLE",
            f"{url}: {error}",
            hint="is the stack running?",
            exit_code=EXIT_UNAVAILABLE,
        ) from error


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
    failed = span.status.code == span.status.STATUS_CODE_ERROR
    return Node(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        service=service,
        name=span.name,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        error=(span.status.message or "error") if failed else "",
        attributes={a.key: _value(a.value) for a in span.attributes},
        links=[link.trace_id.hex() for link in span.links],
    )


def _value(value: object) -> str:
    kind = value.WhichOneof("value")  # type: ignore[attr-defined]
    return str(getattr(value, kind)) if kind else ""


def trees(nodes: list[Node]) -> list[Node]:
    """Roots with their children; a span whose parent is missing counts as a root."""
    by_id = {node.span_id: node for node in nodes}
    roots: list[Node] = []
    for node in nodes:
        parent = by_id.get(node.parent_id)
        (parent.children if parent else roots).append(node)
    return roots


def waterfall(nodes: list[Node]) -> Iterator[Text]:
    """The trace drawn line by line: service, span, bar, duration, error."""
    start, end = min(n.start for n in nodes), max(n.end for n in nodes)
    services = {name: STYLES[i % len(STYLES)] for i, name in enumerate(_services(nodes))}
    scale = max(end - start, 1)
    yield Text(f"trace {nodes[0].trace_id}  {(end - start) / 1e6:,.1f} ms  {len(nodes)} spans")
    for root in trees(nodes):
        yield from _lines(root, 0, start, scale, services)
    for link in sorted({link for node in nodes for link in node.links} - {nodes[0].trace_id}):
        yield Text(f"linked to trace {link}", style="dim")


def _services(nodes: list[Node]) -> list[str]:
    return list(dict.fromkeys(node.service for node in nodes))


def _lines(
    node: Node, depth: int, start: int, scale: int, styles: dict[str, str]
) -> Iterator[Text]:
    left = round((node.start - start) / scale * BAR_CHARS)
    width = max(1, round((node.end - node.start) / scale * BAR_CHARS))
    bar = (" " * left + "━" * width)[:BAR_CHARS].ljust(BAR_CHARS)
    style = styles[node.service]
    line = Text(f"{node.service:<10}", style=style)
    line.append(f"{'  ' * depth + node.name:<58.58} ", style="")
    line.append(bar, style="red" if node.error else style)
    line.append(f" {node.duration_ms:>9.1f} ms")
    if node.error:
        line.append(f"  {node.error}", style="bold red")
    yield line
    for child in node.children:
        yield from _lines(child, depth + 1, start, scale, styles)
