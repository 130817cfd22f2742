"""The result of a reader in the child; imported at every start, so keep it small."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from ingest.notes import Note
from ingest.parsing.failure import ParseFailure, RefusalError


class Reading(NamedTuple):
    """Raw text, one entry per page; formats without pages have one entry.

    `is_marked`: the texts contain the marks of `outline_marks`. `boxes`: for each page the places
    of its lines by the numbers of their marks, four sides each, as in `aquifer.lines`.
    """

    title: str
    texts: list[str]
    notes: tuple[Note, ...] = ()
    is_marked: bool = False
    boxes: "Sequence[array[int]]" = ()

    def add_notes(self, notes: tuple[Note, ...]) -> "Reading":
        """The same with notes of an earlier step before its own."""
        return self._replace(notes=notes + self.notes)


def check_length(size_chars: int, limit_chars: int) -> None:
    """Stop a reader when its text exceeds the limit, before it fills the memory."""
    if size_chars > limit_chars:
        raise RefusalError(
            ParseFailure.PARSER_OUTPUT_LIMIT,
            f"it has more than {limit_chars} characters of text; split it",
        )
