"""Reads the filter of ListDocuments, a subset of AIP-160.

A new field is one entry of `_KINDS`, a new kind of value one of `_Kind`, `_OPERATORS` and `_read`.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, NoReturn

from chassis.base.errors import FieldViolation, InvalidInputError
from ingest.domain import State
from ingest.filter_values import list_operators, read_value
from ingest.filters import (
    All,
    AnyOf,
    Condition,
    Expression,
    Field,
    MetadataCondition,
    Not,
    Operator,
)
from ingest.metadata import KEY_MAX_CHARS
from ingest.notes import NoteCode

FILTER_MAX_CHARS: Final = 1_000
CONDITIONS_MAX: Final = 32
DEPTH_MAX: Final = 8
INT64: Final = range(-(1 << 63), 1 << 63)


def parse_filter(text: str) -> Expression | None:
    """The expression of a filter; None if it is empty.

    Raises:
        InvalidInputError: FILTER_INVALID, with the position and what is possible there.
    """
    if not text.strip():
        return None
    if len(text) > FILTER_MAX_CHARS:
        _refuse(FILTER_MAX_CHARS, f"a filter has at most {FILTER_MAX_CHARS} characters")
    return _Parser(text).parse()


class _Kind(StrEnum):
    """Kinds of values, and how each is written."""

    STATE = f"one of {', '.join(State)}"
    CODE = "a reason such as NO_TEXT"
    TEXT = "a word, or a text in double quotes"
    NUMBER = "a whole number"
    NOTE = f"the code of a note: {', '.join(NoteCode)}"
    TIME = "a time such as 2026-01-31T12:00:00Z, with at most six decimals"
    METADATA = "true, false, a number, a time, a word, or a text in double quotes"


_KINDS: Final[Mapping[Field, _Kind]] = {
    Field.STATE: _Kind.STATE,
    Field.REASON: _Kind.CODE,
    Field.TITLE: _Kind.TEXT,
    Field.MEDIA_TYPE: _Kind.TEXT,
    Field.FILE_NAME: _Kind.TEXT,
    Field.SIZE_BYTES: _Kind.NUMBER,
    Field.CREATE_TIME: _Kind.TIME,
    Field.UPDATE_TIME: _Kind.TIME,
    Field.NOTES: _Kind.NOTE,
}
_EQUALITY: Final = (Operator.EQUALS, Operator.DIFFERS)
_ORDER: Final = (*_EQUALITY, Operator.BELOW, Operator.AT_MOST, Operator.ABOVE, Operator.AT_LEAST)
_OPERATORS: Final[Mapping[_Kind, Sequence[Operator]]] = {
    _Kind.STATE: _EQUALITY,
    _Kind.CODE: _EQUALITY,
    _Kind.TEXT: (*_EQUALITY, Operator.HAS),
    _Kind.NUMBER: _ORDER,
    _Kind.TIME: _ORDER,
    _Kind.NOTE: (Operator.HAS,),
}
_SPACE: Final = re.compile(r"\s*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_METADATA: Final = re.compile(r"metadata\.")
_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(?![.`])")
_JOINER: Final = re.compile(r"(AND|OR)\b")
_NOT: Final = re.compile(r"NOT\b|-")
_OPERATOR: Final = re.compile("|".join(Operator))
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_WORD: Final = re.compile(r'[^\s()"=<>!:][^\s()"]*')
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})", re.ASCII
)


class _Parser:
    """Reads a filter from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._conditions = 0

    def parse(self) -> Expression:
        expression = self._read_parts(depth=0)
        if self._at < len(self._text):
            _refuse(self._at, "expected AND, OR or the end of the filter")
        return expression

    def _read_parts(self, depth: int) -> Expression:
        """Parts joined by AND, or by OR, up to a closing parenthesis or the end."""
        parts, joiner = [self._read_part(depth)], ""
        while self._skip_space() and self._text[self._at] != ")":
            at, word = self._at, self._take(_JOINER)
            if not word:
                _refuse(at, "expected AND, OR or the end of the filter")
            if joiner not in ("", word):
                _refuse(at, "put AND and OR into separate parentheses: `a AND (b OR c)`")
            joiner = word
            parts.append(self._read_part(depth))
        if not joiner:
            return parts[0]
        return All(parts) if joiner == "AND" else AnyOf(parts)

    def _read_part(self, depth: int) -> Expression:
        self._skip_space()
        if depth > DEPTH_MAX:
            _refuse(self._at, f"at most {DEPTH_MAX} parentheses and NOT inside each other")
        if self._take(_NOT):
            return Not(self._read_part(depth + 1))
        if not self._text.startswith("(", self._at):
            return self._read_condition()
        self._at += 1
        expression = self._read_parts(depth + 1)
        if not self._text.startswith(")", self._at):
            _refuse(self._at, "expected AND, OR or a closing parenthesis")
        self._at += 1
        return expression

    def _read_condition(self) -> Condition | MetadataCondition:
        self._conditions += 1
        if self._conditions > CONDITIONS_MAX:
            _refuse(self._at, f"a filter has at most {CONDITIONS_MAX} conditions")
        if self._take(_METADATA):
            return self._read_metadata_condition()
        field, kind = self._read_field()
        self._skip_space()
        at, operators = self._at, _OPERATORS[kind]
        operator = self._take(_OPERATOR)
        if operator not in operators:
            _refuse(at, f"{field} can be compared by {' '.join(operators)}")
        self._skip_space()
        at, text = self._at, self._read_text(kind)
        return Condition(field, Operator(operator), _read(kind, text, at))

    def _read_metadata_condition(self) -> MetadataCondition:
        key = self._read_key()
        self._skip_space()
        operator_at, sign = self._at, self._take(_OPERATOR)
        if not sign:
            _refuse(operator_at, f"metadata can be compared by {' '.join(Operator)}")
        self._skip_space()
        at, quoted = self._at, self._text.startswith('"', self._at)
        text, operator = self._read_text(_Kind.METADATA), Operator(sign)
        try:
            value = read_value(text, operator, quoted=quoted)
        except ValueError as error:
            _refuse(at, str(error))
        if operator not in list_operators(value):
            possible = " ".join(list_operators(value))
            _refuse(operator_at, f"{_name_kind(value)} can be compared by {possible}")
        return MetadataCondition(key, operator, value)

    def _read_key(self) -> str:
        at, quoted = self._at, self._take(_QUOTED)
        key = re.sub(r"\\(.)", r"\1", quoted[1:-1]) if quoted else self._take(_KEY)
        if not key or len(key) > KEY_MAX_CHARS or "\x00" in key:
            _refuse(
                at,
                f"expected a key of 1 to {KEY_MAX_CHARS} letters, digits, _ and -, or any key in"
                ' double quotes: metadata."due date"',
            )
        return key

    def _read_field(self) -> tuple[Field, _Kind]:
        at, name = self._at, self._take(_NAME)
        if name not in list(Field):
            fields = ", ".join((*Field, "metadata.KEY"))
            _refuse(at, f"expected a field: {fields}; or NOT, or a parenthesis")
        field = Field(name)
        return field, _KINDS[field]

    def _read_text(self, kind: _Kind) -> str:
        """A value as it is meant, without its quotes."""
        at, quoted = self._at, self._take(_QUOTED)
        text = re.sub(r"\\(.)", r"\1", quoted[1:-1]) if quoted else self._take(_WORD)
        if not quoted and not text:
            _refuse(at, f'expected {kind}; inside of quotes write \\" and \\\\')
        if "*" in text:
            _refuse(at, "there are no wildcards; compare by : with a part of the text")
        return text

    def _skip_space(self) -> bool:
        """Goes to the next character; False at the end."""
        self._take(_SPACE)
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        """The text that matches here, which is then behind; empty if nothing matches."""
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]


def _name_kind(value: object) -> str:
    return {bool: "true or false", datetime: "a time"}.get(type(value), "a text")


def _read(kind: _Kind, text: str, at: int) -> str | int | datetime:
    """The value that a text stands for."""
    problem = f"expected {kind}"
    match kind:
        case _Kind.STATE if text in list(State):
            return State(text)
        case _Kind.NOTE if text in list(NoteCode):
            return NoteCode(text)
        case _Kind.CODE | _Kind.TEXT if "\x00" not in text:
            return text
        case _Kind.NUMBER if _NUMBER.fullmatch(text) and int(text) in INT64:
            return int(text)
        case _Kind.TIME if _TIME.fullmatch(text):
            try:
                return datetime.fromisoformat(text)
            except ValueError as error:
                problem = f"expected {kind}: {error}"
    return _refuse(at, problem)


def _refuse(at: int, detail: str) -> NoReturn:
    position = at + 1
    raise InvalidInputError(
        "FILTER_INVALID",
        f"the filter is not valid at character {position}",
        fields=[FieldViolation("filter", detail)],
        position=position,
    )
