"""Notes on how a document was read. The child imports this module, so keep it small."""

from enum import StrEnum
from typing import NamedTuple


class NoteCode(StrEnum):
    """Everything that is noted; docs/formats.md explains each."""

    ENCODING_DETECTED = "ENCODING_DETECTED"
    CHARSET_IGNORED = "CHARSET_IGNORED"
    TEXT_REPAIRED = "TEXT_REPAIRED"
    PAGES_WITHOUT_TEXT = "PAGES_WITHOUT_TEXT"
    SIGNS_LEFT_OUT = "SIGNS_LEFT_OUT"
    ATTACHMENTS_LEFT_OUT = "ATTACHMENTS_LEFT_OUT"
    LINES_KEPT_AS_TEXT = "LINES_KEPT_AS_TEXT"
    QUOTES_UNMATCHED = "QUOTES_UNMATCHED"
    REPEATED_LINES = "REPEATED_LINES"
    PII_MASKING = "PII_MASKING"
    NEAR_DUPLICATES = "NEAR_DUPLICATES"
    TEXT_RECOGNISED = "TEXT_RECOGNISED"


class Note(NamedTuple):
    """`detail` is one sentence with numbers and contains no document text."""

    code: NoteCode
    detail: str


def render_count(number: int, noun: str) -> str:
    """Renders a number and its noun, as in `1 page` and `12 pages`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
