"""Embedding profiles, and the ids of points."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

# The name of the first profile; ids of stored points were derived from it.
POINT_NAME: Final = "minilm-l6-v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An embedding profile; vectors of one profile are comparable."""

    name: str
    dimensions: int


def make_point_id(chunk_id: UUID) -> UUID:
    """The id of a chunk's points: the same in the store of every profile."""
    return uuid5(chunk_id, POINT_NAME)
