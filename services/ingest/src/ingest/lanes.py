"""Lanes: whether someone waits for a document, or it is one of many."""

from enum import StrEnum
from typing import Final

from aquifer.ingest.v1 import document_pb2 as pb

# Unfinished interactive documents of a tenant; further ones are bulk.
INTERACTIVE_MAX: Final = 64
# Batches of chunks of a version that is embedded as interactive.
INTERACTIVE_BATCHES_MAX: Final = 4


class Lane(StrEnum):
    """The lane of a document, named as in the contract without its prefix."""

    INTERACTIVE = "INTERACTIVE"
    BULK = "BULK"

    @property
    def number(self) -> "pb.Lane.ValueType":
        """Its number in the contract."""
        return pb.LANE_BULK if self is Lane.BULK else pb.LANE_INTERACTIVE


def share_of(tenant: str, lane: Lane) -> str:
    """Whom work is counted for: the interactive documents of a tenant have their own share."""
    return f"{tenant}/interactive" if lane is Lane.INTERACTIVE else tenant


def choose_embedding_lane(lane: Lane, batches: int) -> Lane:
    """The lane in which a version with so many batches is embedded."""
    return lane if batches <= INTERACTIVE_BATCHES_MAX else Lane.BULK


def read_lane(number: int) -> Lane:
    """The lane that an upload asks for; a number of a later contract is interactive."""
    return Lane.BULK if number == pb.LANE_BULK else Lane.INTERACTIVE
