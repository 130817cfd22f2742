"""Reads lines of JSON: each line is a record of `path: value` lines; runs in the child."""

import json
from io import BytesIO, TextIOWrapper

from ingest.notes import Note, NoteCode, render_count
from ingest.parsing.data import read_json
from ingest.parsing.data.json_lines import JsonLines
from ingest.parsing.data.json_values import parse_values
from ingest.parsing.failure import RefusalError
from ingest.parsing.reading import Reading


def read(data: bytes, limit_chars: int) -> Reading:
    """Reads JSON lines in UTF-8; a line that is no JSON is kept as the text it is.

    If the first line is none, the values may reach over lines, as in JSON.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED` if a line is nested too deeply, or `PARSER_OUTPUT_LIMIT`.
    """
    lines, damaged, is_first = JsonLines(limit_chars), 0, True
    for line in TextIOWrapper(BytesIO(data), "utf-8", newline="\n"):
        if not line.strip():
            continue
        try:
            for value in list(parse_values(line)):
                lines.write_record(value)
        except json.JSONDecodeError:
            if is_first and (reading := _read_whole(data, limit_chars)):
                return reading
            damaged += 1
            lines.write_text(line.strip())
        is_first = False
    return Reading("", [lines.get_text()], _note_damaged(damaged))


def _note_damaged(lines: int) -> tuple[Note, ...]:
    if not lines:
        return ()
    said = f"{render_count(lines, 'line')} could not be read as JSON and became plain text"
    return (Note(NoteCode.LINES_KEPT_AS_TEXT, said),)


def _read_whole(data: bytes, limit_chars: int) -> Reading | None:
    try:
        return read_json.read(data, limit_chars)
    except RefusalError:
        return None
