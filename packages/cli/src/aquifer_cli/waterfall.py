"""Draws a trace: one line per span, children below their parent, bars on a common scale."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from aquifer_cli.launch import command_name
from aquifer_cli.trace import Node

STYLES = ("cyan", "magenta", "green", "yellow", "blue")
BAR_CELLS = 32
BAR_CELLS_MIN = 8
NAME_CELLS_MIN = 16
TIME_CELLS = 9
_SUBJECTS = ("aquifer.answer.id", "document.id")
_KEPT_PARTS = 2
_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Branch:
    """A span and its depth below the root."""

    node: Node
    depth: int


def order_branches(nodes: Sequence[Node]) -> list[Branch]:
    """Orders spans so that each follows its parent; a span without a known parent is a root."""
    known = {node.span_id for node in nodes}
    children: dict[str, list[Node]] = {}
    for node in nodes:
        children.setdefault(node.parent_id if node.parent_id in known else "", []).append(node)
    ordered: dict[str, Branch] = {}
    # Spans that are each other's parents have no root, so the first one left becomes a root.
    for start in (*children.get("", ()), *nodes):
        waiting = [Branch(start, 0)]
        while waiting:
            branch = waiting.pop()
            if branch.node.span_id in ordered:
                continue
            ordered[branch.node.span_id] = branch
            below = children.get(branch.node.span_id, ())
            waiting += [Branch(node, branch.depth + 1) for node in reversed(below)]
    return list(ordered.values())


def draw_waterfall(nodes: Sequence[Node], width: int | None) -> Iterator[Text]:
    """The lines of a trace that has at least one span.

    Args:
        nodes: its spans, earliest first.
        width: cells of a line; None: no limit.
    """
    start, end = min(n.start for n in nodes), max(n.end for n in nodes)
    services = list(dict.fromkeys(node.service for node in nodes))
    styles = {name: STYLES[i % len(STYLES)] for i, name in enumerate(services)}
    yield from _head(nodes, start, end)
    ordered = order_branches(nodes)
    columns = _columns(ordered, services, width)
    for branch in ordered:
        yield from _lines(branch, columns, styles, start, max(end - start, 1))
    for link in sorted({link for node in nodes for link in node.links} - {nodes[0].trace_id}):
        yield Text(f"linked: {command_name()} trace {link}")


def render_duration(nanoseconds: int) -> str:
    """Formats a duration: `0.42 ms`, `12.3 ms`, `4.56 s`."""
    if nanoseconds >= _SECOND:
        return f"{nanoseconds / _SECOND:,.2f} s"
    ms = nanoseconds / 1e6
    return f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2f} ms"


def _head(nodes: Sequence[Node], start: int, end: int) -> Iterator[Text]:
    yield Text(f"trace {nodes[0].trace_id}", style="bold")
    for key in _SUBJECTS:
        for value in dict.fromkeys(n.attributes[key] for n in nodes if n.attributes.get(key)):
            yield Text(f"{'answer' if key == _SUBJECTS[0] else 'document'} {value}")
    began = datetime.fromtimestamp(start / 1e9, UTC)
    failures = sum(bool(node.error) for node in nodes)
    failed = f", {failures} failed" if failures else ""
    yield Text(
        f"{render_duration(end - start)}, "
        f"{len(nodes)} {'span' if len(nodes) == 1 else 'spans'}{failed}, "
        f"from {began:%Y-%m-%d %H:%M:%S} UTC",
        style="dim",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Width of each column in cells; a bar of 0 cells is omitted."""

    service: int
    name: int
    bar: int


def _columns(ordered: list[Branch], services: list[str], width: int | None) -> _Columns:
    service = max(map(cell_len, services))
    name = max(cell_len(_label(branch)) for branch in ordered)
    if width is None:
        return _Columns(service=service, name=name, bar=BAR_CELLS)
    left = width - service - TIME_CELLS - 3
    bar = min(BAR_CELLS, max(left - name, BAR_CELLS_MIN))
    if left - bar < NAME_CELLS_MIN:
        return _Columns(service=service, name=max(left + 1, NAME_CELLS_MIN), bar=0)
    return _Columns(service=service, name=min(name, left - bar), bar=bar)


def _label(branch: Branch) -> str:
    """Shortens a span's name: `QueryService/Ask` for `aquifer.query.v1.QueryService/Ask`."""
    name = branch.node.name
    short = name.rsplit(".", 1)[-1] if len(name.split("/")) == _KEPT_PARTS else name
    return "  " * branch.depth + short


def _lines(
    branch: Branch, columns: _Columns, styles: dict[str, str], start: int, scale: int
) -> Iterator[Text]:
    node, label = branch.node, _label(branch)
    if cell_len(label) > columns.name:
        label = set_cell_size(label, columns.name - 1) + "…"
    style = styles[node.service]
    line = Text(set_cell_size(node.service, columns.service) + " ", style=style)
    line.append(set_cell_size(label, columns.name) + " ")
    if columns.bar:
        line.append(
            _bar(node, columns.bar, start, scale) + " ", style="red" if node.error else style
        )
    line.append(f"{render_duration(node.end - node.start):>{TIME_CELLS}}")
    yield line
    if node.error:
        yield Text(f"{' ' * columns.service} {'  ' * branch.depth}✗ {node.error}", style="bold red")


def _bar(node: Node, cells: int, start: int, scale: int) -> str:
    left = min(round((node.start - start) / scale * cells), cells - 1)
    length = max(1, round((node.end - node.start) / scale * cells))
    return (" " * left + "━" * length)[:cells].ljust(cells)
