"""Reads the filter of Search and Ask.

A new field is one entry of `_LANGUAGE`, one case in `query.filters.points` and one in
`query.store.filters`.
"""

import re
from enum import StrEnum
from typing import Final

from aquifer.labels import find_problem
from chassis.base.errors import InvalidInputError
from chassis.base.filter_parser import EQUALITY, ORDER, TEXT, Kind, Language, read_text
from chassis.base.filter_values import read_time
from chassis.base.filters import Expression, Operator
from query.domain import VERSION_MAX
from query.names import check_collection, check_collection_id, collection_of

FILTER_MAX_CHARS: Final = 4_000
CONDITIONS_MAX: Final = 64

_VERSION: Final = re.compile("[0-9]{1,19}")


class Field(StrEnum):
    """What can be compared beside metadata, named as in the contract.

    The values of COLLECTION and DOCUMENT are resource names; that of DOCUMENT may be an id.
    """

    COLLECTION = "collection"
    DOCUMENT = "document"
    VERSION = "version"
    LABELS = "labels"
    TITLE = "title"
    CREATE_TIME = "create_time"


def parse_filter(text: str) -> Expression | None:
    """The expression of a filter; None if it is empty.

    Raises:
        InvalidInputError: FILTER_INVALID, with the position and what is possible there.
    """
    return _LANGUAGE.parse(text)


def _read_collection(text: str) -> str | None:
    name = text if "/" in text else f"collections/{text}"
    try:
        check_collection(name)
    except InvalidInputError:
        return None
    return name


def _read_document(text: str) -> str | None:
    try:
        if "/" in text:
            collection_of(text)
        else:  # ids of documents and of collections have the same form
            check_collection_id(text)
    except InvalidInputError:
        return None
    return text or None


def _read_version(text: str) -> int | None:
    return int(text) if _VERSION.fullmatch(text) and int(text) <= VERSION_MAX else None


def _read_label(text: str) -> str | None:
    if problem := find_problem([text], 1):
        raise ValueError(problem)
    return text


_LANGUAGE: Final = Language(
    fields={
        Field.COLLECTION: Kind("the id or the name of a collection", EQUALITY, _read_collection),
        Field.DOCUMENT: Kind("the id or the name of a document", EQUALITY, _read_document),
        Field.VERSION: Kind("a whole number", ORDER, _read_version),
        Field.LABELS: Kind("a label", (Operator.HAS, Operator.PRESENT), _read_label),
        Field.TITLE: Kind(TEXT, (*EQUALITY, Operator.PRESENT), read_text),
        Field.CREATE_TIME: Kind(
            "a time such as 2026-01-31T12:00:00Z, with at most six decimals", ORDER, read_time
        ),
    },
    metadata=list(Operator),
    chars_max=FILTER_MAX_CHARS,
    conditions_max=CONDITIONS_MAX,
    wildcards="`field:*` asks whether there is a value",
)
