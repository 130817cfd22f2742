"""The result of a reader in the child; imported at every start, so keep it small."""

from typing import NamedTuple

from ingest.parsing.failure import ParseFailure, RefusalError


class Reading(NamedTuple):
    """Raw text, one entry per page; formats without pages have one entry.

    `repairs` counts what the library reported and worked around. `is_marked`: the texts contain the
    marks of `outline_marks`.
    """

    title: str
    texts: list[str]
    repairs: int
    is_marked: bool = False


def check_length(size_chars: int, limit_chars: int) -> None:
    """Stop a reader when its text exceeds the limit, before it fills the memory."""
    if size_chars > limit_chars:
        raise RefusalError(
            ParseFailure.PARSER_OUTPUT_LIMIT,
            f"it has more than {limit_chars} characters of text; split it",
        )
