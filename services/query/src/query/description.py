"""The description of a document version: title, metadata and time; and what else points know."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from aquifer.structs import JsonObject, JsonValue
from chassis.base.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Title and metadata of a version; the one with the highest revision is valid.

    `created_at` is when the version was accepted; None if it was described before this was told.
    `superseded_at` is when another version became live instead, None if none did; then `live_at` is
    when this one became live, None if that is not known.
    """

    title: str = ""
    metadata: JsonObject = field(default_factory=dict)
    revision: int = 0
    created_at: datetime | None = None
    live_at: datetime | None = None
    superseded_at: datetime | None = None

    def __post_init__(self) -> None:
        for value in _flatten([self.title, self.metadata]):
            if isinstance(value, str) and "\x00" in value:
                raise InvalidInputError("TEXT_NUL", "text contains the character NUL; remove it")
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidInputError("METADATA_RANGE", "a number of the metadata is not finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What is said of a document: its labels, and the descriptions of versions by number."""

    labels: tuple[str, ...] = ()
    descriptions: Mapping[int, Description] = field(default_factory=dict)


def _flatten(value: JsonValue) -> Iterator[JsonValue]:
    """Every text, number and boolean of a JSON value, keys included."""
    match value:
        case Mapping():
            yield from value
            yield from _flatten(list(value.values()))
        case list():
            for one in value:
                yield from _flatten(one)
        case _:
            yield value
