"""Rows of tables: `cell | cell` for data, lines for rows that only lay out a page."""

from dataclasses import dataclass, field

from selectolax.lexbor import LexborNode

from ingest.parsing.html.elements import LISTS, PARAGRAPHS
from ingest.parsing.html.rules import Attributes
from ingest.parsing.line_writer import LINE, LineWriter
from ingest.parsing.outline_marks import TABLE_MARK

# The bounds of the HTML standard.
COLUMNS_MAX, ROWS_MAX = 1000, 65534


@dataclass(slots=True)
class _Span:
    """A cell that reaches into later rows, up to `last_row`."""

    last_row: int
    text: str


@dataclass(slots=True)
class _Table:
    row: int = 0
    has_header: bool = False
    spans: dict[int, _Span] = field(default_factory=dict)


@dataclass(slots=True)
class _Row:
    is_data: bool
    column: int = 0


class TableRows:
    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._tables: list[_Table] = []
        self._rows: list[_Row] = []

    @property
    def is_in_table(self) -> bool:
        return bool(self._tables)

    @property
    def is_in_some_row(self) -> bool:
        return bool(self._rows)

    def enter_table(self) -> None:
        self.break_up()
        self._tables.append(_Table())

    def leave_table(self) -> None:
        self._tables.pop()

    def break_up(self) -> None:
        """Write the rest of the open row in lines: it contains what is no part of a row."""
        if self._rows and self._rows[-1].is_data:
            self._rows[-1].is_data = False
            self._writer.is_in_row = False
            self._writer.end_row()

    def enter_row(self, node: LexborNode) -> None:
        table = self._tables[-1]
        table.row += 1
        self._rows.append(_Row(_is_data(node, table)))
        self._writer.is_in_row = self._rows[-1].is_data
        if self._writer.is_in_row and table.row == 1 and _names_columns(node):
            self._writer.set_mark(TABLE_MARK)

    def leave_row(self) -> None:
        row = self._rows.pop()
        if row.is_data and row.column > 0:
            self._repeat_spans(row)
        self._writer.end_row()
        self._writer.set_mark("")
        self._writer.is_in_row = bool(self._rows) and self._rows[-1].is_data

    def enter_cell(self) -> int:
        row = self._rows[-1]
        if not row.is_data:
            self._writer.request_break(LINE)
            return self._writer.mark()
        self._repeat_spans(row)
        self._begin_column(row)
        return self._writer.mark()

    def leave_cell(self, attributes: Attributes, mark: int) -> None:
        row, table = self._rows[-1], self._tables[-1]
        if not row.is_data:
            self._writer.request_break(LINE)
            return
        if not attributes:
            row.column += 1
            return
        width = _read_span(attributes.get("colspan"), COLUMNS_MAX) or 1
        height = _read_span(attributes.get("rowspan"), ROWS_MAX)
        if height != 1:
            last_row = table.row + (height or ROWS_MAX) - 1
            text = self._writer.read_since(mark)
            for column in range(row.column, row.column + width):
                table.spans[column] = _Span(last_row, text)
                text = ""
        for _ in range(width - 1):
            row.column += 1
            self._begin_column(row)
        row.column += 1

    def _begin_column(self, row: _Row) -> None:
        if row.column > 0:
            self._writer.request_cell()

    def _repeat_spans(self, row: _Row) -> None:
        """Write the cells of earlier rows that reach into this one at this column."""
        table = self._tables[-1]
        while (span := table.spans.get(row.column)) and span.last_row >= table.row:
            self._begin_column(row)
            self._writer.write(span.text)
            row.column += 1


def _is_data(row: LexborNode, table: _Table) -> bool:
    """Whether a row contains data; a row for layout contains code, tables, lists or paragraphs."""
    cells = _list_children(row)
    if any(cell.tag == "th" for cell in cells):
        table.has_header = True
    named = table.has_header and len(cells) > 1
    return not any(_is_laid_out(cell, names_columns=named) for cell in cells if cell.child)


def _names_columns(row: LexborNode) -> bool:
    cells = _list_children(row)
    return len(cells) > 1 and all(cell.tag == "th" for cell in cells)


def _is_laid_out(cell: LexborNode, *, names_columns: bool) -> bool:
    tags = [child.tag or "" for child in _list_children(cell)]
    if "table" in tags or "pre" in tags:
        return True
    if not tags or names_columns:
        return False
    return not LISTS.isdisjoint(tags) or sum(tag in PARAGRAPHS or tag == "div" for tag in tags) > 1


def _list_children(node: LexborNode) -> list[LexborNode]:
    children, child = [], node.child
    while child is not None:
        if child.is_element_node:
            children.append(child)
        child = child.next
    return children


def _read_span(text: str | None, most: int) -> int:
    number = (text or "1").strip()
    if not (number.isascii() and number.isdecimal()) or len(number) > 9:  # noqa: PLR2004
        return 1
    return min(int(number), most)
