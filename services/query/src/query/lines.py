"""The lines of a passage with their pages."""

from collections.abc import Iterator

from aquifer.lines import Line, unpack
from query.domain import Passage


def find_lines(passage: Passage, start: int, end: int) -> Iterator[tuple[int, Line]]:
    """Page and place of each line that has characters of `text[start:end]`."""
    for line in unpack(passage.lines):
        if line.start < end and line.end > start:
            yield passage.page_at(line.start), line
