"""Reads the filter of ListDocuments.

A new field is one entry of `_LANGUAGE`, with one of the kinds of values or a new one.
"""

import re
from datetime import datetime
from typing import Final

from chassis.base.filter_parser import EQUALITY, ORDER, TEXT, Kind, Language, read_text
from chassis.base.filters import Expression, Operator
from ingest.domain import State
from ingest.filters import Field
from ingest.notes import NoteCode

FILTER_MAX_CHARS: Final = 1_000
CONDITIONS_MAX: Final = 32
INT64: Final = range(-(1 << 63), 1 << 63)

_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})", re.ASCII
)


def parse_filter(text: str) -> Expression | None:
    """The expression of a filter; None if it is empty.

    Raises:
        InvalidInputError: FILTER_INVALID, with the position and what is possible there.
    """
    return _LANGUAGE.parse(text)


def _read_state(text: str) -> State | None:
    return State(text) if text in list(State) else None


def _read_note(text: str) -> NoteCode | None:
    return NoteCode(text) if text in list(NoteCode) else None


def _read_number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) and int(text) in INT64 else None


def _read_time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if _TIME.fullmatch(text) else None


_STATE: Final = Kind(f"one of {', '.join(State)}", EQUALITY, _read_state)
_CODE: Final = Kind("a reason such as NO_TEXT", EQUALITY, read_text)
_TEXT: Final = Kind(TEXT, (*EQUALITY, Operator.HAS), read_text)
_SIZE: Final = Kind("a whole number", ORDER, _read_number)
_NOTE: Final = Kind(f"the code of a note: {', '.join(NoteCode)}", (Operator.HAS,), _read_note)
_MOMENT: Final = Kind(
    "a time such as 2026-01-31T12:00:00Z, with at most six decimals", ORDER, _read_time
)
_LANGUAGE: Final = Language(
    fields={
        Field.STATE: _STATE,
        Field.REASON: _CODE,
        Field.TITLE: _TEXT,
        Field.MEDIA_TYPE: _TEXT,
        Field.FILE_NAME: _TEXT,
        Field.SIZE_BYTES: _SIZE,
        Field.CREATE_TIME: _MOMENT,
        Field.UPDATE_TIME: _MOMENT,
        Field.NOTES: _NOTE,
    },
    metadata=[operator for operator in Operator if operator is not Operator.PRESENT],
    chars_max=FILTER_MAX_CHARS,
    conditions_max=CONDITIONS_MAX,
    wildcards="compare by : with a part of the text",
)
