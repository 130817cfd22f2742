"""Reads a filter, a subset of AIP-160, over the fields that a service offers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn

from chassis.base.errors import FieldViolation, InvalidInputError
from chassis.base.filter_values import list_operators, name_kind, read_value
from chassis.base.filters import (
    All,
    AnyOf,
    Condition,
    Expression,
    MetadataCondition,
    Not,
    Operator,
)

DEPTH_MAX: Final = 8
# Of a key of metadata.
KEY_MAX_CHARS: Final = 64

EQUALITY: Final = (Operator.EQUALS, Operator.DIFFERS)
ORDER: Final = (*EQUALITY, Operator.BELOW, Operator.AT_MOST, Operator.ABOVE, Operator.AT_LEAST)
TEXT: Final = "a word, or a text in double quotes"

_METADATA_VALUE: Final = f"true, false, a number, a time, {TEXT}"
_SPACE: Final = re.compile(r"\s*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_METADATA: Final = re.compile(r"metadata\.")
_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(?![.`])")
_JOINER: Final = re.compile(r"(AND|OR)\b")
_NOT: Final = re.compile(r"NOT\b|-")
_OPERATOR: Final = re.compile("|".join(map(re.escape, Operator)))
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_METADATA_FIELD: Final = re.compile(r"metadata\.([A-Za-z0-9_-]+|\"(?:[^\"\\]|\\[\"\\])*\")")
_WORD: Final = re.compile(r'[^\s()"=<>!:][^\s()"]*')


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of values: how one is written, how it is compared, and how it is read.

    `read` returns the value that a text stands for, None if it is of another kind. It raises
    ValueError to say more.
    """

    written: str
    operators: Sequence[Operator]
    read: Callable[[str], str | int | datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """The filters of a method: their fields, and how long and how many conditions they may be.

    `metadata` are the operators for values of metadata. `wildcards` says what to do instead.
    """

    fields: Mapping[str, Kind]
    metadata: Sequence[Operator]
    chars_max: int
    conditions_max: int
    wildcards: str

    def parse(self, text: str) -> Expression | None:
        """The expression of a filter; None if it is empty.

        Raises:
            InvalidInputError: FILTER_INVALID, with the position and what is possible there.
        """
        if not text.strip():
            return None
        if len(text) > self.chars_max:
            _refuse(self.chars_max, f"a filter has at most {self.chars_max} characters")
        return _Parser(self, text).parse()


def read_text(text: str) -> str | None:
    """Any text without NUL, as it is."""
    return None if "\x00" in text else text


class _Parser:
    """Reads a filter from left to right."""

    def __init__(self, language: Language, text: str) -> None:
        self._language = language
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
        if self._conditions > self._language.conditions_max:
            _refuse(self._at, f"a filter has at most {self._language.conditions_max} conditions")
        if self._take(_METADATA):
            return self._read_metadata_condition()
        field, kind = self._read_field()
        operator = self._read_operator(field, kind.operators)
        if operator is Operator.PRESENT:
            return Condition(field, operator, "")
        self._skip_space()
        at, text = self._at, self._read_text(kind.written)
        problem = f"expected {kind.written}"
        try:
            value = kind.read(text)
        except ValueError as error:
            _refuse(at, f"{problem}: {error}")
        if value is None:
            _refuse(at, problem)
        return Condition(field, operator, value)

    def _read_metadata_condition(self) -> MetadataCondition:
        key = self._read_key()
        self._skip_space()
        operator_at = self._at
        operator = self._read_operator("metadata", self._language.metadata)
        if operator is Operator.PRESENT:
            return MetadataCondition(key, operator, "")
        self._skip_space()
        at, quoted = self._at, self._text.startswith('"', self._at)
        text = self._read_text(_METADATA_VALUE)
        try:
            value = read_value(text, operator, quoted=quoted)
        except ValueError as error:
            _refuse(at, str(error))
        if operator not in list_operators(value):
            possible = " ".join(list_operators(value))
            _refuse(operator_at, f"{name_kind(value)} can be compared by {possible}")
        return MetadataCondition(key, operator, value)

    def _read_operator(self, field: str, operators: Sequence[Operator]) -> Operator:
        self._skip_space()
        at, sign = self._at, self._take(_OPERATOR)
        if sign == Operator.PRESENT and sign not in operators and Operator.HAS in operators:
            _refuse(at + 1, f"there are no wildcards; {self._language.wildcards}")
        if sign not in operators:
            _refuse(at, f"{field} can be compared by {' '.join(operators)}")
        return Operator(sign)

    def _read_key(self) -> str:
        at, quoted = self._at, self._take(_QUOTED)
        key = _unquote(quoted) if quoted else self._take(_KEY)
        if not _is_key(key):
            _refuse(
                at,
                f"expected a key of 1 to {KEY_MAX_CHARS} letters, digits, _ and -, or any key in"
                ' double quotes: metadata."due date"',
            )
        return key

    def _read_field(self) -> tuple[str, Kind]:
        at, name = self._at, self._take(_NAME)
        if name not in self._language.fields:
            fields = ", ".join((*self._language.fields, "metadata.KEY"))
            _refuse(at, f"expected a field: {fields}; or NOT, or a parenthesis")
        return name, self._language.fields[name]

    def _read_text(self, written: str) -> str:
        """A value as it is meant, without its quotes."""
        at, quoted = self._at, self._take(_QUOTED)
        text = _unquote(quoted) if quoted else self._take(_WORD)
        if not quoted and not text:
            _refuse(at, f'expected {written}; inside of quotes write \\" and \\\\')
        if "*" in text:
            _refuse(at, f"there are no wildcards; {self._language.wildcards}")
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


def read_metadata_field(text: str) -> str | None:
    """The key in `metadata.KEY` or `metadata."any key"`; None if a text is something else."""
    found = _METADATA_FIELD.fullmatch(text)
    if found is None:
        return None
    key = _unquote(found[1]) if found[1].startswith('"') else found[1]
    return key if _is_key(key) else None


def _unquote(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted[1:-1])


def _is_key(key: str) -> bool:
    return 0 < len(key) <= KEY_MAX_CHARS and "\x00" not in key


def _refuse(at: int, detail: str) -> NoReturn:
    position = at + 1
    raise InvalidInputError(
        "FILTER_INVALID",
        f"the filter is not valid at character {position}",
        fields=[FieldViolation("filter", detail)],
        position=position,
    )
