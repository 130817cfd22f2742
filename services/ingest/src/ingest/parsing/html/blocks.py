"""Lists, tables and code of a page."""

from ingest.parsing.html.elements import LISTS
from ingest.parsing.html.frame import Enter, Frame
from ingest.parsing.html.list_numbers import BULLET, ListMarks
from ingest.parsing.html.table_rows import TableRows
from ingest.parsing.line_writer import PARAGRAPH, LineWriter

INDENT, INDENTS_MAX = "  ", 20


class Blocks:
    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._rows = TableRows(writer)
        self._lists: list[ListMarks] = []
        self.enters: dict[str, Enter] = dict.fromkeys(LISTS, self._enter_list) | {
            "li": self._enter_item,
            "table": self._enter_table,
            "tr": self._enter_row,
            "td": self._enter_cell,
            "th": self._enter_cell,
            "pre": self._enter_code,
        }

    @property
    def is_in_list(self) -> bool:
        return bool(self._lists)

    def _enter_list(self, frame: Frame) -> bool:
        self._lists.append(ListMarks(frame.tag, frame.attributes))
        frame.closers.append(self._leave_list)
        return True

    def _leave_list(self) -> None:
        self._lists.pop()

    def _enter_item(self, frame: Frame) -> bool:
        mark = self._lists[-1].take(frame.attributes) if self._lists else BULLET
        level = min(len(self._lists) - 1, INDENTS_MAX)
        self._writer.set_prefix(mark if self._writer.is_in_row else INDENT * level + mark)
        frame.closers.append(lambda: self._writer.set_prefix(""))
        return True

    def _enter_table(self, frame: Frame) -> bool:
        self._rows.enter_table()
        self._writer.request_break(PARAGRAPH)
        frame.closers.append(self._rows.leave_table)
        return True

    def _enter_row(self, frame: Frame) -> bool:
        if self._rows.is_in_table:
            self._rows.enter_row(frame.node)
            frame.closers.append(self._rows.leave_row)
        return True

    def _enter_cell(self, frame: Frame) -> bool:
        if self._rows.is_in_some_row:
            mark = self._rows.enter_cell()
            frame.closers.append(lambda: self._rows.leave_cell(frame.attributes, mark))
        return True

    def _enter_code(self, _frame: Frame) -> bool:
        self._rows.break_up()
        self._writer.request_break(PARAGRAPH)
        return True
