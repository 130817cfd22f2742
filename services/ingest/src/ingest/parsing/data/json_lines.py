"""Writes values of JSON as readable lines, `path: value`; a blank line ends a record."""

import re
from collections.abc import Sequence

from ingest.parsing.data.json_values import DEPTH_MAX, Scalar, Value, depth_error
from ingest.parsing.reading import check_length

# A record of up to this length has no blank line inside, so that it is cut only from others.
WHOLE_RECORD_CHARS = 1_000
# How deep the arrays of one line may be nested: the outlines of areas on a map are.
LISTED_DEPTH = 4

_BLANK_LINES = re.compile(r"\n\s*\n")


class JsonLines:
    """Collects the text of values, of which each object in an outermost array is a record."""

    def __init__(self, limit_chars: int) -> None:
        self._limit_chars = limit_chars
        self._size_chars = 0
        self._records: list[str] = []
        self._lines: list[str] = []

    def write(self, value: Value) -> None:
        """Write one value; the objects in its outermost arrays are records."""
        self._write_records(value, "", 0)
        self.end_record()

    def write_record(self, value: Value) -> None:
        """Write one value as one record."""
        self._write(value, "", 0)
        self.end_record()

    def write_text(self, text: str) -> None:
        self._add(text)
        self.end_record()

    def end_record(self) -> None:
        record = "\n".join(self._lines)
        self._lines.clear()
        if len(record) <= WHOLE_RECORD_CHARS:
            record = _BLANK_LINES.sub("\n", record)
        if record:
            self._records.append(record)

    def get_text(self) -> str:
        return "\n\n".join(self._records)

    def _write_records(self, value: Value, path: str, depth: int) -> None:
        if isinstance(value, tuple) and value:
            for key, inner in value:
                self._write_records(inner, _join(path, key), _deepen(depth))
        elif isinstance(value, list) and any(isinstance(one, tuple) for one in value):
            self.end_record()
            for element in value:
                self._write(element, path, _deepen(depth))
                self.end_record()
        elif isinstance(value, list) and not path:
            for element in value:
                self._write(element, path, _deepen(depth))
        else:
            self._write(value, path, depth)

    def _write(self, value: Value, path: str, depth: int) -> None:
        """Write a value and what is in it; arrays of objects are numbered from 0."""
        if isinstance(value, tuple) and value:
            for key, inner in value:
                self._write(inner, _join(path, key), _deepen(depth))
        elif isinstance(value, list) and not _is_listable(value):
            for number, element in enumerate(value):
                self._write(element, f"{path}[{number}]", _deepen(depth))
        else:
            text = _format(value, depth)
            self._add(f"{path}: {text}" if path else text)

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._size_chars += len(line) + 1
        check_length(self._size_chars, self._limit_chars)


def _is_listable(values: Sequence[Value], depth: int = 1) -> bool:
    """Whether an array is clear in one line: numbers and short words, or arrays of these."""
    for one in values:
        if isinstance(one, str):
            if "," in one or "\n" in one:
                return False
        elif isinstance(one, tuple) or (
            isinstance(one, list) and (depth == LISTED_DEPTH or not _is_listable(one, depth + 1))
        ):
            return False
    return True


def _format(value: Value, depth: int) -> str:
    """Format a scalar, an empty object, or an array that is clear in one line."""
    if isinstance(value, tuple):
        return "{}"
    if isinstance(value, list):
        texts = [
            f"[{_format(one, _deepen(depth))}]" if isinstance(one, list) else _format(one, depth)
            for one in value
        ]
        return ", ".join(texts) or "[]"
    return _format_scalar(value)


def _format_scalar(value: Scalar) -> str:
    if isinstance(value, str):
        return value
    return "null" if value is None else str(value).lower()


def _join(path: str, key: str) -> str:
    name = " ".join(key.split()) or '""'
    return f"{path}.{name}" if path else name


def _deepen(depth: int) -> int:
    if depth >= DEPTH_MAX:
        raise depth_error()
    return depth + 1
