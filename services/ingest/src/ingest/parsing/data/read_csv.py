"""Reads tables of separated values: each row becomes a `cell | cell` line; runs in the child.

clevercsv finds how the values are separated and quoted, and Python's csv module reads them.
"""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from itertools import chain, islice
from typing import NamedTuple

import clevercsv

from ingest.notes import Note, NoteCode, render_count
from ingest.parsing.outline_marks import TABLE_MARK
from ingest.parsing.reading import Reading, check_length

DELIMITERS = (",", ";", "\t", "|")
# The library takes quadratic time for long cells; their type shows in their first characters.
READ_CHARS, SAMPLE_CHARS, CELL_SAMPLE_CHARS = 256 * 1024, 16 * 1024, 100
# Share of the first rows with the same number of cells below which the text is no table.
ROWS_COMPARED, SAME_WIDTH_SHARE = 100, 0.6
# A quoted cell with more lines than this was never closed, and quotes that were left open more
# often than that are no quotes.
CELL_MAX_LINES, OPEN_QUOTES_MAX = 10_000, 100
ROWS_AT_ONCE = 1_000

# How spreadsheets are told the separator.
_SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=([,;\t|])\"?\r?\n?", re.IGNORECASE)
_LONG_QUOTED_CELL = re.compile(
    rf'(?<![^,;\t|\n\r])"((?:[^"]|""){{{CELL_SAMPLE_CHARS}}})(?:[^"]++|"")*+(?:"|\Z)'
)
_LONG_CELL = re.compile(rf"([^,;\t|\n\r\"']{{{CELL_SAMPLE_CHARS}}})[^,;\t|\n\r\"']+")

_NO_NAME = re.compile(r"\s*(?:[-+\u20ac$]?[\d.,]*\d|\Z)")

# The module refuses longer cells; the size of the document is limited already.
csv.field_size_limit(1 << 30)


class _Dialect(NamedTuple):
    """`escapes`: a quote in a quoted cell has a backslash before it, and is not doubled."""

    delimiter: str
    quote: str = '"'
    escapes: bool = False


def read(data: bytes, limit_chars: int) -> Reading:
    """Reads a table in UTF-8; text without columns is kept as it is.

    A row whose quotes do not match is divided at each separator; the next rows are not affected.

    Raises:
        RefusalError: `PARSER_OUTPUT_LIMIT`.
    """
    # The module refuses them, and they are no text.
    data = data.replace(b"\x00", b"")
    beginning = data[:READ_CHARS].decode(errors="ignore")
    separator_line = _SEPARATOR_LINE.match(beginning)
    if separator_line:
        dialect: _Dialect | None = _Dialect(separator_line[1])
    else:
        dialect = _find_dialect(beginning)
    if dialect is None or not (separator_line or _is_table(data, dialect)):
        return Reading("", [data.decode()])
    lines = _iterate_lines(data)
    table = _Table(islice(lines, 1 if separator_line else 0, None), dialect)
    written = _write(table)
    blocks, size_chars = [], 0
    while some := list(islice(written, ROWS_AT_ONCE)):
        blocks.append("\n".join(some))
        size_chars += len(blocks[-1]) + 1
        check_length(size_chars, limit_chars)
    return Reading("", ["\n".join(blocks)], _note_quotes(table.open_quotes), is_marked=True)


def _note_quotes(rows: int) -> tuple[Note, ...]:
    if not rows:
        return ()
    said = f"{render_count(rows, 'row')} had quotes that do not match; cells may be divided wrongly"
    return (Note(NoteCode.QUOTES_UNMATCHED, said),)


def _iterate_lines(data: bytes) -> Iterator[str]:
    return TextIOWrapper(BytesIO(data), "utf-8", newline="")


def _find_dialect(beginning: str) -> _Dialect | None:
    """Finds how the values of a text are separated; None if they are not."""
    sample = _LONG_CELL.sub(r"\1", _LONG_QUOTED_CELL.sub(_shorten_cell, beginning))
    if len(sample) > SAMPLE_CHARS:
        end = sample.rfind("\n", 0, SAMPLE_CHARS) + 1 or SAMPLE_CHARS
        sample = sample[:end]
    found = clevercsv.Sniffer().sniff(sample, delimiters=DELIMITERS)
    if found is None or not found.delimiter:
        return None
    return _Dialect(found.delimiter, found.quotechar or '"', bool(found.escapechar))


def _shorten_cell(cell: re.Match[str]) -> str:
    """Shortens a quoted cell, and leaves out of it what would divide cells without the quotes."""
    return '"' + re.sub(r"[,;\t|\n\r]", " ", cell[1]) + '"'


def _is_table(data: bytes, dialect: _Dialect) -> bool:
    """Whether most of the first rows have the same number of cells, and more than one."""
    rows = iter(_Table(_iterate_lines(data), dialect))
    widths = Counter(len(row) for row in islice(rows, ROWS_COMPARED) if any(row))
    width, count = max(widths.items(), key=lambda item: item[1], default=(0, 0))
    return width > 1 and count >= SAME_WIDTH_SHARE * widths.total()


def _write(rows: "_Table") -> Iterator[str]:
    has_begun = False
    for row in rows:
        while row and not row[-1].strip():
            row.pop()
        # White space in a cell, also a line break, has no meaning, as in tables of other formats.
        line = " ".join(" | ".join(row).split())
        if not has_begun and len(row) > 1:
            has_begun = True
            line = TABLE_MARK + line if _names_columns(row) else line
        yield line


def _names_columns(row: list[str]) -> bool:
    """Whether all cells are different words: a row of data has numbers, gaps or repeated values."""
    return len({cell.strip() for cell in row}) == len(row) and not any(map(_NO_NAME.match, row))


class _Table:
    """The rows of a table, in one pass over its lines; `open_quotes` counts what was repaired."""

    def __init__(self, lines: Iterator[str], dialect: _Dialect) -> None:
        self.open_quotes = 0
        self._lines = lines
        self._dialect = dialect
        # Lines of the row that is being read, and lines to be read again.
        self._taken: list[str] = []
        self._again = deque[str]()

    def __iter__(self) -> Iterator[list[str]]:
        is_complete = False
        while not is_complete:
            try:
                for row in self._read_quoted():
                    self._taken.clear()
                    yield row
                is_complete = True
            except csv.Error:
                self.open_quotes += 1
                yield self._divide_line()
            if self.open_quotes > OPEN_QUOTES_MAX:
                yield from self._divide(chain(self._again, self._lines))
                return

    def _read_quoted(self) -> Iterator[list[str]]:
        dialect = self._dialect
        lines = self._take_lines()
        if dialect.escapes:
            lines = (line.replace("\\" + dialect.quote, 2 * dialect.quote) for line in lines)
        return csv.reader(
            lines,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            skipinitialspace=True,
            strict=True,
        )

    def _take_lines(self) -> Iterator[str]:
        while True:
            line = self._again.popleft() if self._again else next(self._lines, "")
            if not line:
                return
            self._taken.append(line)
            if len(self._taken) > CELL_MAX_LINES:
                message = "a cell that is not closed"
                raise csv.Error(message)
            yield line

    def _divide_line(self) -> list[str]:
        """Divides the first line of a row that cannot be read; its other lines are read again."""
        first, *others = self._taken
        self._taken.clear()
        self._again.extendleft(reversed(others))
        return next(self._divide(iter([first])))

    def _divide(self, lines: Iterator[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._dialect.delimiter, quoting=csv.QUOTE_NONE)
