"""Reads JSON: each value becomes a `path: value` line; runs in the child."""

import json

from ingest.parsing.data.json_lines import JsonLines
from ingest.parsing.data.json_values import Value, parse_values, syntax_error
from ingest.parsing.reading import Reading

COMMENT_MARKS = ("//", "/*")


def read(data: bytes, limit_chars: int) -> Reading:
    """Reads one value in UTF-8, or several after each other, each of which is then a record.

    JSON with comments, as many programs have in their settings, is kept as the text it is.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if it is no JSON or nested too deeply, or
            `PARSER_OUTPUT_LIMIT`.
    """
    text = data.decode()
    try:
        values = list(parse_values(text))
    except json.JSONDecodeError as error:
        if text[error.pos :].lstrip().startswith(COMMENT_MARKS):
            return Reading("", [text])
        raise syntax_error(error) from error
    lines = JsonLines(limit_chars)
    if len(values) == 1:
        lines.write(values[0])
        return Reading(_find_title(values[0]), [lines.get_text()])
    for value in values:
        lines.write_record(value)
    return Reading("", [lines.get_text()])


def _find_title(value: Value) -> str:
    """The title of a document that is one object."""
    if not isinstance(value, tuple):
        return ""
    return next((one for key, one in value if key == "title" and isinstance(one, str)), "")
