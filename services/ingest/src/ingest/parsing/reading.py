"""What a reader inside the child hands back; imported on every start, so it stays tiny."""

from typing import NamedTuple

from ingest.parsing.failure import ParseFailure, RefusalError


class Reading(NamedTuple):
    """Raw text, one entry per page; formats without pages have one entry.

    `repairs` counts what the library reported and worked around.
    """

    title: str
    texts: list[str]
    repairs: int


def check_length(size_chars: int, limit_chars: int) -> None:
    """Stop a reader whose text outgrows its bound, before it fills the memory."""
    if size_chars > limit_chars:
        raise RefusalError(
            ParseFailure.PARSER_OUTPUT_LIMIT, f"holds more than {limit_chars} characters of text"
        )
