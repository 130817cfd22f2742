"""Finds the order of reading of a PDF page: columns one after another, tables by row."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from ingest.parsing.pdf.direction import has_right_to_left
from ingest.parsing.pdf.lines import Cell, Row
from ingest.parsing.pdf.text import EAST_ASIAN

GUTTER_MIN = 0.8
# A larger step down, in letter sizes, ends what stands side by side.
BLOCK_STEP_MAX = 4.0
# A larger step down, in steps of the block or in letter sizes, begins a paragraph.
PARAGRAPH_STEP, PARAGRAPH_SIZES = 1.45, 1.2
SINGLE_STEP = 1.2
# What makes lines prose: how many there are, how many go on in the next, how wide they are.
LINES_MIN, FLOW_MIN, WIDTH_MIN, DIGITS_MAX = 3, 0.4, 24.0, 0.2
CLOSED = (".", "!", "?", ":", ";")

Span = tuple[float, float]


@dataclass(slots=True)
class _Block:
    """Rows that share the gutters between their columns; `columns` are the places these take."""

    rows: list[Row]
    columns: list[Span]


def join_rows(rows: list[Row], mark: Callable[[Cell], str]) -> str:
    """The text of a page: a line a row of a column, a blank line between paragraphs.

    `mark` tells what to write before a line.
    """
    rows = [row for row in rows if row]
    if not rows:
        return ""
    is_turned = _runs_right_to_left(rows)
    columns = [
        column for block in _find_blocks(rows) for column in _find_order(block, is_turned=is_turned)
    ]
    return _join_paragraphs([_find_lines(column, is_turned=is_turned) for column in columns], mark)


def _runs_right_to_left(rows: list[Row]) -> bool:
    cells = [cell for row in rows for cell in row]
    return 2 * sum(has_right_to_left(cell.text) for cell in cells) > len(cells)


def _find_blocks(rows: list[Row]) -> list[_Block]:
    gutter = GUTTER_MIN * median(cell.size for row in rows for cell in row)
    blocks = list[_Block]()
    for row in rows:
        columns = _cover(blocks[-1].columns, row, gutter) if blocks else []
        if columns and _fits(blocks[-1], row, columns, gutter):
            blocks[-1].rows.append(row)
            blocks[-1].columns = columns
        else:
            blocks.append(_Block([row], _cover([], row, gutter)))
    for above, block in pairwise(blocks):
        _take_rows_above(above, block, gutter)
    return [block for block in blocks if block.rows]


def _fits(block: _Block, row: Row, columns: list[Span], gutter: float) -> bool:
    last = block.rows[-1]
    if _find_step(last, row) > BLOCK_STEP_MAX * row[0].size:
        return False
    if len(block.columns) > 1:
        return len(columns) > 1
    # Rows of several cells, or beside the last row, begin columns.
    is_beside = len(_cover(_cover([], last, gutter), row, gutter)) > 1
    return len(row) == 1 and (len(columns) > 1 or not is_beside)


def _take_rows_above(above: _Block, block: _Block, gutter: float) -> None:
    """Takes rows above that leave the gutters free: one column may begin higher than the other."""
    if len(block.columns) == 1 or len(above.columns) > 1:
        return
    while above.rows:
        last = above.rows[-1]
        columns = _cover(block.columns, last, gutter)
        if len(columns) != len(block.columns):
            return
        if _find_step(last, block.rows[0]) > BLOCK_STEP_MAX * last[0].size:
            return
        block.rows.insert(0, above.rows.pop())
        block.columns = columns


def _find_step(upper: Row, lower: Row) -> float:
    return upper[0].line - lower[0].line


def _cover(columns: list[Span], row: Row, gutter: float) -> list[Span]:
    """The places that columns and a row take together, from left to right."""
    spans = sorted([*columns, *((cell.start, cell.end) for cell in row)])
    merged = spans[:1]
    for start, end in spans[1:]:
        if start - merged[-1][1] < gutter:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _find_order(block: _Block, *, is_turned: bool) -> list[list[Row]]:
    """The columns of a block, or the block as it is."""
    if len(block.columns) == 1:
        return [block.rows]
    columns = [_cut_column(block.rows, span) for span in block.columns]
    if not (all(map(_is_prose, columns)) or _are_drawn_one_by_one(columns)):
        return [block.rows]
    return columns[::-1] if is_turned else columns


def _cut_column(rows: list[Row], span: Span) -> list[Row]:
    start, end = span
    cut = ([cell for cell in row if start <= cell.start <= end] for row in rows)
    return [row for row in cut if row]


def _is_prose(column: list[Row]) -> bool:
    lines = [" ".join(cell.text for cell in row) for row in column]
    if len(lines) < LINES_MIN:
        return False
    steps = list(pairwise(lines))
    flows = sum(not line.endswith(CLOSED) and following[0].islower() for line, following in steps)
    if flows >= FLOW_MIN * len(steps):
        return True
    text = "".join(lines)
    digits = sum(map(str.isdigit, text))
    return fmean(map(_measure, lines)) >= WIDTH_MIN and digits <= DIGITS_MAX * len(text)


def _measure(line: str) -> int:
    """Width of a line in letters; an East Asian sign takes two."""
    return len(line) + len(EAST_ASIAN.findall(line))


def _are_drawn_one_by_one(columns: list[list[Row]]) -> bool:
    """Whether the file draws column after column, and they are not the parts of a form or table."""
    cells = [[cell for row in column for cell in row] for column in columns]
    if min(map(len, cells)) < LINES_MIN:
        return False
    for left, right in pairwise(cells):
        if max(cell.last for cell in left) > min(cell.first for cell in right):
            return False
    return not any(map(_is_list_of_values, cells))


def _is_list_of_values(cells: list[Cell]) -> bool:
    """Whether most cells are names of fields, single words or numbers."""
    values = sum(
        cell.text.endswith(":") or " " not in cell.text or not cell.text[0].isalpha()
        for cell in cells
    )
    return 2 * values > len(cells)


def _find_lines(rows: list[Row], *, is_turned: bool) -> list[Cell]:
    return [_join_cells(row[::-1] if is_turned else row) for row in rows]


def _join_cells(row: Row) -> Cell:
    if len(row) == 1:
        return row[0]
    return Cell(
        " ".join(cell.text for cell in row),
        min(cell.start for cell in row),
        max(cell.end for cell in row),
        min(cell.bottom for cell in row),
        max(cell.top for cell in row),
        row[0].line,
        max(cell.size for cell in row),
        min(cell.first for cell in row),
        max(cell.last for cell in row),
    )


def _join_paragraphs(columns: list[list[Cell]], mark: Callable[[Cell], str]) -> str:
    parts = list[str]()
    previous: Cell | None = None
    for lines in columns:
        pitch = _find_pitch(lines)
        for line in lines:
            if previous is not None:
                parts.append(_find_break(previous, line, pitch))
            parts += (mark(line), line.text)
            previous = line
    return "".join(parts)


def _find_pitch(lines: list[Cell]) -> float:
    """The usual step from line to line in letter sizes."""
    steps = list(_find_steps(lines))
    return max(1.0, median(steps)) if len(steps) > 1 else SINGLE_STEP


def _find_steps(lines: list[Cell]) -> Iterator[float]:
    for upper, lower in pairwise(lines):
        if upper.line > lower.line:
            yield (upper.line - lower.line) / max(upper.size, lower.size)


def _find_break(upper: Cell, lower: Cell, pitch: float) -> str:
    step = upper.line - lower.line
    if step < 0:
        # The next column: a sentence may go on in it.
        goes_on = not upper.text.endswith(CLOSED) and not lower.text[0].isupper()
        return "\n" if goes_on else "\n\n"
    size = max(upper.size, lower.size)
    return "\n\n" if step > PARAGRAPH_STEP * pitch * size else "\n"
